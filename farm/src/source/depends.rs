//! The sources of Bitcoin Core's depends packages: mirrored by digest, and written out for make.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use hab_mirror::depends::{self, DependsSource, Selection};
use hab_mirror::{Address, FileToFetch, Keep as _, MirrorError, Size};
use hab_oci::Digest;

use crate::error::{FarmError, worst};
use crate::facts::{Fact, Facts};
use crate::fetching::Fetching;
use crate::mirrors::repositories::Repositories;
use crate::progress::Progress;

/// The largest source that is fetched, in bytes. Compilers, which old versions fetched, have half of that.
const LIMIT: u64 = 1 << 30;

/// The depends sources that one revision names.
#[derive(Debug, serde::Serialize)]
pub struct Depends {
    /// The project.
    pub project: String,
    /// The revision, as it was asked for.
    pub revision: String,
    /// The commit of that revision.
    pub commit: String,
    /// How long it took to read them, in milliseconds.
    pub milliseconds: u64,
    /// The sources by package, in each package's order.
    pub sources: Vec<DependsSource>,
}

/// The files that were written for make.
#[derive(Debug, serde::Serialize)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// The commit whose sources they are.
    pub commit: String,
    /// The number of files.
    pub files: usize,
    /// The number of stamps.
    pub stamps: usize,
}

/// Sources of depends packages.
#[derive(Clone, Copy)]
pub struct DependsSources<'a> {
    /// The repositories whose revisions name sources.
    pub repositories: Repositories<'a>,
    /// Fetches the sources.
    pub fetching: Fetching<'a>,
    /// Remembers the names under which they are served.
    pub facts: Facts<'a>,
    /// Folders to ask after the address that the package itself names.
    pub mirrors: &'a [String],
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl DependsSources<'_> {
    /// The sources that a revision of a mirrored project names.
    pub fn of(&self, project: &str, revision: &str, selection: &Selection) -> Result<Depends, FarmError> {
        let mirror = self.repositories.get(project)?;
        let unknown = || FarmError::Usage(format!("{project} has no revision {revision} here"));
        let commit = mirror.commit_id(revision).ok_or_else(unknown)?;
        let start = std::time::Instant::now();
        let files = mirror.files(&commit, "depends")?;
        let what = || format!("{project} {revision}");
        let sources = depends::sources(&files, selection)
            .map_err(|source| MirrorError::Depends { what: what(), source })?;
        let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (project, revision) = (project.to_owned(), revision.to_owned());
        Ok(Depends { project, revision, commit, milliseconds, sources })
    }

    /// Fetches the sources that are not here yet. A source that nobody has does not stop the others; the error comes at
    /// the end.
    pub fn fetch(&self, depends: &Depends) -> Result<(), FarmError> {
        self.progress.stage(&format!("mirror the sources of {} {}", depends.project, depends.revision));
        let wanted: Vec<_> = depends.sources.iter().map(|source| self.wanted(source)).collect();
        let failures = self.fetching.with(|fetcher, _| fetcher.fetch_each(&wanted))?;
        self.remember(&depends.sources)?;
        worst(failures, self.progress)
    }

    fn wanted(&self, source: &DependsSource) -> FileToFetch {
        // The address comes from the repository's makefiles, so anybody who may write there chooses it.
        let mut urls = vec![Address::from_outside(&source.url)];
        // Old versions ask a fallback for the upstream's file name, so some mirrors have the file by that name.
        let names = BTreeSet::from([&source.file, &source.download_file]);
        for mirror in self.mirrors {
            let folder = mirror.trim_end_matches('/');
            urls.extend(names.iter().map(|name| Address::from(format!("{folder}/{name}"))));
        }
        FileToFetch {
            what: source.file.clone(),
            urls,
            digest: source.digest.clone(),
            size: Size::AtMost(LIMIT),
        }
    }

    /// Remembers the sources that are here, by the names that a checkout's `FALLBACK_DOWNLOAD_PATH` asks for.
    fn remember(&self, sources: &[DependsSource]) -> Result<(), FarmError> {
        let mut names: BTreeMap<&str, &Digest> = BTreeMap::new();
        for source in sources {
            names.insert(&source.file, &source.digest);
        }
        for source in sources {
            // Two packages may have files of one name, such as v1.0.tar.gz. Only one of them can be served by it.
            if depends::is_file_name(&source.download_file) {
                names.entry(&source.download_file).or_insert(&source.digest);
            }
        }
        for (name, digest) in names {
            let kept = |source| MirrorError::Keep { what: name.to_owned(), source };
            let Some(file) = self.fetching.keep.open(digest).map_err(kept)? else { continue };
            let latest = self.facts.latest(&Fact::DependsSource { file: name })?;
            if latest.as_ref().is_some_and(|latest| latest != digest) {
                self.progress
                    .note(&format!("{name} was another file before; the newest is served by that name"));
            }
            let size = file.metadata().map_err(FarmError::io(name))?.len();
            self.facts.remember(&Fact::DependsSource { file: name }, digest, size)?;
        }
        Ok(())
    }

    /// Writes the sources and their stamps into `folder`, as make would have done. Checks each file's digest again, and
    /// writes a stamp only after all the files that it names.
    pub fn export(&self, depends: &Depends, folder: &Path) -> Result<Exported, FarmError> {
        self.progress.stage(&format!("write the sources to {}", folder.display()));
        let stamps = folder.join("download-stamps");
        fs::create_dir_all(&stamps).map_err(FarmError::io(&stamps))?;
        let folder = fs::canonicalize(folder).map_err(FarmError::io(folder))?;
        let mut lines: BTreeMap<&str, String> = BTreeMap::new();
        let mut written = BTreeSet::new();
        for source in &depends.sources {
            if written.insert(&source.file) {
                self.export_source(source, &folder)?;
            }
            let lines = lines.entry(&source.stamp).or_default();
            lines.push_str(&format!("{}  {}\n", source.digest.hex(), source.file));
        }
        for (stamp, lines) in &lines {
            place(&mut lines.as_bytes(), None, &stamps.join(stamp))?;
        }
        Ok(Exported { folder, commit: depends.commit.clone(), files: written.len(), stamps: lines.len() })
    }

    fn export_source(&self, source: &DependsSource, folder: &Path) -> Result<(), FarmError> {
        let kept = self.fetching.keep.open(&source.digest);
        let kept = kept.map_err(|e| MirrorError::Keep { what: source.file.clone(), source: e })?;
        let mut kept = kept.ok_or_else(|| MirrorError::Gone { what: source.file.clone() })?;
        place(&mut kept, Some((&source.file, &source.digest)), &folder.join(&source.file))
    }
}

/// Writes a file that a build by another user may read. With `expected` the bytes on the disk must have that digest.
fn place(from: &mut dyn Read, expected: Option<(&str, &Digest)>, to: &Path) -> Result<(), FarmError> {
    let mut wrong = None;
    let placed = hab_file::replace(to, 0o644, |file| {
        io::copy(from, file)?;
        let Some((what, expected)) = expected else { return Ok(()) };
        file.rewind()?;
        let (actual, _) = Digest::of_reader(file)?;
        if actual == *expected {
            return Ok(());
        }
        let (what, url) = (what.to_owned(), "this store".to_owned());
        wrong = Some(MirrorError::WrongDigest { what, url, expected: expected.clone(), actual });
        Err(io::ErrorKind::InvalidData.into())
    });
    match wrong {
        Some(wrong) => Err(wrong.into()),
        None => Ok(placed?),
    }
}
