//! Reads tar entries from a stream.

mod entry;
mod extended;
mod header;

use std::io::{self, Read};

pub use entry::{Entry, Kind};

use crate::{Error, Exceeded, Limits, Measure, Problem, Source, shown};
use entry::Outline;
use extended::Extended;
use header::{BLOCK, Header};

/// Reads a tar archive entry by entry.
///
/// After an error nothing more can be read; what was returned before it is what the archive says.
#[derive(Debug)]
pub struct Tar<S> {
    source: S,
    limits: Limits,
    offset: u64,
    /// Bytes of the current entry's content that were not read yet; then the length of its padding.
    content: u64,
    padding: u64,
    /// The current entry, for errors: the offset of its header, and its name.
    current: Option<(u64, String)>,
    entries: u64,
    total: u64,
    ended: bool,
    /// After an error, the offset of the next header is unknown.
    refused: bool,
}

impl<S: Source> Tar<S> {
    /// A reader of the uncompressed archive in `source`.
    pub fn new(source: S, limits: &Limits) -> Self {
        Self {
            source,
            limits: *limits,
            offset: 0,
            content: 0,
            padding: 0,
            current: None,
            entries: 0,
            total: 0,
            ended: false,
            refused: false,
        }
    }

    /// The next entry, or `None` at the end marker. Skips the unread content of the entry before.
    ///
    /// A missing end marker is an error: without it nobody could tell whether something was cut off. [`Tar::finish`]
    /// reads what follows it.
    ///
    /// After an error, every further call fails, because the position in the stream is lost.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.refused {
            return Err(Error::malformed(self.offset, "nothing can be read after an earlier error"));
        }
        let next = self.advance();
        self.refused = next.is_err();
        next
    }

    fn advance(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        let mut first = None;
        while !self.ended {
            self.pass()?;
            let at = self.offset;
            let bad = |why| Error::malformed(at, why);
            let Some(header) = self.header()? else {
                self.ended = true;
                let pending = "no entry follows an extended header";
                return if extended.is_empty() { Ok(None) } else { Err(bad(pending)) };
            };
            self.content = header.size().map_err(bad)?;
            self.padding = self.content.wrapping_neg() % BLOCK as u64;
            let begins = *first.get_or_insert(at);
            match header.kind() {
                b'L' if extended.name.is_some() => return Err(bad("two long names are for the same entry")),
                b'K' if extended.link.is_some() => return Err(bad("two long links are for the same entry")),
                b'L' => extended.name = Some(self.long(at, Measure::Name, self.limits.name)?),
                b'K' => extended.link = Some(self.long(at, Measure::Link, self.limits.link)?),
                b'x' if extended.records.is_some() => {
                    return Err(bad("two pax headers are for the same entry"));
                }
                b'x' => extended.records = Some(self.records(at)?),
                b'g' if !extended.is_empty() => {
                    return Err(bad("a global header stands between an extended header and its entry"));
                }
                b'g' => {
                    // Counted like entries, because an endless stream of them would otherwise pass.
                    self.count(at)?;
                    self.records(at)?.global().map_err(bad)?;
                    first = None;
                }
                _ => {
                    let outline = extended.outline(&header, self.content, &self.limits);
                    let outline = outline.map_err(|(path, problem)| Error {
                        entry: path.map(|path| shown(&path)),
                        offset: begins,
                        problem,
                    })?;
                    return self.enter(begins, outline).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Reads content of the current entry; 0 at its end. Fills the buffer as far as there is content.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        // Fill the whole buffer, so that a file of any size is written in few calls.
        while filled < most {
            match self.source.read(&mut buffer[filled..most]) {
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into(), "an entry's content")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e, "an entry's content")),
            }
        }
        self.content -= filled as u64;
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Reads all content of the current entry; an error if it has more than `limit` bytes.
    pub fn whole(&mut self, limit: u64) -> Result<Vec<u8>, Error> {
        if self.content > limit {
            let exceeded = Exceeded { measure: Measure::Entry, limit };
            return Err(self.here(Problem::Exceeded(exceeded)));
        }
        // Grown as content arrives, because a header may declare more than there is.
        let (mut content, mut piece) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match self.read(&mut piece)? {
                0 => return Ok(content),
                n => content.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// A reader of the current entry's content; its I/O errors wrap an [`Error`].
    pub fn content(&mut self) -> Content<'_, S> {
        Content { tar: self }
    }

    /// Reads what follows the end marker, which must be zeros; 0 at the end of the stream. Only reading to there makes
    /// a decompressor check its own checksum.
    pub fn rest(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        debug_assert!(self.ended, "the entries come first");
        loop {
            match self.source.read(buffer) {
                Ok(n) => {
                    if let Some(at) = buffer[..n].iter().position(|b| *b != 0) {
                        let why =
                            "bytes follow the archive's end, which another program could take for entries";
                        return Err(Error::malformed(self.offset + at as u64, why));
                    }
                    self.offset += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::read(self.offset, "what follows its end", e)),
            }
        }
    }

    /// Reads to the end of the stream. A further entry is an error: the archive has more than its caller expected.
    pub fn finish(mut self) -> Result<S, Error> {
        if let Some(entry) = self.next_entry()? {
            return Err(Error {
                entry: Some(shown(&entry.path)),
                offset: entry.header,
                problem: Problem::Malformed("the archive should have ended before it"),
            });
        }
        let mut waste = [0; 16 * 1024];
        while self.rest(&mut waste)? > 0 {}
        Ok(self.source)
    }

    /// The number of entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn enter(&mut self, begins: u64, outline: Outline) -> Result<Entry, Error> {
        self.current = Some((begins, shown(&outline.path)));
        self.count(begins)?;
        self.content = outline.size;
        self.padding = self.content.wrapping_neg() % BLOCK as u64;
        if outline.size > self.limits.entry {
            return Err(
                self.here(Problem::Exceeded(Exceeded { measure: Measure::Entry, limit: self.limits.entry }))
            );
        }
        self.total = self.total.saturating_add(outline.size);
        if self.total > self.limits.total {
            return Err(
                self.here(Problem::Exceeded(Exceeded { measure: Measure::Total, limit: self.limits.total }))
            );
        }
        Ok(outline.entry(begins, self.offset))
    }

    fn count(&mut self, at: u64) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::exceeded(at, Measure::Entries, self.limits.entries));
        }
        Ok(())
    }

    /// Reads the next header; `None` at the end marker.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let at = self.offset;
        let mut block = [0; BLOCK];
        self.exactly(&mut block, "a header, or before its end marker")?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        Header::new(&block).map(Some).map_err(|why| Error::malformed(at, why))
    }

    /// Skips the unread rest of the current entry.
    fn pass(&mut self) -> Result<(), Error> {
        for (bytes, inside) in [(self.content, "an entry's content"), (self.padding, "an entry's padding")] {
            if bytes > 0 {
                self.source.skip(bytes).map_err(|e| self.failed(e, inside))?;
                self.offset = self.offset.saturating_add(bytes);
            }
        }
        (self.content, self.padding, self.current) = (0, 0, None);
        Ok(())
    }

    fn exactly(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<(), Error> {
        self.source.read_exact(buffer).map_err(|e| self.failed(e, inside))?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    /// Reads a GNU long name or link and its final NUL; no more bytes than `limit` allows.
    fn long(&mut self, at: u64, measure: Measure, limit: u64) -> Result<Vec<u8>, Error> {
        if self.content > limit.saturating_add(1) {
            return Err(Error::exceeded(at, measure, limit));
        }
        let mut name = vec![0; usize::try_from(self.content).unwrap_or(0)];
        self.read(&mut name)?;
        match name.iter().position(|b| *b == 0) {
            None => Err(Error::malformed(at, "a long name does not end with a NUL byte")),
            Some(end) if name[end..].iter().any(|b| *b != 0) => {
                Err(Error::malformed(at, "bytes follow the end of a long name"))
            }
            Some(end) => {
                name.truncate(end);
                Ok(name)
            }
        }
    }

    fn records(&mut self, at: u64) -> Result<extended::Records, Error> {
        if self.content > self.limits.extension {
            return Err(Error::exceeded(at, Measure::Extension, self.limits.extension));
        }
        let mut bytes = vec![0; usize::try_from(self.content).unwrap_or(0)];
        self.read(&mut bytes)?;
        extended::Records::parse(&bytes, &self.limits).map_err(|problem| Error::new(at, problem))
    }

    /// Makes an error about the current entry.
    fn here(&self, problem: Problem) -> Error {
        let (offset, entry) = match &self.current {
            Some((at, name)) => (*at, Some(name.clone())),
            None => (self.offset, None),
        };
        Error { entry, offset, problem }
    }

    fn failed(&self, source: io::Error, inside: &'static str) -> Error {
        let error = Error::read(self.offset, inside, source);
        Error { entry: self.current.as_ref().map(|(_, name)| name.clone()), ..error }
    }
}

/// The content of one entry.
#[derive(Debug)]
pub struct Content<'a, S> {
    tar: &'a mut Tar<S>,
}

impl<S: Source> Read for Content<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.tar.read(buffer)?)
    }
}
