//! Writes everything that is mirrored here into one file: `hab-build mirror export`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use hab_mirror::airgap::{self, Content, ExportedName, Manifest, ProjectEntry};
use hab_mirror::git::without_user;
use hab_mirror::projects::Project;
use hab_mirror::{Keep as _, MirrorError, kinds};
use hab_oci::Digest;
use hab_store::Blobs;

use crate::carry::goes_on;
use crate::error::FarmError;
use crate::facts::ACCEPTED_RELEASE;
use crate::mirrors::Mirrors;
use crate::progress::{MirrorView, Progress};
use crate::source::packages::Packages;
use hab_clock::now;

/// The kinds of names whose bytes an export carries. The importer gives these names again, from its own locks,
/// revisions and policies. Only a line of a crates index is offered by name, because nothing else names it.
const CARRIED: [&str; 7] = [
    kinds::DEBIAN_POOL,
    kinds::DEBIAN_INDEX,
    kinds::CRATE,
    kinds::CRATE_LINE,
    kinds::DEPENDS_SOURCE,
    kinds::RELEASE_FILE,
    kinds::PLAIN_FILE,
];

/// The project without users and passwords in its addresses, because an export leaves the farm; its journal names none
/// either.
fn without_passwords(project: &Project) -> Project {
    Project { urls: project.urls.iter().map(|url| without_user(url)).collect(), ..project.clone() }
}

/// The result of an export.
#[derive(Debug, serde::Serialize)]
pub struct Exported {
    /// The digest of the export's manifest.
    pub manifest: Digest,
    /// The number of git projects.
    pub projects: usize,
    /// The number of blobs.
    pub blobs: usize,
    /// The file's size in bytes.
    pub bytes: u64,
}

/// Writes everything that is mirrored into one file.
#[derive(Clone, Copy)]
pub struct Exporter<'a> {
    /// Git projects.
    pub mirrors: Mirrors<'a>,
    /// The packages that locks name.
    pub packages: Packages<'a>,
    /// The blobs to export.
    pub blobs: &'a Blobs,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Exporter<'_> {
    /// Writes everything that is mirrored into `file`, but of git only the named projects, if any are named. Leaves out
    /// what the export `since` and those before it hold.
    pub fn run(&self, file: &Path, projects: &[String], since: Option<&Path>) -> Result<Exported, FarmError> {
        let before = since.map(airgap::manifest).transpose()?;
        let mut manifest = Manifest::new(now());
        manifest.since = before.as_ref().map(Manifest::digest);
        let keep = self.mirrors.fetching.keep;
        let work = tempfile::tempdir_in(keep.partial()).map_err(FarmError::io(keep.partial()))?;
        for project in self.carried_projects(projects)? {
            self.progress.stage(&format!("export {}", project.name));
            let mirror = self.mirrors.repositories.get(&project.name)?;
            let folder = work.path().join(&project.name);
            fs::create_dir(&folder).map_err(FarmError::io(&folder))?;
            let known = before.as_ref().and_then(|b| b.projects.iter().find(|p| p.name == project.name));
            let known = known.map(|p| &p.refs);
            let carried = mirror.carry_out(&folder, known, &MirrorView(self.progress))?;
            let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |m| m.len());
            manifest.projects.push(ProjectEntry {
                project: without_passwords(&project).to_text(),
                name: project.name,
                refs: carried.refs,
                head: carried.head,
                journal: size("journal"),
                bundle: if carried.bundle { size("bundle") } else { 0 },
            });
        }
        self.carried_blobs(&mut manifest, before.as_ref())?;
        let certificates = self.mirrors.data.certificates();
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
                let kept = keep.open(digest);
                kept.map_err(|source| MirrorError::Keep { what: digest.to_string(), source })?
                    .ok_or_else(|| MirrorError::Gone { what: digest.to_string() })
            }
        };
        airgap::write(file, &manifest, open, |done, total| goes_on(self.progress, file, done, Some(total)))?;
        Ok(Exported {
            manifest: manifest.digest(),
            projects: manifest.projects.len(),
            blobs: manifest.blobs.len(),
            bytes: fs::metadata(file).map_err(FarmError::io(file))?.len(),
        })
    }

    /// The mirrored projects to export. A project whose objects forks share comes before its forks.
    fn carried_projects(&self, names: &[String]) -> Result<Vec<Project>, FarmError> {
        let known = self.mirrors.projects.all()?;
        let mut found = Vec::new();
        for name in if names.is_empty() { self.mirrors.repositories.names() } else { names.to_vec() } {
            self.mirrors.repositories.get(&name)?;
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
        let mut wanted: BTreeSet<Digest> = self.packages.digests()?;
        for kind in CARRIED.into_iter().chain([ACCEPTED_RELEASE]) {
            for fact in self.mirrors.fetching.keep.names(kind).map_err(kept)? {
                wanted.insert(fact.digest.clone());
                let (name, digest, size) = (fact.name, fact.digest, fact.size);
                manifest.names.push(ExportedName { kind: kind.to_owned(), name, digest, size });
            }
        }
        let there: BTreeSet<&Digest> = before.into_iter().flat_map(Manifest::all_blobs).collect();
        for digest in wanted {
            if there.contains(&digest) {
                manifest.assumed.push(digest);
            } else if let Some(size) = self.blobs.get(&digest)? {
                manifest.blobs.push((digest, size));
            }
        }
        let carried: BTreeSet<&Digest> =
            manifest.blobs.iter().map(|(d, _)| d).chain(&manifest.assumed).collect();
        let names = manifest.names.iter().filter(|named| carried.contains(&named.digest)).cloned().collect();
        manifest.names = names;
        Ok(())
    }
}

fn opened(path: &Path) -> Result<File, MirrorError> {
    File::open(path).map_err(|source| MirrorError::Io { path: path.to_owned(), source })
}
