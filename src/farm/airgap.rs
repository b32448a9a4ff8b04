//! To a place without a network and in from there: `hab-build mirror export` and `import`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use hab_keys::debian::VerifiedRelease;
use hab_mirror::airgap::{self, Content, Manifest, Named, ProjectEntry};
use hab_mirror::git::{Synced, without_user};
use hab_mirror::projects::Project;
use hab_mirror::release::{List, release_name};
use hab_mirror::{Keep as _, MirrorError, kinds};
use hab_oci::Digest;

use super::archives::name_release_files;
use super::progress::MirrorView;
use super::sources::ACCEPTED;
use super::{Farm, FarmError, open};

/// The kinds of names whose bytes are carried. The names themselves are for whoever imports to give again, from its own locks,
/// revisions and policies; only a line of a crates index, which nothing else names, is offered to them.
const CARRIED: [&str; 7] = [
    kinds::DEBIAN_POOL,
    kinds::DEBIAN_INDEX,
    kinds::CRATE,
    kinds::CRATE_LINE,
    kinds::DEPENDS_SOURCE,
    kinds::RELEASE_FILE,
    kinds::PLAIN_FILE,
];

/// Whose journal names no password must not hand one on by another way.
fn without_passwords(project: &Project) -> Project {
    Project { urls: project.urls.iter().map(|url| without_user(url)).collect(), ..project.clone() }
}

/// What was exported.
#[derive(Debug, serde::Serialize)]
pub struct Exported {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// How many git projects.
    pub projects: usize,
    /// How many blobs.
    pub blobs: usize,
    /// The file's size in bytes.
    pub bytes: u64,
}

/// What was imported.
#[derive(Debug, serde::Serialize)]
pub struct Imported {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// What changed of each git project.
    pub projects: BTreeMap<String, Synced>,
    /// How many blobs it held.
    pub blobs: usize,
    /// How many names are new here.
    pub names: usize,
}

impl Farm {
    /// Writes everything that is mirrored into `file`, or of git only the named projects; without what the export `since`
    /// and those before it hold.
    pub fn mirror_export(
        &self,
        file: &Path,
        projects: &[String],
        since: Option<&Path>,
    ) -> Result<Exported, FarmError> {
        let before = since.map(airgap::manifest).transpose()?;
        let mut manifest = Manifest::new(open::now());
        manifest.since = before.as_ref().map(Manifest::digest);
        let work = tempfile::tempdir_in(self.keep.partial()).map_err(FarmError::io(self.keep.partial()))?;
        for project in self.carried_projects(projects)? {
            self.progress.stage(&format!("export {}", project.name));
            let mirror = self.mirrored(&project.name)?;
            let folder = work.path().join(&project.name);
            fs::create_dir(&folder).map_err(FarmError::io(&folder))?;
            let known = before.as_ref().and_then(|b| b.projects.iter().find(|p| p.name == project.name));
            let known = known.map(|p| &p.refs);
            let carried = mirror.carry_out(&folder, known, &MirrorView(self.progress.as_ref()))?;
            let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |m| m.len());
            manifest.projects.push(ProjectEntry {
                project: without_passwords(&project).to_text(),
                name: project.name,
                refs: carried.refs,
                journal: size("journal"),
                bundle: if carried.bundle { size("bundle") } else { 0 },
            });
        }
        self.carried_blobs(&mut manifest, before.as_ref())?;
        let certificates = self.certificate_folder();
        for entry in fs::read_dir(&certificates).into_iter().flatten().flatten() {
            let size = entry.metadata().map_or(0, |m| m.len());
            manifest.certificates.push((entry.file_name().to_string_lossy().into_owned(), size));
        }
        manifest.certificates.sort();
        self.progress.stage(&format!("write {}", file.display()));
        let open = |content: &Content| match content {
            Content::Journal(name) => opened(&work.path().join(name).join("journal")),
            Content::Bundle(name) => opened(&work.path().join(name).join("bundle")),
            Content::Certificate(name) => opened(&certificates.join(name)),
            Content::Blob(digest) => {
                let kept = self.keep.open(digest);
                kept.map_err(|source| MirrorError::Keep { what: digest.to_string(), source })?
                    .ok_or_else(|| MirrorError::Offline { what: digest.to_string() })
            }
        };
        airgap::write(file, &manifest, open, |done, total| self.carrying(file, done, Some(total)))?;
        Ok(Exported {
            manifest: manifest.digest(),
            projects: manifest.projects.len(),
            blobs: manifest.blobs.len(),
            bytes: fs::metadata(file).map_err(FarmError::io(file))?.len(),
        })
    }

    /// The mirrored projects that are to be carried; those whose objects others share come first.
    fn carried_projects(&self, names: &[String]) -> Result<Vec<Project>, FarmError> {
        let known = self.projects()?;
        let mut found = Vec::new();
        for name in if names.is_empty() { self.mirrored_names() } else { names.to_vec() } {
            self.mirrored(&name)?;
            let project = known.get(&name).cloned();
            found.push(
                project.unwrap_or_else(|| Project::new(&name, vec![format!("https://{name}.invalid")])),
            );
        }
        found.sort_by_key(|project| project.fork_of.is_some());
        Ok(found)
    }

    /// Every blob that has a name, or that a lock names.
    fn carried_blobs(&self, manifest: &mut Manifest, before: Option<&Manifest>) -> Result<(), FarmError> {
        let kept = |source| MirrorError::Keep { what: "what is mirrored".to_owned(), source };
        let mut wanted: BTreeSet<Digest> = self.locked_digests()?;
        for kind in CARRIED.into_iter().chain([ACCEPTED]) {
            for fact in self.keep.names(kind).map_err(kept)? {
                wanted.insert(fact.digest.clone());
                let (name, digest, size) = (fact.name, fact.digest, fact.size);
                manifest.names.push(Named { kind: kind.to_owned(), name, digest, size });
            }
        }
        let there: BTreeSet<&Digest> = before.into_iter().flat_map(Manifest::all_blobs).collect();
        for digest in wanted {
            if there.contains(&digest) {
                manifest.assumed.push(digest);
            } else if let Some(size) = self.store.blobs.get(&digest)? {
                manifest.blobs.push((digest, size));
            }
        }
        let carried: BTreeSet<&Digest> =
            manifest.blobs.iter().map(|(d, _)| d).chain(&manifest.assumed).collect();
        let names = manifest.names.iter().filter(|named| carried.contains(&named.digest)).cloned().collect();
        manifest.names = names;
        Ok(())
    }

    /// Takes in an export, as if it came from an upstream: blobs by their digests, git through quarantine and journal, an
    /// InRelease by its signature. What is here already is not replaced. A project that is not known here is left out, unless
    /// `strangers` says otherwise: its addresses will be asked.
    pub fn mirror_import(&self, file: &Path, strangers: bool) -> Result<Imported, FarmError> {
        if !file.exists() {
            return Err(FarmError::Usage(format!("{} does not exist", file.display())));
        }
        let work = tempfile::tempdir_in(self.keep.partial()).map_err(FarmError::io(self.keep.partial()))?;
        self.progress.stage(&format!("read {}", file.display()));
        let mut done = 0;
        let manifest = airgap::read(
            file,
            |manifest| self.can_follow(manifest),
            |_, content, size, bytes| {
                match content {
                    Content::Blob(digest) => {
                        let taken = self.keep.take(Some(digest), bytes);
                        taken.map_err(|source| MirrorError::Keep { what: digest.to_string(), source })?;
                    }
                    Content::Journal(name) => lay(&work.path().join(format!("{name}.journal")), bytes)?,
                    Content::Bundle(name) => lay(&work.path().join(format!("{name}.bundle")), bytes)?,
                    Content::Certificate(name) => {
                        lay(&work.path().join(format!("{name}.certificate")), bytes)?;
                    }
                }
                done += size;
                if self.carrying(file, done, None) {
                    Ok(())
                } else {
                    Err(MirrorError::Cancelled { what: file.display().to_string() })
                }
            },
        )?;
        let certificates: Vec<_> = manifest
            .certificates
            .iter()
            .map(|(name, _)| work.path().join(format!("{name}.certificate")))
            .collect();
        if !certificates.is_empty() {
            self.import_keys(&certificates)?;
        }
        let mut projects = BTreeMap::new();
        for entry in &manifest.projects {
            self.progress.stage(&format!("import {}", entry.name));
            if let Some(synced) = self.import_project(entry, work.path(), strangers)? {
                projects.insert(entry.name.clone(), synced);
            }
        }
        let names = self.import_names(&manifest)?;
        self.import_releases(&manifest)?;
        // What came is served under the names that the locks here give it.
        if let Err(e) = self.keep_packages() {
            self.progress.note(&format!("not all that locks here name came with it: {e}"));
        }
        Ok(Imported { manifest: manifest.digest(), projects, blobs: manifest.blobs.len(), names })
    }

    /// An export that continues another needs what that one held.
    fn can_follow(&self, manifest: &Manifest) -> Result<(), MirrorError> {
        for digest in &manifest.assumed {
            let kept = self.keep.path(digest);
            let kept = kept.map_err(|source| MirrorError::Keep { what: digest.to_string(), source })?;
            if kept.is_none() {
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

    fn import_project(
        &self,
        entry: &ProjectEntry,
        work: &Path,
        strangers: bool,
    ) -> Result<Option<Synced>, FarmError> {
        let known = self.projects()?.get(&entry.name).cloned();
        let project = match known {
            Some(project) => project,
            None if strangers => {
                let said = Project::parse(&entry.name, &entry.project)?;
                // How its history is checked and where its objects lie is for a person here to say.
                let project = Project { tolerate: Vec::new(), fork_of: None, ..said };
                let path = self.add_project(&project)?;
                self.progress.note(&format!("{} is a new project: {}", entry.name, path.display()));
                project
            }
            None => {
                self.progress.note(&format!(
                    "{} is left out, because no project here has that name; `hab-build mirror add {}` makes one, \
                     --new-projects takes the file's word for it",
                    entry.name, entry.name
                ));
                return Ok(None);
            }
        };
        let (mirror, wish) = self.open_mirror(&project)?;
        let bundle = work.join(format!("{}.bundle", entry.name));
        let bundle = (entry.bundle > 0).then_some(bundle.as_path());
        let journal = work.join(format!("{}.journal", entry.name));
        let view = MirrorView(self.progress.as_ref());
        let synced = mirror.carry_in(bundle, &journal, &entry.refs, &wish, &view)?;
        // Whoever exported says with it what he saw: evidence, though not ours.
        let text = fs::read(&journal).map_err(FarmError::io(&journal))?;
        let digest = self.store.blobs.put(&text)?;
        let kept = |source| MirrorError::Keep { what: entry.name.clone(), source };
        self.keep.remember("imported-journal", &entry.name, &digest, text.len() as u64).map_err(kept)?;
        self.synced(&mirror, project.policy.as_deref())?;
        Ok(Some(synced))
    }

    /// An InRelease counts if it is accepted here; a line of a crates index waits for a lock.
    fn import_names(&self, manifest: &Manifest) -> Result<usize, FarmError> {
        let mut new = 0;
        for named in &manifest.names {
            let kept = |source| MirrorError::Keep { what: named.name.clone(), source };
            let offered = kinds::CRATE_LINE_OFFERED;
            match named.kind.as_str() {
                ACCEPTED => new += usize::from(self.import_release(named)?),
                kinds::CRATE_LINE
                    if self.keep.latest(offered, &named.name).map_err(kept)?.as_ref()
                        != Some(&named.digest) =>
                {
                    self.keep.remember(offered, &named.name, &named.digest, named.size).map_err(kept)?;
                    new += 1;
                }
                _ => {}
            }
        }
        Ok(new)
    }

    /// Releases of projects that are known here, if their lists are accepted here; and the files that their tables pin.
    fn import_releases(&self, manifest: &Manifest) -> Result<(), FarmError> {
        let carried: BTreeMap<&str, &Digest> = manifest
            .names
            .iter()
            .filter(|named| named.kind == kinds::RELEASE_FILE)
            .map(|named| (named.name.as_str(), &named.digest))
            .collect();
        let versions: BTreeSet<(&str, &str)> =
            carried.keys().filter_map(|name| name.rsplit_once('/')?.0.split_once('/')).collect();
        let projects = self.projects()?;
        for (project, version) in versions {
            let Some(table) = projects.get(project).and_then(|p| p.release.as_ref()) else { continue };
            let document = |name: &str| {
                let name = name.replace("{version}", version);
                let digest = carried.get(release_name(project, version, &name).as_str())?;
                Some((name, self.store.blobs.read(digest).ok()??))
            };
            let Some(sums) = document(&table.sums) else { continue };
            let list =
                List { sums, signatures: table.signatures.iter().filter_map(|n| document(n)).collect() };
            let (hashes, _) = self.judge_list((project, table, version), &list)?;
            self.fetching(|fetcher, _| {
                name_release_files(fetcher, (project, table, version), &list, &hashes)
            })?;
        }
        for project in projects.iter() {
            for file in &project.files {
                if self.store.blobs.get(&file.sha256)?.is_some() {
                    self.sync_file(file)?;
                }
            }
        }
        Ok(())
    }

    /// An InRelease that the exporting farm accepted is judged here, and counts if it is newer than what was accepted here.
    fn import_release(&self, named: &Named) -> Result<bool, FarmError> {
        let Some(policy) = self.suite_policies()?.remove(&named.name) else {
            self.progress.note(&format!(
                "the InRelease of {} is not judged: no toolchain or recipe here names that suite",
                named.name
            ));
            return Ok(false);
        };
        let kept = |source| MirrorError::Keep { what: named.name.clone(), source };
        if self.keep.latest(ACCEPTED, &named.name).map_err(kept)?.as_ref() == Some(&named.digest) {
            return Ok(false);
        }
        let suite = self.suite(&named.name)?;
        let bytes = self.store.blobs.read(&named.digest)?.unwrap_or_default();
        let policy = self.policy(&policy)?;
        let certificates = self.certificates(&policy, &[])?;
        let judge = self.judge(&policy, &certificates);
        let verify = |bytes: &[u8]| VerifiedRelease::verify(bytes, suite.name(), &judge);
        let release = verify(&bytes)?;
        self.fetching(|fetcher, _| self.newer(fetcher, &suite, release, &bytes, verify))?;
        Ok(true)
    }

    /// Shows how far it is; `false` when the person asked to stop.
    fn carrying(&self, file: &Path, done: u64, total: Option<u64>) -> bool {
        self.progress.amount(&file.display().to_string(), done, total);
        !self.progress.cancel().load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn opened(path: &Path) -> Result<File, MirrorError> {
    File::open(path).map_err(|source| MirrorError::Io { path: path.to_owned(), source })
}

fn lay(path: &Path, bytes: &mut dyn Read) -> Result<(), MirrorError> {
    let at = |source| MirrorError::Io { path: path.to_owned(), source };
    let mut file = File::create(path).map_err(at)?;
    io::copy(bytes, &mut file).map_err(at)?;
    Ok(())
}
