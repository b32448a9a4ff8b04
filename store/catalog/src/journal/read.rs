//! Reads the journal: its last number, and its entries in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Journal, JournalRecord, Line};
use crate::{Error, Result};

/// The longest line that is read, in bytes. A publication of as many manifests as a request may name is far shorter.
const LONGEST: u64 = 64 << 20;
/// How many bytes at the end of a segment are read first to find its last entry.
const TAIL: u64 = 64 << 10;

/// The entries after a number.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) entries: Entries,
    /// How many lines were cut or damaged.
    pub(crate) damaged: u64,
}

/// Entries by number; of several with the same number, the last one.
pub(crate) type Entries = BTreeMap<u64, JournalRecord>;

impl Journal {
    /// The number of the last entry, 0 if there never was one. A void entry counts too: its number is one above the
    /// catalog's count, as with an entry whose commit was cut off.
    pub(crate) fn last(&self) -> Result<u64> {
        for segment in self.segments()?.into_iter().rev() {
            let path = self.segment(segment);
            match last_of(&path)? {
                Some(number) => return Ok(number),
                // The segment is empty: the last entry is the one before its first number.
                None if segment > 1 => return Ok(segment - 1),
                None => {}
            }
        }
        Ok(0)
    }

    /// Every entry with a number above `after` that is not void.
    pub(crate) fn entries_after(&self, after: u64) -> Result<Read> {
        let (mut read, segments) = (Read::default(), self.segments()?);
        for (index, segment) in segments.iter().enumerate() {
            // Skip a segment if the next one begins at or before the first entry that is wanted.
            if segments.get(index + 1).is_none_or(|next| *next > after.saturating_add(1)) {
                read.segment(&self.segment(*segment), after)?;
            }
        }
        Ok(read)
    }
}

impl Read {
    fn segment(&mut self, path: &Path, after: u64) -> Result<()> {
        let failed = |e| Error::io("read", path)(e);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = (&mut file).take(LONGEST).read_until(b'\n', &mut line).map_err(failed)?;
            if length == 0 {
                return Ok(());
            }
            match Line::decode(line.trim_ascii_end()) {
                Some(Line::Entry(entry)) if entry.number > after => {
                    self.entries.insert(entry.number, entry);
                }
                Some(Line::Entry(_)) => {}
                Some(Line::Void(id)) => self.entries.retain(|_, entry| entry.id != id),
                // An empty line, as after a cut one, is not damage.
                None => self.damaged += u64::from(!line.trim_ascii().is_empty()),
            }
        }
    }
}

/// Finds the number of the last whole entry in a segment, searching from its end.
fn last_of(path: &Path) -> Result<Option<u64>> {
    let failed = |e| Error::io("read", path)(e);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut window = TAIL.min(length);
    loop {
        let mut bytes = vec![0; usize::try_from(window).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, length - window).map_err(failed)?;
        let entry = bytes.split(|byte| *byte == b'\n').rev().find_map(|line| match Line::decode(line) {
            Some(Line::Entry(entry)) => Some(entry.number),
            _ => None,
        });
        if entry.is_some() || window == length || window >= LONGEST {
            return Ok(entry);
        }
        window = length.min(window.saturating_mul(8));
    }
}
