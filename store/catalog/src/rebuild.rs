//! Inspects and repairs a data folder whose halves do not belong together or whose catalog is damaged.
//!
//! A rebuild starts from the newest catalog that is whole and belongs to this farm: the present one, a copy beside the
//! blobs, or one that a person names. It then replays every later entry of the journal. The old catalog is moved aside,
//! never removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use hab_oci::Digest;

use crate::blocking::blocking;
use crate::catalog::{examine, newest};
use crate::halves::{BlobsHalf, CatalogHalf, Mismatch, Verdict, judge};
use crate::journal::Journal;
use crate::open::{CATALOG, IN_USE, catalog_journal, lock_opening};
use crate::{Blobs, Catalog, Error, Result, Store};

/// How many copies of the catalog are kept.
const COPIES: usize = 3;

/// How to rebuild a catalog.
#[derive(Clone, Debug, Default)]
pub struct Rebuild {
    /// A copy of the catalog that a person names, in addition to those in the data folder.
    pub from: Option<PathBuf>,
}

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The catalog that it started from; `None` for an empty one.
    pub base: Option<PathBuf>,
    /// How many changes that catalog held.
    pub base_changes: u64,
    /// How many entries of the journal were replayed.
    pub replayed: u64,
    /// How many entries are missing from the sequence.
    pub missing: u64,
    /// How many lines of the journal were cut or damaged.
    pub damaged: u64,
    /// Blobs that an entry or the catalog names and that are missing.
    pub lost: Vec<Digest>,
    /// How many strays were moved back.
    pub strays: usize,
    /// The folder to which the old catalog was moved.
    pub aside: Option<PathBuf>,
    /// Catalogs that could not be used, and why.
    pub unusable: Vec<(PathBuf, String)>,
}

/// The state of a data folder, found without changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The farm that the blobs belong to.
    pub farm: Option<String>,
    /// How many changes the catalog holds, or why it cannot be read; `None` if there is no catalog.
    pub catalog: Option<Result<u64, String>>,
    /// The number of the journal's last entry.
    pub journal: u64,
    /// The copies of the catalog, and how many changes each holds.
    pub copies: Vec<(PathBuf, u64)>,
    /// How the catalog and the blobs do not belong together.
    pub mismatch: Option<Mismatch>,
    /// The number of strays and their bytes.
    pub strays: (usize, u64),
}

/// What [`accept`] declared about a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The farm's identity from now on.
    pub farm: String,
    /// How many changes the catalog counts from now on.
    pub changes: u64,
    /// Blobs that the catalog names and that are missing.
    pub gone: Vec<Digest>,
}

impl Status {
    /// Inspects a data folder, which may be in use.
    pub async fn of(data: &Path) -> Result<Self> {
        let folder = data.to_owned();
        let (blobs, journal) = blocking(move || {
            let blobs = Blobs::open(&folder)?;
            let journal = catalog_journal(&blobs)?;
            Ok::<_, Error>((blobs, journal))
        })
        .await?;
        let half = blobs_half(&blobs, &journal)?;
        let path = data.join(CATALOG);
        let catalog = match fs::metadata(&path) {
            Ok(found) if found.len() > 0 => examine(&path).await,
            _ => Ok(CatalogHalf::New),
        };
        let verdict = catalog.as_ref().ok().map(|catalog| judge(catalog, &half));
        let catalog = match catalog {
            Ok(CatalogHalf::New) => None,
            Ok(CatalogHalf::Unmarked { .. }) => Some(Ok(0)),
            Ok(CatalogHalf::Marked { changes, .. }) => Some(Ok(changes)),
            Err(why) => Some(Err(why)),
        };
        let strays = blobs.strays()?;
        Ok(Self {
            copies: journal.copies()?.into_iter().map(|last| (journal.copy(last), last)).collect(),
            farm: half.farm,
            catalog,
            journal: half.last,
            mismatch: match verdict {
                Some(Verdict::Refuse(mismatch)) => Some(mismatch),
                Some(Verdict::JournalBehind { .. }) => older_blobs(&newest(&path).await?, &blobs)?,
                _ => None,
            },
            strays: (strays.len(), strays.iter().map(|stray| stray.size).sum()),
        })
    }
}

impl Rebuild {
    /// Rebuilds the catalog of a data folder. [`Error::InUseElsewhere`] if another process has the folder open.
    pub async fn run(&self, data: &Path) -> Result<Rebuilt> {
        let (blobs, _opening, _alone) = take(data).await?;
        let journal = catalog_journal(&blobs)?;
        let mut rebuilt = Rebuilt::default();
        let farm = self.choose(data, &journal, blobs.farm()?, &mut rebuilt).await?;
        rebuilt.strays = blobs.bring_back_strays()?;
        let path = data.join(CATALOG);
        place_base(data, &path, &mut rebuilt)?;

        let entries = journal.entries_after(rebuilt.base_changes)?;
        let catalog = Catalog::open(&path, journal).await?;
        let farm = match farm {
            Some(farm) => farm,
            None => hab_blobs::random_hex()?,
        };
        catalog.mark(&farm, rebuilt.base_changes).await?;
        catalog.forget_doomed().await?;
        rebuilt.damaged = entries.damaged;
        let mut before = rebuilt.base_changes;
        for (number, entry) in &entries.entries {
            rebuilt.missing += number - before - 1;
            before = *number;
            rebuilt.lost.extend(catalog.replay(entry, &blobs).await?);
            rebuilt.replayed += 1;
        }
        catalog.mark(&farm, before).await?;
        rebuilt.lost.extend(catalog.mark_gone(&blobs, hab_clock::now()).await?);
        rebuilt.lost.sort();
        rebuilt.lost.dedup();
        catalog.close().await;
        blobs.set_farm(&farm)?;
        let store = Store::assemble(data, &blobs, catalog_journal(&blobs)?).await?;
        store.copy_catalog().await?;
        store.catalog.close().await;
        Ok(rebuilt)
    }

    /// Chooses the catalog to start from: of those that are whole and belong to this farm, the one with the most
    /// changes. Returns the farm's identity, from the catalog if the blobs do not have it.
    ///
    /// [`Error::Mismatch`] if every whole catalog belongs to another farm: the present one must not give way to an
    /// empty one.
    async fn choose(
        &self,
        data: &Path,
        journal: &Journal,
        farm: Option<String>,
        rebuilt: &mut Rebuilt,
    ) -> Result<Option<String>> {
        let (mut said, mut strangers) = (None, false);
        let present = data.join(CATALOG);
        let copies = journal.copies()?.into_iter().rev().map(|last| journal.copy(last));
        let found = fs::metadata(&present).is_ok_and(|found| found.len() > 0).then_some(present);
        for path in self.from.iter().cloned().chain(found).chain(copies) {
            let better = |changes| changes > rebuilt.base_changes || rebuilt.base.is_none();
            match examine(&path).await {
                Ok(CatalogHalf::Marked { farm: other, .. })
                    if farm.as_ref().is_some_and(|farm| *farm != other) =>
                {
                    strangers = true;
                    rebuilt.unusable.push((path, "it belongs to another farm".to_owned()));
                }
                Ok(CatalogHalf::Marked { changes, farm: other, .. }) if better(changes) => {
                    (rebuilt.base_changes, rebuilt.base) = (changes, Some(path));
                    said = Some(other);
                }
                // Written by an early version that did not mark catalogs.
                Ok(CatalogHalf::Unmarked { names_blobs: true }) if better(0) => rebuilt.base = Some(path),
                // Older than the catalog that is chosen already, or empty.
                Ok(_) => {}
                // A file that a person named must be usable; anything else is an error.
                Err(why) if Some(&path) == self.from.as_ref() => return Err(Error::NoCopy { path, why }),
                Err(why) => rebuilt.unusable.push((path, why)),
            }
        }
        if rebuilt.base.is_none() && strangers {
            return Err(Error::Mismatch { data: data.to_owned(), mismatch: Mismatch::Strangers });
        }
        Ok(farm.or(said))
    }
}

/// Declares that the catalog and the blobs of a data folder belong together as they are.
///
/// Nothing is rebuilt: changes that only the journal has stay out of the catalog. The list of doomed blobs is cleared.
pub async fn accept(data: &Path) -> Result<Accepted> {
    let (blobs, _opening, _alone) = take(data).await?;
    let journal = catalog_journal(&blobs)?;
    let last = journal.last()?;
    let catalog = Catalog::open(&data.join(CATALOG), journal).await?;
    let changes = match catalog.half().await? {
        CatalogHalf::Marked { changes, .. } => changes.max(last),
        _ => last,
    };
    let farm = hab_blobs::random_hex()?;
    catalog.forget_doomed().await?;
    // The journal must not make the catalog look older, so the count continues from the higher of the two.
    catalog.mark(&farm, changes).await?;
    let gone = catalog.mark_gone(&blobs, hab_clock::now()).await?;
    catalog.close().await;
    blobs.set_farm(&farm)?;
    let store = Store::assemble(data, &blobs, catalog_journal(&blobs)?).await?;
    store.copy_catalog().await?;
    store.catalog.close().await;
    Ok(Accepted { farm, changes, gone })
}

impl Store {
    /// Copies a snapshot of the catalog to the folder beside the blobs, and begins a new segment of the journal. Keeps
    /// the newest three copies and every segment after the oldest of them.
    pub async fn copy_catalog(&self) -> Result<()> {
        self.catalog.begin_segment().await?;
        let journal = catalog_journal(&self.blobs)?;
        let scratch = journal.folder().join(format!("{}.new", hab_blobs::random_hex()?));
        let made = self.catalog.copy_to(&scratch).await;
        let work = async {
            made?;
            let changes = match examine(&scratch).await {
                Ok(CatalogHalf::Marked { changes, .. }) => changes,
                Ok(_) => return Err(Error::Copy { why: "it does not name its farm".to_owned() }),
                Err(why) => return Err(Error::Copy { why }),
            };
            let (journal, from) = (catalog_journal(&self.blobs)?, scratch.clone());
            blocking(move || keep_copy(&journal, &from, changes)).await
        };
        let kept = work.await;
        if kept.is_err() {
            // The file may be missing; the first error is the one that matters.
            let _ = fs::remove_file(&scratch);
        }
        kept
    }
}

fn keep_copy(journal: &Journal, from: &Path, changes: u64) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = File::open(from).map_err(Error::io("open", from))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::io("make private", from))?;
    file.sync_all().map_err(Error::io("write", from))?;
    let to = journal.copy(changes);
    fs::rename(from, &to).map_err(Error::io("rename a file to", &to))?;
    hab_blobs::sync_folder_of(&to)?;
    let copies = journal.copies()?;
    let Some(oldest) = copies.iter().rev().nth(COPIES - 1) else { return Ok(()) };
    for copy in copies.iter().filter(|copy| *copy < oldest) {
        let path = journal.copy(*copy);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    // If the next segment begins at or before the first entry after the oldest copy, that copy holds all of this
    // segment.
    let segments = journal.segments()?;
    for pair in segments.windows(2).filter(|pair| pair[1] <= oldest + 1) {
        let path = journal.segment(pair[0]);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Opens the blobs of a folder that no other process has open, and returns the locks that keep others out.
async fn take(data: &Path) -> Result<(Blobs, File, File)> {
    let (folder, opening) = (data.to_owned(), lock_opening(data).await?);
    let (blobs, alone) = blocking(move || {
        let path = folder.join(IN_USE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUseElsewhere { data: folder }),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
        }
        Ok((Blobs::open(&folder)?, file))
    })
    .await?;
    Ok((blobs, opening, alone))
}

/// Puts the chosen catalog in place, and moves the old one aside.
fn place_base(data: &Path, path: &Path, rebuilt: &mut Rebuilt) -> Result<()> {
    let sidecars = ["", "-wal", "-shm"].map(|end| format!("{CATALOG}{end}"));
    // Rebuilds within one second get different numbers.
    let names = (0..1000).map(|again| data.join(format!("catalog.aside-{}.{again}", hab_clock::now())));
    let aside = names.into_iter().find(|path| !path.exists()).unwrap_or_else(|| data.join("catalog.aside"));
    let scratch = data.join(format!("{CATALOG}.new"));
    if let Some(base) = rebuilt.base.as_ref().filter(|base| *base != path) {
        fs::copy(base, &scratch).map_err(Error::io("copy", base))?;
        File::open(&scratch).and_then(|f| f.sync_all()).map_err(Error::io("write", &scratch))?;
    }
    let present: Vec<_> = sidecars.iter().filter(|name| data.join(name).exists()).collect();
    if !present.is_empty() {
        fs::create_dir(&aside).map_err(Error::io("create", &aside))?;
        for name in present {
            let (from, to) = (data.join(name), aside.join(name));
            // If the present catalog stays in use, set a copy of it aside.
            let moved = if rebuilt.base.as_deref() == Some(path) {
                fs::copy(&from, &to).map(drop)
            } else {
                fs::rename(&from, &to)
            };
            moved.map_err(Error::io("set aside", &from))?;
        }
        rebuilt.aside = Some(aside);
    }
    if scratch.exists() {
        fs::rename(&scratch, path).map_err(Error::io("rename a file to", path))?;
    }
    Ok(hab_blobs::sync_folder_of(path)?)
}

/// Returns a mismatch if some of the newest blobs of the catalog are missing.
pub(crate) fn older_blobs(newest: &[Digest], blobs: &Blobs) -> Result<Option<Mismatch>> {
    let here = newest.iter().map(|digest| Ok(blobs.get(digest)?.is_some()));
    let missing = here.collect::<Result<Vec<_>>>()?.iter().filter(|here| !**here).count();
    Ok((missing > 0).then_some(Mismatch::BlobsOlder { missing, of: newest.len() }))
}

/// Reads what [`judge`] needs to know about the folder of blobs.
pub(crate) fn blobs_half(blobs: &Blobs, journal: &Journal) -> Result<BlobsHalf> {
    Ok(BlobsHalf { farm: blobs.farm()?, last: journal.last()?, any: blobs.any()? })
}
