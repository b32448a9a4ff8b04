//! Opens a data folder: checks that its two halves, catalog and blobs, belong together, and repairs what a crash left.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use crate::blocking::blocking;
use crate::catalog::newest;
use crate::halves::{CatalogHalf, Mismatch, Verdict, judge};
use crate::journal::Journal;
use crate::rebuild::{blobs_half, older_blobs};
use crate::{Blobs, Catalog, Error, Result, Store};

impl Store {
    /// Opens a data folder, and makes it if it is missing. Other processes may have it open too.
    ///
    /// [`Error::Mismatch`] if the catalog and the blobs do not belong together; nothing is changed then.
    pub async fn open(data_dir: &Path) -> Result<Self> {
        let _opening = lock_opening(data_dir).await?;
        let folder = data_dir.to_owned();
        let (in_use, blobs, journal, half) = blocking(move || {
            let in_use = share(&folder)?;
            let blobs = Blobs::open(&folder)?;
            let journal = catalog_journal(&blobs)?;
            let half = blobs_half(&blobs, &journal)?;
            Ok::<_, Error>((in_use, blobs, journal, half))
        })
        .await?;
        let path = data_dir.join(CATALOG);
        let refused = |mismatch| Error::Mismatch { data: data_dir.to_owned(), mismatch };
        // Look at the file before opening the catalog, because that would create it.
        let found = std::fs::metadata(&path);
        if found.as_ref().is_ok_and(|found| !found.is_file()) {
            let source = Box::new(Error::io("open", &path)(std::io::Error::other("it is not a plain file")));
            return Err(Error::CatalogDamaged { path, source });
        }
        let new = found.map_or(true, |found| found.len() == 0);
        if new && let Verdict::Refuse(mismatch) = judge(&CatalogHalf::New, &half) {
            return Err(refused(mismatch));
        }
        let catalog = Catalog::open(&path, journal).await?;
        let mut store = Self { blobs, catalog, in_use: None };
        // Another process may be writing: read both halves while nobody can commit.
        let journal = catalog_journal(&store.blobs)?;
        let (catalog, half) = store.catalog.half_and(|| blobs_half(&store.blobs, &journal)).await?;
        let verdict = judge(&catalog, &half);
        if let Err(error) = store.carry_out(verdict).await {
            store.catalog.close().await;
            return Err(match error {
                Settling::Mismatch(mismatch) => refused(mismatch),
                Settling::Failed(error) => error,
            });
        }
        store.in_use = Some(Arc::new(in_use));
        Ok(store)
    }

    /// Opens a data folder without checking its halves. The caller holds the folder's exclusive lock.
    pub(crate) async fn assemble(data_dir: &Path, blobs: &Blobs, journal: Journal) -> Result<Self> {
        let catalog = Catalog::open(&data_dir.join(CATALOG), journal).await?;
        Ok(Self { blobs: blobs.clone(), catalog, in_use: None })
    }

    /// Does what the verdict demands before the halves may be used.
    async fn carry_out(&self, verdict: Verdict) -> Result<(), Settling> {
        match verdict {
            Verdict::Together { cut_off: false } => {}
            Verdict::Together { cut_off: true } => {
                let CatalogHalf::Marked { changes, .. } = self.catalog.half().await? else { return Ok(()) };
                let read = catalog_journal(&self.blobs)?.entries_after(changes)?;
                for entry in read.entries.values() {
                    self.catalog.replay(entry, &self.blobs).await?;
                }
            }
            Verdict::Mark(farm) => {
                let farm = farm.map_or_else(hab_blobs::random_hex, Ok).map_err(Error::from)?;
                // Mark the blobs first: if a crash leaves only that mark, the folder still counts as new.
                self.blobs.set_farm(&farm).map_err(Error::from)?;
                self.catalog.mark(&farm, 0).await?;
            }
            Verdict::JournalBehind { .. } => {
                if let Some(mismatch) = older_blobs(&newest(self.catalog.path()).await?, &self.blobs)? {
                    return Err(Settling::Mismatch(mismatch));
                }
                // A power failure lost the last entries; a new copy of the catalog holds their changes.
                self.copy_catalog().await?;
            }
            Verdict::Refuse(mismatch) => return Err(Settling::Mismatch(mismatch)),
        }
        Ok(())
    }
}

/// Why a folder's halves could not be made ready.
enum Settling {
    Mismatch(Mismatch),
    Failed(Error),
}

impl From<Error> for Settling {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The catalog's file in the data folder.
pub(crate) const CATALOG: &str = "catalog.sqlite";
/// The lock file: every process that has the data folder open holds a shared lock of it.
pub(crate) const IN_USE: &str = "in-use.lock";

/// Opens the catalog's journal in the folder of blobs.
pub(crate) fn catalog_journal(blobs: &Blobs) -> Result<Journal> {
    Journal::open(blobs.root().join("catalog"))
}

/// Takes the lock that is held while a folder is opened: two processes must not both make the schema or mark the
/// halves.
pub(crate) async fn lock_opening(data_dir: &Path) -> Result<File> {
    let folder = data_dir.to_owned();
    blocking(move || {
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join("catalog.lock");
        let file = lock_file(&path)?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok::<_, Error>(file)
    })
    .await
}

fn share(data_dir: &Path) -> Result<File> {
    let path = data_dir.join(IN_USE);
    let file = lock_file(&path)?;
    file.lock_shared().map_err(Error::io("lock", &path))?;
    Ok(file)
}

fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    file.map_err(Error::io("open", path))
}
