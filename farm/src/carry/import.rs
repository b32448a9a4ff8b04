//! Takes in another farm's mirror as if it came from an upstream: `hab-build mirror import`.
//!
//! The whole file is read first, and its blobs go into a folder beside the store. Only then is any of it judged. A blob
//! moves to the store when something that was accepted here names it. The other blobs are deleted with the folder.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hab_keys::{Certificates, KeyId};
use hab_mirror::airgap::{self, Content, Manifest, ProjectEntry};
use hab_mirror::depends::Selection;
use hab_mirror::git::{State, Synced};
use hab_mirror::projects::Project;
use hab_mirror::{Keep as _, MirrorError};
use hab_oci::Digest;
use hab_store::Blobs;

use crate::carry::aside::Aside;
use crate::carry::goes_on;
use crate::error::FarmError;
use crate::facts::{Fact, Facts};
use crate::keep::StoreKeep;
use crate::mirrors::Mirrors;
use crate::progress::{MirrorView, Progress};
use crate::progress_reader::ProgressReader;
use crate::source::debian::Debian;
use crate::source::depends::DependsSources;
use crate::source::packages::Packages;
use crate::source::releases::Releases;
use crate::words::counted;

/// What to take from an export besides what the projects, locks and policies here name.
#[derive(Clone, Debug, Default)]
pub struct ImportSelection {
    /// Whether to take projects that are not known here. Later syncs will ask their addresses.
    pub strangers: bool,
    /// Cargo.lock files whose crates to take.
    pub crates: Vec<PathBuf>,
    /// Revisions whose depends sources to take, as (project, revision).
    pub depends: Vec<(String, String)>,
}

/// The result of an import.
#[derive(Debug, serde::Serialize)]
pub struct Imported {
    /// The digest of the export's manifest.
    pub manifest: Digest,
    /// What changed in each git project.
    pub projects: BTreeMap<String, Taken>,
    /// Projects in the export that are not known here.
    pub strangers: Vec<String>,
    /// The number of blobs in the export.
    pub blobs: usize,
    /// The number of names that are new here.
    pub names: usize,
    /// Blobs that were not kept, because nothing accepted here names them.
    pub nameless: Nameless,
    /// The number of files that locks here name and that neither this farm nor the export has.
    pub missing: usize,
}

/// A number of blobs, and their size.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Nameless {
    /// The number of blobs.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// A git project that was imported.
#[derive(Debug, serde::Serialize)]
pub struct Taken {
    /// Whether the import made its mirror.
    pub new: bool,
    /// The number of branches and tags it has now.
    pub refs: usize,
    /// What changed.
    #[serde(flatten)]
    pub synced: Synced,
}

/// Takes in an export.
#[derive(Clone, Copy)]
pub struct Importer<'a> {
    /// Holds imported blobs until something names them.
    pub aside: &'a Aside,
    /// Git projects.
    pub mirrors: Mirrors<'a>,
    /// The packages that locks here name.
    pub packages: Packages<'a>,
    /// Releases of projects that are known here.
    pub releases: Releases<'a>,
    /// Sources of depends packages.
    pub depends: DependsSources<'a>,
    /// Judges Debian suites.
    pub debian: Debian<'a>,
    /// Remembers what is accepted.
    pub facts: Facts<'a>,
    /// The store's blobs.
    pub blobs: &'a Blobs,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Importer<'_> {
    /// Takes in an export: blobs by their digests, git through quarantine and journal, an InRelease by its signature.
    /// Replaces nothing that is here, and keeps nothing that no document here names.
    pub fn run(&self, file: &Path, wanted: &ImportSelection) -> Result<Imported, FarmError> {
        if !file.exists() {
            return Err(FarmError::missing(file));
        }
        // An unreadable lock is the person's mistake: report it before all the work.
        let crates = self.packages.crates_of(&wanted.crates)?;
        let partial = self.keep().partial();
        let work = tempfile::tempdir_in(partial).map_err(FarmError::io(partial))?;
        self.progress.stage(&format!("read {}", file.display()));
        let manifest = self.read_aside(file, work.path())?;
        let mut imported = self.accept(file, &manifest, work.path(), (wanted, &crates))?;
        let (blobs, bytes) = self.aside.nameless();
        imported.nameless = Nameless { blobs, bytes };
        let (manifest, size) = (manifest.to_text(), manifest.to_text().len() as u64);
        let digest = Digest::of(manifest.as_bytes());
        self.facts.remember(&Fact::Import { manifest: &digest }, &digest, size)?;
        Ok(imported)
    }

    /// The store, together with the folder of imported blobs.
    pub fn keep(&self) -> &StoreKeep {
        self.mirrors.fetching.keep
    }

    /// Reads the whole file, to its last byte, and trusts none of it.
    fn read_aside(&self, file: &Path, work: &Path) -> Result<Manifest, FarmError> {
        let (done, total, what) = (Cell::new(0), Cell::new(0), file.display().to_string());
        let manifest = airgap::read(
            file,
            |manifest| {
                total.set(manifest.bytes());
                self.can_hold(file, total.get())?;
                self.can_follow(manifest)
            },
            |_, content, size, bytes| {
                let (at, progress) = (done.get(), self.progress);
                let total = total.get();
                let mut told = ProgressReader { inner: bytes, progress, what: &what, done: &done, total };
                let taken = match content {
                    Content::Blob(digest) => {
                        let known = self.blobs.get(digest).ok().flatten() == Some(size);
                        let put = self.aside.put(digest, &mut told, known);
                        put.map_err(|source| MirrorError::Keep { what: digest.to_string(), source })
                    }
                    Content::Journal(name) => lay(&work.join(format!("{name}.journal")), &mut told),
                    Content::Bundle(name) => lay(&work.join(format!("{name}.bundle")), &mut told),
                    Content::Certificate(name) => lay(&work.join(format!("{name}.certificate")), &mut told),
                };
                done.set(at + size);
                if !goes_on(progress, file, at + size, Some(total)) {
                    let what = format!("reading {}", file.display());
                    return Err(MirrorError::Stopped { what, then: "nothing of it is taken in" });
                }
                taken
            },
        )?;
        Ok(manifest)
    }

    /// Takes what the policies, locks and projects here accept.
    fn accept(
        &self,
        file: &Path,
        manifest: &Manifest,
        work: &Path,
        (wanted, crates): (&ImportSelection, &BTreeSet<hab_mirror::crates::LockedCrate>),
    ) -> Result<Imported, FarmError> {
        self.import_certificates(manifest, work)?;
        let (mut projects, mut strangers) = (BTreeMap::new(), Vec::new());
        for (at, entry) in manifest.projects.iter().enumerate() {
            self.progress.stage(&format!(
                "import {} ({} of {}): {}",
                entry.name,
                at + 1,
                manifest.projects.len(),
                counted(entry.refs.len() as u64, "ref")
            ));
            match self.import_project(entry, work, wanted.strangers)? {
                Some(taken) => drop(projects.insert(entry.name.clone(), taken)),
                None => strangers.push(entry.name.clone()),
            }
        }
        let names = self.import_names(manifest, crates)?;
        self.import_releases(manifest)?;
        for digest in self.packages.digests()? {
            let adopted = self.keep().adopt(&digest);
            adopted.map_err(|source| MirrorError::Keep { what: digest.to_string(), source })?;
        }
        // Serve the imported files under the names that the locks here give them.
        let (_, missing) = self.packages.keep_here(crates)?;
        for (project, revision) in &wanted.depends {
            let releases = Selection::releases().map_err(|e| FarmError::Usage(e.to_string()))?;
            let depends = self.depends.of(project, revision, &releases)?;
            self.depends.fetch(&depends)?;
        }
        if missing > 0 {
            self.progress.note(&format!(
                "{missing} files that locks here name were not in {} and are not here; `hab-build mirror packages` fetches \
                 them where there is a network",
                file.display()
            ));
        }
        Ok(Imported {
            manifest: manifest.digest(),
            projects,
            strangers,
            blobs: manifest.blobs.len(),
            names,
            nameless: Nameless { blobs: 0, bytes: 0 },
            missing,
        })
    }

    /// Checks that the disk has room for the whole file, because all of it is unpacked before any of it is judged.
    fn can_hold(&self, file: &Path, bytes: u64) -> Result<(), MirrorError> {
        let data = || self.mirrors.data.path().to_owned();
        let free =
            self.blobs.free().map_err(|e| MirrorError::Io { path: data(), source: io::Error::other(e) })?;
        if bytes > free {
            return Err(MirrorError::Malformed {
                what: file.display().to_string(),
                expected: "an export that fits on this disk",
                detail: format!("it unpacks to {bytes} bytes, and the disk has {free} left"),
            });
        }
        Ok(())
    }

    /// Checks that this farm has what an incremental export leaves out.
    fn can_follow(&self, manifest: &Manifest) -> Result<(), MirrorError> {
        let kept = |what: &Digest| {
            let what = what.to_string();
            move |source| MirrorError::Keep { what, source }
        };
        if let Some(since) = &manifest.since
            && self
                .keep()
                .latest(Fact::Import { manifest: since }.kind(), &since.to_string())
                .map_err(kept(since))?
                .is_some()
        {
            return Ok(());
        }
        for digest in &manifest.assumed {
            if self.keep().path(digest).map_err(kept(digest))?.is_none() {
                return Err(MirrorError::Malformed {
                    what: "the export".to_owned(),
                    expected: "one that continues what is here",
                    detail: format!(
                        "it leaves out {digest}, which is not here: import the export before it first"
                    ),
                });
            }
        }
        Ok(())
    }

    /// Imports the certificates that some policy pins, and no others.
    fn import_certificates(&self, manifest: &Manifest, work: &Path) -> Result<(), FarmError> {
        let names = manifest.certificates.iter().map(|(name, _)| work.join(format!("{name}.certificate")));
        let files: Vec<_> = names.collect();
        if files.is_empty() {
            return Ok(());
        }
        let mut pinned = BTreeSet::new();
        for policy in self.debian.trust.policies.some(None)? {
            pinned.extend(policy.pins().iter().map(|pin| pin.id.to_string()));
        }
        let read = Certificates::read(&files, |f| pinned.contains(&KeyId::OpenPgp(f.clone()).to_string()))?;
        // Remove what the export's maker may have added to them.
        read.slimmed().keep_in(&self.mirrors.data.certificates())?;
        Ok(())
    }

    fn import_project(
        &self,
        entry: &ProjectEntry,
        work: &Path,
        strangers: bool,
    ) -> Result<Option<Taken>, FarmError> {
        let known = self.mirrors.projects.all()?.get(&entry.name).cloned();
        let project = match known {
            Some(project) => project,
            None if strangers => {
                let said = Project::parse(&entry.name, &entry.project)?;
                // Only a person here decides how its history is checked and where its objects are kept.
                let project = Project { tolerate: Vec::new(), fork_of: None, ..said };
                let path = self.mirrors.projects.add(&project)?;
                self.progress.note(&format!("{} is a new project: {}", entry.name, path.display()));
                project
            }
            None => return Ok(None),
        };
        let new = !self.mirrors.repositories.has(&entry.name);
        let (mirror, wish) = self.mirrors.open(&project)?;
        let bundle = work.join(format!("{}.bundle", entry.name));
        let bundle = (entry.bundle > 0).then_some(bundle.as_path());
        let journal = work.join(format!("{}.journal", entry.name));
        let view = MirrorView(self.progress);
        let taken = mirror.carry_in(bundle, &journal, &entry.refs, entry.head.as_ref(), &wish, &view);
        if new && taken.is_err() {
            // Schedules and lists would show an empty mirror, and ask for it.
            self.mirrors.repositories.get(&entry.name)?.remove_empty(&view)?;
        }
        let synced = taken?;
        // The exported journal says what the other farm saw. It is evidence, though not our own.
        let kept = |source| MirrorError::Keep { what: entry.name.clone(), source };
        let mut text = File::open(&journal).map_err(FarmError::io(&journal))?;
        let (digest, size) = self.keep().take(None, &mut text).map_err(kept)?;
        self.facts.remember(&Fact::ImportedJournal { project: &entry.name }, &digest, size)?;
        mirror.record(&State { lacking: self.mirrors.lacking(&mirror), ..mirror.state() })?;
        self.mirrors.after_change(&mirror, project.policy.as_deref())?;
        Ok(Some(Taken { new, refs: mirror.refs()?.len(), synced }))
    }
}

fn lay(path: &Path, bytes: &mut dyn Read) -> Result<(), MirrorError> {
    let at = |source| MirrorError::Io { path: path.to_owned(), source };
    let mut file = File::create(path).map_err(at)?;
    io::copy(bytes, &mut file).map_err(at)?;
    Ok(())
}
