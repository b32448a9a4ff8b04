//! Writes the journal, and names its files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, JournalRecord, Line};
use crate::{Error, Result};
use hab_blobs::sync_folder_of;

/// The folder of the journal and of the catalog's copies.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    /// Guards the segment that was written last. Held for one write.
    open: Mutex<Option<(u64, File)>>,
}

impl Journal {
    /// Opens the folder, and makes it if it is missing.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Self { folder, open: Mutex::default() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the entry of a transaction that is about to commit. The result lets [`Journal::take_back`] void the
    /// entry. The caller holds the catalog's write lock.
    pub(crate) fn append(&self, segment: u64, number: u64, at: i64, changes: Vec<Change>) -> Result<Written> {
        let id = hab_blobs::random_hex()?;
        self.write(segment, &Line::Entry(JournalRecord { number, id: id.clone(), at, changes }))?;
        Ok(Written { segment, id })
    }

    /// Voids an entry whose transaction was not committed. If a full disk prevents this, little is lost: the next
    /// transaction's entry has the same number and replaces this one.
    pub(crate) fn take_back(&self, written: Written) -> Result<()> {
        self.write(written.segment, &Line::Void(written.id))
    }

    /// Begins an empty segment.
    pub(crate) fn begin(&self, first: u64) -> Result<()> {
        let path = self.segment(first);
        let file = open_segment(&path)?;
        file.sync_all().map_err(Error::io("write", &path))?;
        Ok(sync_folder_of(&path)?)
    }

    /// The first numbers of the segments, in order.
    pub(crate) fn segments(&self) -> Result<Vec<u64>> {
        self.numbers("journal")
    }

    /// The last numbers that the copies of the catalog hold, in order.
    pub(crate) fn copies(&self) -> Result<Vec<u64>> {
        self.numbers("sqlite")
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.journal"))
    }

    pub(crate) fn copy(&self, last: u64) -> PathBuf {
        self.folder.join(format!("{last:020}.sqlite"))
    }

    fn numbers(&self, ending: &str) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))? {
            let name = entry.map_err(Error::io("list", &self.folder))?.file_name();
            // Files with other names are not the journal's; skip them.
            let number = name.to_str().and_then(|name| name.strip_suffix(ending)?.strip_suffix('.'));
            found.extend(number.filter(|number| number.len() == 20).and_then(|n| n.parse::<u64>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn held(&self) -> MutexGuard<'_, Option<(u64, File)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, segment: u64, line: &Line) -> Result<()> {
        let path = self.segment(segment);
        let failed = |e| Error::io("write", &path)(e);
        let line = line.encode().map_err(|e| failed(io::Error::other(e)))?;
        let mut open = self.held();
        let file = match &mut *open {
            Some((held, file)) if *held == segment => file,
            _ => &mut open.insert((segment, open_segment(&path)?)).1,
        };
        let before = file.metadata().map_err(failed)?.len();
        if let Err(e) = file.write_all(&line) {
            // The disk may be full. Cut off the half line, so that the next line does not follow it.
            let cut = file.set_len(before);
            *open = None;
            return Err(failed(cut.err().unwrap_or(e)));
        }
        Ok(())
    }
}

/// An entry whose transaction is about to commit.
#[derive(Debug)]
pub(crate) struct Written {
    segment: u64,
    id: String,
}

/// Opens a segment to append. If a kill cut its last line, adds a line break, so that the next entry has its own line.
fn open_segment(path: &Path) -> Result<File> {
    let failed = |e| Error::io("open", path)(e);
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1).map_err(failed)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n").map_err(failed)?;
    }
    Ok(file)
}
