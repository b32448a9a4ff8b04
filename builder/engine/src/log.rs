//! The log of a script.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use hab_oci::shown;

use crate::BuildError;
use crate::cause::Met;

/// How many of the last lines are shown when a script fails.
const TAIL: usize = 25;
/// How many lines before the end a cause may stand, because other jobs print on after it.
const NEAR: u64 = 200;
/// The most bytes of a line that are shown.
const LINE: usize = 300;

/// Writes a script's output to a file, passes it on line by line, and keeps the last lines for an error.
pub(crate) struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    /// The first write that failed; the build fails with it when the script has ended.
    failed: Option<std::io::Error>,
    line: Vec<u8>,
    tail: VecDeque<String>,
    /// The last cause that a line named, with the number of the line.
    met: Option<(u64, Met)>,
    lines: u64,
}

impl Log {
    pub(crate) fn create(path: &Path) -> Result<Self, BuildError> {
        let file = File::create(path).map_err(BuildError::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            failed: None,
            line: Vec::new(),
            tail: VecDeque::new(),
            met: None,
            lines: 0,
        })
    }

    pub(crate) fn add(&mut self, bytes: &[u8], show: &mut dyn FnMut(&str)) {
        if let Err(e) = self.file.write_all(bytes) {
            self.failed.get_or_insert(e);
        }
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line(show);
            } else if self.line.len() < LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, show: &mut dyn FnMut(&str)) {
        // Invisible characters are escaped and not left out, because without them the line would read differently. Tabs
        // become spaces.
        let line = String::from_utf8_lossy(&self.line).replace('\t', "    ");
        let text = shown(&line).at_most(LINE).to_string();
        self.line.clear();
        show(&text);
        self.lines += 1;
        self.met = Met::in_line(&text).map(|met| (self.lines, met)).or(self.met);
        self.tail.push_back(text);
        if self.tail.len() > TAIL {
            self.tail.pop_front();
        }
    }

    /// Ends the log. Returns the last lines, and the cause near the end that explains a failure.
    pub(crate) fn finish(mut self) -> Result<(String, Option<Met>), BuildError> {
        if !self.line.is_empty() {
            self.end_line(&mut |_| {});
        }
        if let Some(e) = self.failed.take() {
            return Err(BuildError::Io { path: self.path, source: e });
        }
        self.file.flush().map_err(BuildError::io(&self.path))?;
        let tail: Vec<_> = self.tail.iter().map(|line| format!("    {line}")).collect();
        let near = self.met.filter(|(line, _)| self.lines - line < NEAR);
        Ok((tail.join("\n"), near.map(|(_, met)| met)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_lines_of_a_script_cannot_paint_another_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("log")).unwrap();
        let mut seen = Vec::new();
        let bytes = "a\rb\n\u{1b}[2K\u{1b}[1A built\n\u{202e}reversed\n\tindented\n".as_bytes();
        log.add(bytes, &mut |line| seen.push(line.to_owned()));
        log.add(&vec![b'x'; 3_000_000], &mut |_| {});
        let expected = [r"a\rb", r"\u{1b}[2K\u{1b}[1A built", r"\u{202e}reversed", "    indented"];
        assert_eq!(seen, expected);
        let (tail, _) = log.finish().unwrap();
        assert!(tail.lines().all(|line| line.starts_with("    ") && line.len() < 400), "{tail}");
        assert_eq!(std::fs::read(folder.path().join("log")).unwrap().len(), bytes.len() + 3_000_000);
    }
}
