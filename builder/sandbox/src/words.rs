//! Reads the memory of a process that waits for an answer, and finds refused words in its call to start a program.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The longest path, and the size of a page, which is mapped whole or not at all.
const PATH: usize = 4096;
const PAGE: usize = 4096;
/// Limits of the search: words, response files, how deep one may name another, and bytes of all of them. A longer list
/// of words was made by a program.
const MOST_WORDS: usize = 16_384;
const MOST_FILES: usize = 64;
const DEEPEST: usize = 8;
const MOST_RESPONSE: u64 = 1 << 20;
/// Programs that pass the words they were given on to others, whose own calls are checked, and programs that search for
/// words or print them.
const EXEMPT: [&str; 28] = [
    "[", "awk", "bash", "cmake", "cmp", "dash", "diff", "echo", "egrep", "env", "expr", "fgrep", "find",
    "gawk", "grep", "make", "mawk", "nice", "ninja", "printf", "rg", "sed", "sh", "test", "time", "timeout",
    "tr", "xargs",
];
/// How many addresses are read at a time.
const TOGETHER: usize = 128;

/// The beginning of a line in a run's output that names a refused program.
pub const NOT_STARTED: &str = "hab-sandbox: not started: ";

/// A program that was not started, because it was called with one of [`crate::Spec::refused`]. Its `Display` is safe to
/// print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The program's path as the caller gave it, cut at 200 bytes.
    pub program: String,
    /// The refused word.
    pub word: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.escape_debug(), self.word)
    }
}

/// Another process's memory, for reading.
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn new(file: OwnedFd) -> Self {
        Self(file.into())
    }

    /// The path at `address`, without the zero byte at its end.
    pub(crate) fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut path = Vec::new();
        // Read by pages, because the next page may not be mapped.
        while path.len() < PATH {
            let at = address.saturating_add(path.len() as u64);
            let mut page = vec![0; PAGE - usize::try_from(at).unwrap_or(0) % PAGE];
            self.0.read_exact_at(&mut page, at).map_err(|_| Errno::FAULT)?;
            if let Some(end) = page.iter().position(|byte| *byte == 0) {
                path.extend_from_slice(&page[..end]);
                return Ok(path);
            }
            path.append(&mut page);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// The first addresses in a list that ends with a zero.
    fn addresses(&self, mut at: u64) -> Result<Vec<u64>, Errno> {
        let mut all = Vec::new();
        let mut bytes = [0; 8 * TOGETHER];
        while all.len() < MOST_WORDS {
            let got = self.0.read_at(&mut bytes, at).map_err(|_| Errno::FAULT)?;
            let (words, _) = bytes[..got].as_chunks::<8>();
            if words.is_empty() {
                return Err(Errno::FAULT);
            }
            for word in words {
                match u64::from_ne_bytes(*word) {
                    0 => return Ok(all),
                    address => all.push(address),
                }
            }
            at += 8 * words.len() as u64;
        }
        Ok(all)
    }

    /// As much of the word at `address` as fits into `buffer`.
    fn word<'b>(&self, address: u64, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let got = self.0.read_at(buffer, address).map_err(|_| Errno::FAULT)?;
        let end = buffer[..got].iter().position(|byte| *byte == 0).unwrap_or(got);
        Ok(&buffer[..end])
    }
}

/// The words with which no program may be started.
pub(crate) struct Words {
    words: Vec<String>,
    longest: usize,
}

/// Opens a response file, by the path in a word.
pub(crate) type Open<'a> = &'a dyn Fn(&[u8]) -> Result<File, Errno>;

impl Words {
    pub(crate) fn new(words: &[String]) -> Self {
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Self { words: words.to_owned(), longest }
    }

    /// Whether the program at this path may be called with any word.
    pub(crate) fn exempts(path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        EXEMPT.iter().any(|exempt| exempt.as_bytes() == name)
    }

    /// The first refused word in the list of words at `address`, or in a file that such a word names as `@FILE`.
    pub(crate) fn find(&self, memory: &Memory, address: u64, open: Open<'_>) -> Result<Option<&str>, Errno> {
        if address == 0 {
            return Ok(None);
        }
        // One byte more than the longest refused word shows whether a `+` or a longer word follows.
        let mut buffer = vec![0; self.longest + 1];
        let mut files = Files { open, left: MOST_RESPONSE, count: MOST_FILES };
        for address in memory.addresses(address)? {
            let word = memory.word(address, &mut buffer)?;
            if let Some(found) = self.is_one(word) {
                return Ok(Some(found));
            }
            if word.first() == Some(&b'@') {
                let path = memory.path(address + 1)?;
                if let Some(found) = self.in_file(&mut files, &path, DEEPEST) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The refused word that `word` is, whole or followed by `+`, after which compilers take further properties.
    fn is_one(&self, word: &[u8]) -> Option<&str> {
        let is = |refused: &&String| {
            word.strip_prefix(refused.as_bytes())
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
        };
        self.words.iter().find(is).map(String::as_str)
    }

    fn in_file(&self, files: &mut Files<'_>, path: &[u8], deep: usize) -> Option<&str> {
        for word in files.words(path)? {
            if let Some(found) = self.is_one(&word) {
                return Some(found);
            }
            if let Some(path) = word.strip_prefix(b"@")
                && deep > 0
                && let Some(found) = self.in_file(files, path, deep - 1)
            {
                return Some(found);
            }
        }
        None
    }
}

/// Reads response files, up to the limits.
struct Files<'a> {
    open: Open<'a>,
    left: u64,
    count: usize,
}

impl Files<'_> {
    /// The words of a file, split at blanks and without quotes. `None` if there is no such file; then the program uses
    /// the word itself.
    fn words(&mut self, path: &[u8]) -> Option<Vec<Vec<u8>>> {
        self.count = self.count.checked_sub(1)?;
        let file = (self.open)(path).ok()?;
        let mut bytes = Vec::new();
        self.left -= file.take(self.left).read_to_end(&mut bytes).ok()? as u64;
        let words = bytes
            .split(u8::is_ascii_whitespace)
            .map(|word| word.iter().copied().filter(|byte| !matches!(byte, b'"' | b'\'' | b'\\')).collect());
        Some(words.collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::CString;

    use super::*;

    fn own() -> Memory {
        Memory::new(File::open("/proc/self/mem").unwrap().into())
    }

    fn find(words: &[&str], open: Open<'_>) -> Option<String> {
        let words: Vec<_> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
        let mut list: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        list.push(std::ptr::null());
        let refused = Words::new(&["-march=native".to_owned(), "target-cpu=native".to_owned()]);
        let address = list.as_ptr().expose_provenance() as u64;
        refused.find(&own(), address, open).unwrap().map(str::to_owned)
    }

    #[test]
    fn a_word_is_found_whole_and_wherever_it_stands() {
        let none = |_: &[u8]| Err(Errno::NOENT);
        assert_eq!(find(&["cc", "-O2", "-march=native", "x.c"], &none).as_deref(), Some("-march=native"));
        assert_eq!(find(&["cc", "-march=native+crypto"], &none).as_deref(), Some("-march=native"));
        assert_eq!(find(&["cc", "-march=nativer", "-march=nativ", "CFLAGS=-march=native", ""], &none), None);
        let many = vec!["-x"; 1000];
        let many = [many.as_slice(), &["target-cpu=native"]].concat();
        assert_eq!(find(&many, &none).as_deref(), Some("target-cpu=native"));
        assert_eq!(find(&[], &none), None);
    }

    #[test]
    fn programs_that_pass_words_on_or_look_for_them_are_exempt() {
        for (path, exempt) in
            [("/usr/bin/grep", true), ("sh", true), ("/usr/bin/gcc", false), ("/bin/shc", false)]
        {
            assert_eq!(Words::exempts(path.as_bytes()), exempt, "{path}");
        }
    }

    #[test]
    fn a_response_file_is_read_and_those_in_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("flags"), "-O2\n\"-march=native\" -c").unwrap();
        std::fs::write(folder.path().join("others"), "-march=natives").unwrap();
        let open = |name: &[u8]| {
            let name = str::from_utf8(name).unwrap();
            File::open(folder.path().join(name)).map_err(|_| Errno::NOENT)
        };
        assert_eq!(find(&["cc", "@flags"], &open).as_deref(), Some("-march=native"));
        for (name, text) in
            [("outer", "-g @flags"), ("escaped", "-march\\=native"), ("itself", "@itself @itself")]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(find(&["cc", "@outer"], &open).as_deref(), Some("-march=native"));
        assert_eq!(find(&["cc", "@escaped"], &open).as_deref(), Some("-march=native"));
        assert_eq!(find(&["cc", "@itself"], &open), None);
        assert_eq!(find(&["cc", "@others", "@none"], &open), None);
    }
}
