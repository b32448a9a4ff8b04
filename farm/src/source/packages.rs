//! Keeps and serves everything that locks name: `hab-build mirror packages` and `hab-build mirror crates`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hab_keys::debian::{SignedFile, VerifiedRelease};
use hab_mirror::cargo_lock::{self, LockedPackages};
use hab_mirror::crates::LockedCrate;
use hab_mirror::debian::{self, Suite};
use hab_mirror::{Fault, Fetcher, MirrorError, kinds};
use hab_oci::{Digest, Platform};
use hab_recipe::{LockedSource, RecipeError, RecipeSet, SourceTable};

use crate::error::FarmError;
use crate::fetching::Fetching;
use crate::progress::Progress;
use crate::source::crates::Crates;
use crate::source::debian::Debian;
use crate::words::counted;

/// The packages that are kept now.
#[derive(Debug, serde::Serialize)]
pub struct KeptPackages {
    /// The suites that are served.
    pub suites: Vec<Published>,
    /// The number of files in Debian archives that locks name.
    pub files: usize,
    /// The number of crates.
    pub crates: usize,
}

/// A suite that apt can use.
#[derive(Debug, serde::Serialize)]
pub struct Published {
    /// The suite.
    pub suite: String,
    /// Its InRelease.
    pub in_release: Digest,
    /// The number of its indexes that are kept.
    pub indexes: usize,
}

/// Everything that the known locks name.
#[derive(Default)]
struct LockedNames {
    /// The files of Debian archives: suite, path, digest and size.
    files: BTreeSet<(String, String, Digest, u64)>,
    /// Suites, and the policies that must accept them.
    suites: BTreeMap<String, String>,
    /// The InReleases that toolchains were locked from, by suite.
    releases: BTreeSet<(String, Digest)>,
    crates: BTreeSet<LockedCrate>,
}

/// The packages that could not be kept so far.
#[derive(Default)]
struct Missing {
    errors: Mutex<Vec<FarmError>>,
    silences: AtomicUsize,
}

/// For how many files an upstream may fail to answer before it is asked for no more.
const PATIENCE: usize = 8;

/// Keeps what locks name.
#[derive(Clone, Copy)]
pub struct Packages<'a> {
    /// The recipes, with their locks.
    pub recipes: &'a RecipeSet,
    /// Fetches files.
    pub fetching: Fetching<'a>,
    /// Where packages come from.
    pub debian: Debian<'a>,
    /// Where crates come from.
    pub crates: Crates<'a>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Packages<'_> {
    /// Keeps and serves everything that the locks of toolchains and recipes name, with what apt needs of their suites.
    /// A missing package does not stop the others.
    pub fn keep(&self) -> Result<KeptPackages, FarmError> {
        let (packages, _) = self.keep_all(&self.locked()?, |missing, total| {
            missing.tell(self.progress);
            missing.end(total).map(|()| 0)
        })?;
        Ok(packages)
    }

    /// Like [`Packages::keep`], with these crates too, but only counts what is not here. For an import, which cannot
    /// fetch: it is no error if its file lacks something.
    pub fn keep_here(&self, crates: &BTreeSet<LockedCrate>) -> Result<(KeptPackages, usize), FarmError> {
        let mut locked = self.locked()?;
        locked.crates.extend(crates.iter().cloned());
        self.keep_all(&locked, |missing, _| Ok(missing.count()))
    }

    fn keep_all(
        &self,
        locked: &LockedNames,
        end: impl FnOnce(Missing, usize) -> Result<usize, FarmError>,
    ) -> Result<(KeptPackages, usize), FarmError> {
        let missing = Missing::default();
        let mut suites = Vec::new();
        self.fetching.with(|fetcher, _| {
            self.progress
                .stage(&format!("keep {} of Debian archives", counted(locked.files.len() as u64, "file")));
            let files: Vec<_> = locked.files.iter().collect();
            let known: BTreeMap<_, _> = locked
                .suites
                .keys()
                .map(|name| Ok((name, self.debian.suite(name)?)))
                .collect::<Result<_, FarmError>>()?;
            fetcher.each(&files, |(suite, path, digest, size)| {
                missing.note(self.progress, known[suite].keep(fetcher, [(path.as_str(), digest, *size)]))
            })?;
            for (name, policy) in &locked.suites {
                self.progress.stage(&format!("keep the indexes of {name}"));
                match self.publish_suite(fetcher, &known[name], policy) {
                    Ok(published) => suites.push(published),
                    Err(e) => missing.add(self.progress, e)?,
                }
            }
            for (suite, digest) in &locked.releases {
                self.name_release(fetcher, suite, digest)?;
            }
            self.keep_crates_of(fetcher, &locked.crates, &missing)
        })?;
        let (files, crates) = (locked.files.len(), locked.crates.len());
        let absent = end(missing, files + crates + locked.suites.len())?;
        Ok((KeptPackages { suites, files, crates }, absent))
    }

    /// The crates that recipes' locks name.
    pub fn crates_of_recipes(&self) -> Result<BTreeSet<LockedCrate>, FarmError> {
        Ok(self.locked()?.crates)
    }

    /// The crates that Cargo.lock files name.
    pub fn crates_of(&self, locks: &[PathBuf]) -> Result<BTreeSet<LockedCrate>, FarmError> {
        let mut named = LockedPackages::default();
        for path in locks {
            read_lock(path, &mut named)?;
        }
        if !named.elsewhere.is_empty() {
            self.progress.note(&format!(
                "not kept, because they do not come from the crates index: {}: {}",
                counted(named.elsewhere.len() as u64, "package"),
                named.elsewhere.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(named.crates)
    }

    /// Keeps and serves every crate that these Cargo.lock files name.
    pub fn keep_crates(&self, locks: &[PathBuf]) -> Result<KeptPackages, FarmError> {
        let crates = self.crates_of(locks)?;
        let missing = Missing::default();
        self.fetching.with(|fetcher, _| self.keep_crates_of(fetcher, &crates, &missing))?;
        missing.tell(self.progress);
        missing.end(crates.len())?;
        Ok(KeptPackages { suites: Vec::new(), files: 0, crates: crates.len() })
    }

    fn keep_crates_of(
        &self,
        fetcher: &Fetcher<'_>,
        crates: &BTreeSet<LockedCrate>,
        missing: &Missing,
    ) -> Result<(), FarmError> {
        self.progress.stage(&format!("keep {}", counted(crates.len() as u64, "crate")));
        let index = self.crates.index()?;
        let crates: Vec<_> = crates.iter().collect();
        Ok(fetcher.each(&crates, |locked| missing.note(self.progress, index.keep(fetcher, locked)))?)
    }

    /// Keeps what apt needs of a suite, and serves it from then on.
    fn publish_suite(
        &self,
        fetcher: &Fetcher<'_>,
        suite: &Suite,
        policy: &str,
    ) -> Result<Published, FarmError> {
        let release = self.debian.release(fetcher, suite, policy)?;
        let indexes = asked_for(&release)?;
        fetcher.each(&indexes, |i| suite.keep_index(fetcher, &i.name, &i.digest, i.size))?;
        let indexes: Vec<_> =
            indexes.into_iter().map(|i| (i.name.clone(), i.digest.clone(), i.size)).collect();
        let document = release.document();
        suite.publish(fetcher, (&document.digest, document.size), &indexes)?;
        Ok(Published {
            suite: suite.name().to_owned(),
            in_release: document.digest.clone(),
            indexes: indexes.len(),
        })
    }

    /// Serves by its hash the InRelease that a lock was made from, if it is here.
    fn name_release(&self, fetcher: &Fetcher<'_>, suite: &str, digest: &Digest) -> Result<(), FarmError> {
        if fetcher.open(digest)?.is_none() {
            self.progress.note(&format!(
                "the InRelease of {suite} that a toolchain was locked from is not here, and archives serve only their \
                 newest: {digest}"
            ));
            return Ok(());
        }
        let name = debian::by_hash(suite, "InRelease", digest);
        Ok(fetcher.name(kinds::DEBIAN_INDEX, &name, digest, fetcher.size(digest)?)?)
    }

    /// Everything that the locks of all toolchains and recipes name.
    fn locked(&self) -> Result<LockedNames, FarmError> {
        let mut locked = LockedNames::default();
        for name in self.recipes.toolchains() {
            let toolchain = self.recipes.toolchain(name)?;
            let Some(lock) = self.if_locked(self.recipes.toolchain_lock(&toolchain))? else { continue };
            for p in lock.packages {
                locked.files.insert((toolchain.suite.clone(), p.path, p.digest, p.size));
            }
            locked.releases.insert((toolchain.suite.clone(), lock.in_release));
            locked.suites.insert(toolchain.suite, toolchain.policy);
        }
        for name in self.recipes.names() {
            let text = self.recipes.recipe(name)?;
            let lock = self
                .recipes
                .toolchain_lock(&text.toolchain)
                .and_then(|toolchain| self.recipes.recipe_lock(&text.recipe, &toolchain));
            let Some(lock) = self.if_locked(lock)? else { continue };
            let own = lock.source.iter().map(|source| (&text.recipe.source, source));
            let tables = text.recipe.input.iter().map(|input| &input.source);
            for (table, source) in own.chain(tables.zip(&lock.input)) {
                locked.add(table, source)?;
            }
        }
        Ok(locked)
    }

    /// The digests of everything that a lock names.
    pub fn digests(&self) -> Result<BTreeSet<Digest>, FarmError> {
        let locked = self.locked()?;
        let files = locked.files.into_iter().map(|(_, _, digest, _)| digest);
        let releases = locked.releases.into_iter().map(|(_, digest)| digest);
        Ok(files
            .chain(releases)
            .chain(locked.crates.into_iter().map(|krate| krate.digest().clone()))
            .collect())
    }

    /// The suites that locks name, and the policies that must accept them.
    pub fn suites(&self) -> Result<BTreeMap<String, String>, FarmError> {
        Ok(self.locked()?.suites)
    }

    /// Returns `None` for a recipe without a lock, because somebody may still be writing it.
    fn if_locked<T>(&self, lock: Result<T, RecipeError>) -> Result<Option<T>, FarmError> {
        match lock {
            Ok(lock) => Ok(Some(lock)),
            Err(e @ RecipeError::NotLocked { .. }) => {
                self.progress.note(&e.to_string());
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Adds to `named` the crates that the Cargo.lock at `path` names.
fn read_lock(path: &Path, named: &mut LockedPackages) -> Result<(), FarmError> {
    let unusable = |why: String| FarmError::Usage(format!("{}: {why}", path.display()));
    let bytes =
        hab_file::read(path, cargo_lock::LARGEST).map_err(|e| FarmError::Usage(hab_chain::chain(&e)))?;
    let text = String::from_utf8(bytes).map_err(|e| unusable(e.utf8_error().to_string()))?;
    let LockedPackages { crates, elsewhere } = cargo_lock::parse(&text).map_err(unusable)?;
    named.crates.extend(crates);
    named.elsewhere.extend(elsewhere);
    Ok(())
}

impl LockedNames {
    fn add(&mut self, table: &SourceTable, source: &LockedSource) -> Result<(), FarmError> {
        match table {
            SourceTable::DebianSource { suite, policy, .. } => {
                for f in source.files.iter() {
                    self.files.insert((suite.clone(), f.path.clone(), f.digest.clone(), f.size));
                }
                // A toolchain's policy takes precedence, because its packages are executed.
                self.suites.entry(suite.clone()).or_insert_with(|| policy.clone());
            }
            SourceTable::Crate { package, .. } => {
                for f in source.files.iter() {
                    self.crates.insert(LockedCrate::new(package, &source.version, f.digest.clone())?);
                }
            }
            // The tag's signature pins a git source, not a lock.
            SourceTable::Git { .. } => {}
        }
        Ok(())
    }
}

/// The indexes of component main that apt usually asks for, in the compression that it prefers. An `apt update` fails
/// if an index that the InRelease lists is missing, even a translation.
fn asked_for(release: &VerifiedRelease) -> Result<Vec<&SignedFile>, FarmError> {
    let mut asked = vec![release.index("main/source/Sources.xz")?];
    for platform in Platform::ALL {
        asked.push(release.index(&format!("main/binary-{}/Packages.xz", platform.architecture()))?);
    }
    let extra = |stem: &str| {
        let component = |p: &Platform| stem == format!("main/dep11/Components-{}.yml", p.architecture());
        stem.starts_with("main/i18n/Translation-") || Platform::ALL.iter().any(component)
    };
    let mut extras: BTreeMap<&str, (usize, &SignedFile)> = BTreeMap::new();
    for index in release.indexes() {
        let mut endings = [".xz", ".bz2", ".gz"].iter().enumerate();
        let found = endings.find_map(|(rank, ending)| Some((rank, index.name.strip_suffix(ending)?)));
        let (rank, stem) = found.unwrap_or((usize::MAX, &index.name));
        if extra(stem) && extras.get(stem).is_none_or(|(before, _)| rank < *before) {
            extras.insert(stem, (rank, index));
        }
    }
    asked.extend(extras.into_values().map(|(_, index)| index));
    Ok(asked)
}

/// Whether the error only says that something is not here, because fetching is forbidden.
fn is_absence(error: &FarmError) -> bool {
    matches!(error, FarmError::Mirror(MirrorError::Offline { .. }))
}

impl Missing {
    /// Records an error that is an upstream's fault. Every other error ends the work. So does an upstream that
    /// repeatedly does not answer, because each further file would wait for it.
    fn note(&self, progress: &dyn Progress, kept: Result<(), MirrorError>) -> Result<(), MirrorError> {
        match kept {
            Err(e) if e.is_silence() && self.silences.fetch_add(1, Ordering::Relaxed) >= PATIENCE => Err(e),
            Err(e) if matches!(e.fault(), Fault::Upstream | Fault::Refused) => {
                self.push(progress, e.into());
                Ok(())
            }
            other => other,
        }
    }

    fn add(&self, progress: &dyn Progress, error: FarmError) -> Result<(), FarmError> {
        match error {
            FarmError::Mirror(e) => Ok(self.note(progress, Err(e))?),
            FarmError::Refused(e) if e.is_verdict() => {
                self.push(progress, e.into());
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Records an error. What is missing only because the farm is offline is noted once, at the end; every other error
    /// is noted at once.
    fn push(&self, progress: &dyn Progress, error: FarmError) {
        if !is_absence(&error) {
            progress.note(&error.to_string());
        }
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
    }

    /// Notes in one line what is missing because the farm is offline.
    fn tell(&self, progress: &dyn Progress) {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut absent = errors.iter().filter(|e| is_absence(e));
        match (absent.next(), absent.count()) {
            (None, _) => {}
            (Some(one), 0) => progress.note(&one.to_string()),
            (Some(one), others) => {
                progress.note(&format!("{one} ({others} other files are not here either)"));
            }
        }
    }

    fn count(&self) -> usize {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn end(self, total: usize) -> Result<(), FarmError> {
        let errors = self.errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        let missing = errors.len();
        match errors.into_iter().next() {
            Some(first) => Err(FarmError::NotKept { missing, total, first: Box::new(first) }),
            None => Ok(()),
        }
    }
}
