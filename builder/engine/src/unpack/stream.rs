//! Tar entries from a stream: POSIX ustar with pax headers, and GNU's long names.
//!
//! Only the fields' encoding is left to the `tar` crate. Its reader allocates as much for a long name as the header
//! declares, takes a cut between two entries for the end, and resolves a size that is declared twice.

use std::borrow::Cow;
use std::io::{self, Read};

use tar::{EntryType, Header};

/// The longest extended header: two paths of 4096 bytes and their keys fit many times.
const EXTENDED: u64 = 64 * 1024;
const BLOCK: usize = 512;

/// One entry's header.
#[derive(Debug)]
pub(super) struct Entry {
    /// The path as spelled.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// The content's length; 0 for all but files.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    pub(super) executable: bool,
}

/// What an entry is.
#[derive(Debug)]
pub(super) enum Kind {
    File,
    Directory,
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// A hard link and its target.
    HardLink(Vec<u8>),
    /// By its name, for an error.
    Special(&'static str),
}

/// Why the stream ended badly.
#[derive(Debug)]
pub(super) enum Problem {
    /// The stream itself failed.
    Read(io::Error),
    /// The stream ends inside this.
    Truncated(&'static str),
    /// The header at this offset is malformed.
    Header(u64, &'static str),
}

/// A tar archive that is being read.
#[derive(Debug)]
pub(super) struct Stream<R> {
    inner: R,
    offset: u64,
    /// Content of the current entry that was not read yet, and the padding after it.
    content: u64,
    padding: u64,
}

/// What extended headers say about the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    mtime: Option<i64>,
    size: Option<u64>,
    sparse: bool,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, offset: 0, content: 0, padding: 0 }
    }

    /// The next entry's header, or `None` at the end marker. What was not read of the entry before is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Problem> {
        let mut extended = Extended::default();
        let mut pending = false;
        loop {
            self.skip()?;
            let at = self.offset;
            let bad = |problem| Problem::Header(at, problem);
            let mut block = [0; BLOCK];
            self.exactly(&mut block, "a header")?;
            if block == [0; BLOCK] {
                return if pending {
                    Err(bad("an extended header is followed by nothing"))
                } else {
                    Ok(None)
                };
            }
            let header = Header::from_byte_slice(&block);
            if header.cksum().ok() != Some(checksum(&block)) {
                return Err(bad("the header's checksum does not match"));
            }
            let size = header.entry_size().map_err(|_| bad("the size is not a number"))?;
            // Nothing real comes near; it keeps every sum below from overflowing.
            if size > 1 << 60 {
                return Err(bad("the size is absurd"));
            }
            self.content = size;
            self.padding = size.wrapping_neg() % BLOCK as u64;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => extended.path = Some(self.long_name(at)?),
                EntryType::GNULongLink => extended.link = Some(self.long_name(at)?),
                EntryType::XHeader => extended.records(&self.extension(at)?).map_err(bad)?,
                EntryType::XGlobalHeader => {
                    let mut global = Extended::default();
                    global.records(&self.extension(at)?).map_err(bad)?;
                    // git-archive writes a comment here; a path for all entries can only be an attack.
                    if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                        return Err(bad("a global header names a path, a link or a size"));
                    }
                    continue;
                }
                _ => return extended.entry(header, size).map(Some).map_err(bad),
            }
            pending = true;
        }
    }

    /// Content of the current entry; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        // Filled to the brim, so that a file of any size is written in few calls.
        while filled < most {
            match self.inner.read(&mut buffer[filled..most]) {
                Ok(0) => return Err(Problem::Truncated("an entry's content")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Problem::Read(e)),
            }
        }
        self.content -= filled as u64;
        self.offset += filled as u64;
        Ok(filled)
    }

    /// What follows the end marker: reading it to its end is what checks a compressor's own checksum.
    pub(super) fn into_rest(self) -> R {
        self.inner
    }

    fn skip(&mut self) -> Result<(), Problem> {
        let mut waste = [0; BLOCK];
        while self.read(&mut waste)? > 0 {}
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.exactly(&mut waste[..padding], "an entry's padding")
    }

    fn exactly(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<(), Problem> {
        self.offset += buffer.len() as u64;
        self.inner.read_exact(buffer).map_err(|e| match e.kind() {
            // A decoder's own truncation has a text; the bare kind is read_exact's.
            io::ErrorKind::UnexpectedEof => Problem::Truncated(inside),
            _ => Problem::Read(e),
        })
    }

    fn extension(&mut self, at: u64) -> Result<Vec<u8>, Problem> {
        if self.content > EXTENDED {
            return Err(Problem::Header(at, "an extended header is larger than 64 KiB"));
        }
        let mut bytes = vec![0; usize::try_from(self.content).unwrap_or(0)];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self, at: u64) -> Result<Vec<u8>, Problem> {
        let mut name = self.extension(at)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

impl Extended {
    /// pax records, each `LENGTH KEY=VALUE\n`.
    fn records(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "a malformed pax record";
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or(BAD)?;
            let length: usize = number(&bytes[..space]).ok_or(BAD)?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or(BAD)?),
                b"mtime" => {
                    let whole = value.split(|b| *b == b'.').next().unwrap_or_default();
                    self.mtime = Some(number(whole).ok_or(BAD)?);
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn entry(self, header: &Header, size: u64) -> Result<Entry, &'static str> {
        // A reader that believed the other number would see other entries than this one.
        if self.size.is_some_and(|declared| declared != size) {
            return Err("two different sizes are declared");
        }
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || self.link.or_else(|| header.link_name_bytes().map(Cow::into_owned)).unwrap_or_default();
        let kind = match header.entry_type() {
            _ if self.sparse => Kind::Special("sparse file"),
            // As before POSIX, when there was no type for directories.
            EntryType::Regular if size == 0 && path.last() == Some(&b'/') => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Link(link()),
            EntryType::Link => Kind::HardLink(link()),
            EntryType::Char | EntryType::Block => Kind::Special("device"),
            EntryType::Fifo => Kind::Special("fifo"),
            EntryType::GNUSparse => Kind::Special("sparse file"),
            _ => Kind::Special("entry of an unknown type"),
        };
        if size != 0 && matches!(kind, Kind::Directory | Kind::Link(_) | Kind::HardLink(_)) {
            return Err("a directory or link has content");
        }
        let mode = header.mode().map_err(|_| "the mode is not a number")?;
        // A time before 1970 has an encoding of its own; nothing here depends on it.
        let mtime = header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
        Ok(Entry {
            path,
            kind,
            size,
            mtime: self.mtime.unwrap_or(mtime).max(0),
            executable: mode & 0o111 != 0,
        })
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The sum of a header's bytes, with its own field taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}
