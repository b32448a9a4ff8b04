//! The memory of a program that waits for an answer, and the words that it would start another one with.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// The longest path, and a part of memory that is there whole or not at all.
const PATH: usize = 4096;
const PAGE: usize = 4096;
/// How many words are looked at, and how much of a response file. What is longer was made by a program.
const MOST_WORDS: usize = 16_384;
const MOST_RESPONSE: u64 = 1 << 20;
/// Addresses that are read at a time.
const TOGETHER: usize = 128;

/// Another process's memory, to read.
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn new(file: OwnedFd) -> Self {
        Self(file.into())
    }

    /// The path at `address`, without its last zero.
    pub(crate) fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut path = Vec::new();
        // By pages, since the next one need not be there.
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

    /// The addresses in a list that ends with a zero: the first ones.
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

    /// As much of the word at `address` as goes into `buffer`; whether that is all.
    fn word<'b>(&self, address: u64, buffer: &'b mut [u8]) -> Result<(&'b [u8], bool), Errno> {
        let got = self.0.read_at(buffer, address).map_err(|_| Errno::FAULT)?;
        let read = &buffer[..got];
        Ok(match read.iter().position(|byte| *byte == 0) {
            Some(end) => (&read[..end], true),
            None => (read, false),
        })
    }
}

/// Words that no program is started with.
pub(crate) struct Words {
    words: Vec<String>,
    longest: usize,
}

impl Words {
    pub(crate) fn new(words: &[String]) -> Self {
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Self { words: words.to_owned(), longest }
    }

    /// The first of them in the list of words at `address`, or in a file that such a word names as `@FILE`.
    pub(crate) fn find(
        &self,
        memory: &Memory,
        address: u64,
        open: &dyn Fn(&[u8]) -> Result<File, Errno>,
    ) -> Result<Option<&str>, Errno> {
        if address == 0 {
            return Ok(None);
        }
        let mut buffer = vec![0; self.longest + 1];
        for address in memory.addresses(address)? {
            let (word, whole) = memory.word(address, &mut buffer)?;
            if whole && let Some(found) = self.is_one(word) {
                return Ok(Some(found));
            }
            if word.first() == Some(&b'@') {
                let path = memory.path(address + 1)?;
                // Where there is no such file the program takes the word itself.
                if let Some(found) = open(&path).ok().and_then(|file| self.in_file(&file)) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn is_one(&self, word: &[u8]) -> Option<&str> {
        self.words.iter().find(|refused| refused.as_bytes() == word).map(String::as_str)
    }

    /// In a response file words stand between blanks, and may be quoted.
    fn in_file(&self, file: &File) -> Option<&str> {
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MOST_RESPONSE).read_to_end(&mut bytes).ok()?;
        let words = bytes.split(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\''));
        words.into_iter().find_map(|word| self.is_one(word))
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

    fn find(words: &[&str], open: &dyn Fn(&[u8]) -> Result<File, Errno>) -> Option<String> {
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
        assert_eq!(find(&["cc", "-march=nativer", "-march=nativ", "CFLAGS=-march=native", ""], &none), None);
        let many = vec!["-x"; 1000];
        let many = [many.as_slice(), &["target-cpu=native"]].concat();
        assert_eq!(find(&many, &none).as_deref(), Some("target-cpu=native"));
        assert_eq!(find(&[], &none), None);
    }

    #[test]
    fn a_response_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("flags"), "-O2\n\"-march=native\" -c").unwrap();
        std::fs::write(folder.path().join("others"), "-march=natives").unwrap();
        let open = |name: &[u8]| {
            let name = str::from_utf8(name).unwrap();
            File::open(folder.path().join(name)).map_err(|_| Errno::NOENT)
        };
        assert_eq!(find(&["cc", "@flags"], &open).as_deref(), Some("-march=native"));
        assert_eq!(find(&["cc", "@others", "@none"], &open), None);
    }
}
