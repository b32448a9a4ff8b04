//! A line of JSON for every request, in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::entries::Line;

/// The most lines that wait for the disk. Further lines are lost, because no request may wait.
const WAITING: usize = 16 * 1024;
/// How often to check whether the file was renamed, so that a new one must be started.
const LOOK: Duration = Duration::from_secs(1);

/// An access log. A clone writes to the same file.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: SyncSender<Vec<u8>>,
}

impl AccessLog {
    /// Appends to a file, and makes it if it is missing. If it is renamed, starts a new one at its path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = LogFile::open(path)?;
        let (lines, waiting) = sync_channel(WAITING);
        thread::Builder::new().name("access log".to_owned()).spawn(move || write_on(file, &waiting))?;
        Ok(Self { lines })
    }

    /// Queues a line; returns how many lines were lost: 0, or 1 for this one.
    pub(crate) fn write(&self, line: &Line<'_>) -> u64 {
        // A line has only numbers and texts, so this cannot fail.
        let Ok(mut text) = serde_json::to_vec(line) else { return 1 };
        text.push(b'\n');
        match self.lines.try_send(text) {
            Ok(()) => 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => 1,
        }
    }
}

/// Writes lines until every sender is gone.
fn write_on(mut place: LogFile, lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        place.follow();
        let mut written = place.file.write_all(&line);
        for line in lines.try_iter().take(WAITING) {
            written = written.and_then(|()| place.file.write_all(&line));
        }
        if let Err(error) = written.and_then(|()| place.file.flush()) {
            tracing::error!(%error, path = %place.path.display(), "the access log could not be written");
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
    inode: u64,
    looked: Instant,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), inode, looked: Instant::now() })
    }

    /// Starts a new file if the old one was renamed or removed. If no file can be opened, keeps writing to the old one.
    fn follow(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if self.path.metadata().is_ok_and(|found| found.ino() == self.inode) {
            return;
        }
        match Self::open(&self.path) {
            Ok(place) => *self = place,
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "a new access log could not be opened");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use super::*;

    fn line(status: u16) -> Line<'static> {
        Line {
            time: "1970-01-01T00:00:00.000Z".to_owned(),
            client: Ipv4Addr::LOCALHOST.into(),
            account: None,
            method: "GET",
            route: "manifest",
            repository: Some("a\"b"),
            reference: None,
            digest: None,
            status,
            received: 0,
            sent: 1,
            whole: true,
            seconds: 0.5,
            cache: None,
            agent: None,
        }
    }

    fn wait_for(path: &Path, lines: usize) -> Vec<serde_json::Value> {
        for _ in 0..500 {
            let text = fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() == lines {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{lines} lines never came");
    }

    #[test]
    fn every_line_is_a_document_and_a_renamed_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::open(&path).unwrap();
        assert_eq!(log.write(&line(200)), 0);
        let first = &wait_for(&path, 1)[0];
        assert_eq!(first["repository"], "a\"b");
        assert_eq!(first["time"], "1970-01-01T00:00:00.000Z");
        fs::rename(&path, &old).unwrap();
        thread::sleep(LOOK);
        assert_eq!(log.write(&line(404)), 0);
        assert_eq!(wait_for(&path, 1)[0]["status"], 404);
        assert_eq!(wait_for(&old, 1).len(), 1);
    }
}
