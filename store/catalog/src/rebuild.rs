//! A data folder whose halves do not belong together, or whose catalog is damaged: looked at, and made whole again.
//!
//! A rebuild takes the newest of the catalogs that are whole and this farm's (the present one, the copies beside the
//! blobs, one that a person names), and makes every later entry of the journal true in it. What was there before is
//! moved aside, never removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use hab_oci::Digest;

use crate::catalog::{examine, newest};
use crate::halves::{BlobsHalf, CatalogHalf, Mismatch, Verdict, judge};
use crate::journal::Journal;
use crate::open::{CATALOG, IN_USE, catalog_journal, lock_opening};
use crate::store::blocking;
use crate::{Blobs, Catalog, Error, Result, Store};

/// How many copies of the catalog are kept.
const COPIES: usize = 3;

/// How to make a catalog again.
#[derive(Clone, Debug, Default)]
pub struct Rebuild {
    /// A copy of the catalog that a person has, besides those in the data folder.
    pub from: Option<PathBuf>,
}

/// How a catalog was made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The catalog that it began with; `None`: an empty one.
    pub base: Option<PathBuf>,
    /// How many changes that one held.
    pub base_changes: u64,
    /// How many entries of the journal were made true in it.
    pub replayed: u64,
    /// Entries that are missing between those that are there.
    pub missing: u64,
    /// Lines of the journal that were cut or damaged.
    pub damaged: u64,
    /// Blobs that an entry needs and that are not there.
    pub lost: Vec<Digest>,
    /// How many files that had been set aside as unknown were put back.
    pub strays: usize,
    /// Where the catalog went that was there before.
    pub aside: Option<PathBuf>,
    /// Catalogs that could not be used, and why.
    pub unusable: Vec<(PathBuf, String)>,
}

/// What is known of a data folder without using it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which farm's the blobs are.
    pub farm: Option<String>,
    /// How many changes the catalog holds, or why it cannot be read; `None`: there is none.
    pub catalog: Option<Result<u64, String>>,
    /// The number of the journal's last entry.
    pub journal: u64,
    /// The copies of the catalog, and how many changes each holds.
    pub copies: Vec<(PathBuf, u64)>,
    /// How the two do not belong together.
    pub mismatch: Option<Mismatch>,
    /// Files that were set aside as unknown, and their bytes.
    pub strays: (usize, u64),
}

/// How a data folder was declared to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The farm's identity from now on.
    pub farm: String,
    /// How many changes the catalog is said to hold.
    pub changes: u64,
    /// Blobs that the catalog names and that are not there.
    pub gone: Vec<Digest>,
}

impl Status {
    /// Looks at a data folder that may be in use.
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
    /// Makes the catalog of a data folder again. [`Error::InUse`] if another process has the folder open.
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
        rebuilt.lost.extend(catalog.mark_gone(&blobs, crate::now()).await?);
        rebuilt.lost.sort();
        rebuilt.lost.dedup();
        catalog.close().await;
        blobs.set_farm(&farm)?;
        let store = Store::assemble(data, &blobs, catalog_journal(&blobs)?).await?;
        store.copy_catalog().await?;
        store.catalog.close().await;
        Ok(rebuilt)
    }

    /// Finds the catalog to begin with: the one with the most changes of those that are whole and this farm's. Returns
    /// the farm's identity, which the catalog says where the blobs do not.
    ///
    /// [`Error::Mismatch`] if all that are whole are another farm's: a catalog that says more than nothing is not given up
    /// for one that is empty.
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
                // Of a version that did not mark it yet.
                Ok(CatalogHalf::Unmarked { names_blobs: true }) if better(0) => rebuilt.base = Some(path),
                // Older than what is chosen already, or empty.
                Ok(_) => {}
                // What a person named has to be what they think it is.
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
/// Nothing is made again: changes that only the journal has stay out of the catalog. What a collection was about to
/// remove is forgotten.
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
    // The journal must not say that the catalog is older, so its numbers go on behind both.
    catalog.mark(&farm, changes).await?;
    let gone = catalog.mark_gone(&blobs, crate::now()).await?;
    catalog.close().await;
    blobs.set_farm(&farm)?;
    let store = Store::assemble(data, &blobs, catalog_journal(&blobs)?).await?;
    store.copy_catalog().await?;
    store.catalog.close().await;
    Ok(Accepted { farm, changes, gone })
}

impl Store {
    /// Copies the catalog, as it is at one moment, to beside the blobs, and begins a new segment of the journal. The
    /// newest three copies stay, and the segments behind the oldest of these.
    pub async fn copy_catalog(&self) -> Result<()> {
        self.catalog.begin_segment().await?;
        let journal = catalog_journal(&self.blobs)?;
        let scratch = journal.folder().join(format!("{}.new", hab_blobs::random_hex()?));
        let made = self.catalog.copy_to(&scratch).await;
        let work = async {
            made?;
            let changes = match examine(&scratch).await {
                Ok(CatalogHalf::Marked { changes, .. }) => changes,
                Ok(_) => return Err(Error::Copy { why: "it does not say whose it is".to_owned() }),
                Err(why) => return Err(Error::Copy { why }),
            };
            let (journal, from) = (catalog_journal(&self.blobs)?, scratch.clone());
            blocking(move || keep_copy(&journal, &from, changes)).await
        };
        let kept = work.await;
        if kept.is_err() {
            // It may not be there; the error that matters is the first one.
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
    // A segment whose successor begins at or before the first entry behind the oldest copy holds nothing that it lacks.
    let segments = journal.segments()?;
    for pair in segments.windows(2).filter(|pair| pair[1] <= oldest + 1) {
        let path = journal.segment(pair[0]);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// The blobs of a folder that nobody else has open, and the locks that say so.
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

/// Puts the catalog to begin with in place, and moves what was there aside.
fn place_base(data: &Path, path: &Path, rebuilt: &mut Rebuilt) -> Result<()> {
    let sidecars = ["", "-wal", "-shm"].map(|end| format!("{CATALOG}{end}"));
    // Several in one second have names of their own.
    let names = (0..1000).map(|again| data.join(format!("catalog.aside-{}.{again}", crate::now())));
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
            // The present one goes on where it is, so of that a copy is set aside.
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

/// Whether of the blobs that a catalog was last told of some are not there.
pub(crate) fn older_blobs(newest: &[Digest], blobs: &Blobs) -> Result<Option<Mismatch>> {
    let here = newest.iter().map(|digest| Ok(blobs.get(digest)?.is_some()));
    let missing = here.collect::<Result<Vec<_>>>()?.iter().filter(|here| !**here).count();
    Ok((missing > 0).then_some(Mismatch::BlobsOlder { missing, of: newest.len() }))
}

/// What is known of the folder of blobs.
pub(crate) fn blobs_half(blobs: &Blobs, journal: &Journal) -> Result<BlobsHalf> {
    Ok(BlobsHalf { farm: blobs.farm()?, last: journal.last()?, any: blobs.any()? })
}
