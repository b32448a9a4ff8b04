//! The format of an export: one zstd-compressed tar. First `manifest.json`, which says what follows and how large it is;
//! then `journals/<project>`, `bundles/<project>`, `certificates/<name>` and `blobs/<hex>`, in the manifest's order.
//!
//! A reader takes nothing for granted: an entry that the manifest does not announce, or of another size, or anything behind
//! the last one, makes the whole file worthless.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use hab_archive::{Compression, Decoder, Kind, Limits, Source, Tar, shown};
use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::MirrorError;

/// The version of the format.
const FORMAT: u32 = 1;
/// The largest manifest that is read or written, in bytes: 200,000 blobs with their names, or 800,000 refs.
const MANIFEST: u64 = 64 << 20;
/// How many things a manifest lists, counted by its commas. An honest one has 40 bytes for each; one of nothing but tiny
/// things would take many times its size in memory.
const ITEMS: usize = 2_000_000;
/// The largest blob that is taken, in bytes: as much as a file of a release may have.
const BLOB: u64 = 4 << 30;
/// What is read of a stranger's file. Packages, bundles and indexes are compressed already, so an export hardly shrinks;
/// one that grows a thousandfold is there to fill the disk.
const LIMITS: Limits = Limits {
    name: 300,
    link: 300,
    depth: 4,
    extension: 4096,
    entries: 1_000_000,
    entry: 1 << 40,
    total: 16 << 40,
    decoded: 17 << 40,
    ratio: Some(1000),
    memory: 128 << 20,
};

/// What an export holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// When it was made, in unix seconds.
    pub created: i64,
    /// The digest of the manifest of the earlier export that this one continues.
    pub since: Option<Digest>,
    /// Git projects.
    pub projects: Vec<ProjectEntry>,
    /// Certificates: file names and sizes in bytes.
    pub certificates: Vec<(String, u64)>,
    /// Blobs that follow, and their sizes in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// Blobs that the earlier exports held.
    pub assumed: Vec<Digest>,
    /// What names stand for which blobs.
    pub names: Vec<Named>,
}

/// A project of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectEntry {
    /// Its name.
    pub name: String,
    /// Its file.
    pub project: String,
    /// Every ref, those under `refs/history/` among them, and the object it names.
    pub refs: BTreeMap<String, String>,
    /// The branch that HEAD names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The journal's size in bytes.
    pub journal: u64,
    /// The bundle's size in bytes; 0: there is none, because nothing is new.
    pub bundle: u64,
}

/// A name and its blob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The kind of name.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Manifest {
    /// An empty one.
    pub fn new(created: i64) -> Self {
        Self {
            format: FORMAT,
            created,
            since: None,
            projects: Vec::new(),
            certificates: Vec::new(),
            blobs: Vec::new(),
            assumed: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Its text, as it is in the file.
    pub fn to_text(&self) -> String {
        // Only a map with keys that are not strings could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What later exports call it by.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// Every blob that is there once this is imported.
    pub fn all_blobs(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter().map(|(digest, _)| digest).chain(&self.assumed)
    }

    /// Bytes of all that follows it, as it says.
    pub fn bytes(&self) -> u64 {
        self.entries().iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size))
    }

    /// The entries that follow it, in order.
    fn entries(&self) -> Vec<(Content, u64)> {
        let mut all = Vec::new();
        for project in &self.projects {
            all.push((Content::Journal(project.name.clone()), project.journal));
            if project.bundle > 0 {
                all.push((Content::Bundle(project.name.clone()), project.bundle));
            }
        }
        all.extend(self.certificates.iter().map(|(name, size)| (Content::Certificate(name.clone()), *size)));
        all.extend(self.blobs.iter().map(|(digest, size)| (Content::Blob(digest.clone()), *size)));
        all
    }
}

/// One entry after the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A project's journal.
    Journal(String),
    /// A project's bundle (gitformat-bundle(5)).
    Bundle(String),
    /// An OpenPGP certificate.
    Certificate(String),
    /// A blob.
    Blob(Digest),
}

impl Content {
    fn path(&self) -> String {
        match self {
            Self::Journal(name) => format!("journals/{name}"),
            Self::Bundle(name) => format!("bundles/{name}"),
            Self::Certificate(name) => format!("certificates/{name}"),
            Self::Blob(digest) => format!("blobs/{}", digest.hex()),
        }
    }
}

/// Writes an export beside `file` and renames it when it is whole. `open` gives the bytes of each entry in turn.
pub fn write(
    file: &Path,
    manifest: &Manifest,
    mut open: impl FnMut(&Content) -> Result<File, MirrorError>,
    mut told: impl FnMut(u64, u64) -> bool,
) -> Result<(), MirrorError> {
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(MirrorError::io(folder))?;
    let io = |e| MirrorError::io(file)(e);
    let mut zstd = zstd::Encoder::new(temporary.as_file(), 3).map_err(io)?;
    zstd.multithread(std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)))
        .map_err(io)?;
    let mut tar = tar::Builder::new(zstd);
    let text = manifest.to_text();
    // What nobody could read is not written.
    parse(text.as_bytes()).map_err(|detail| malformed(file, detail))?;
    if text.len() as u64 > MANIFEST {
        return Err(malformed(
            file,
            format!("its manifest has {} bytes: at most {MANIFEST} are read", text.len()),
        ));
    }
    append(&mut tar, "manifest.json", text.len() as u64, text.as_bytes()).map_err(io)?;
    let entries = manifest.entries();
    let total: u64 = entries.iter().map(|(_, size)| size).sum();
    let mut done = 0;
    for (content, size) in &entries {
        append(&mut tar, &content.path(), *size, open(content)?).map_err(io)?;
        done += size;
        if !told(done, total) {
            let what = format!("writing {}", file.display());
            return Err(MirrorError::Stopped { what, then: "nothing of it is kept" });
        }
    }
    tar.into_inner().and_then(zstd::Encoder::finish).map_err(io)?;
    temporary.as_file().sync_all().map_err(io)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(temporary.path(), mode).map_err(io)?;
    temporary.persist(file).map_err(|e| io(e.error))?;
    Ok(())
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, size: u64, bytes: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut bytes = bytes.take(size);
    tar.append_data(&mut header, path, &mut bytes)?;
    // A file that shrank meanwhile would make every later entry unreadable.
    if bytes.limit() > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Reads an export: its manifest to `begin`, then every entry in the manifest's order to `take`.
///
/// Nothing is believed of an export before all of it was read: an entry that nobody announced, one of another size, and
/// bytes behind its end are errors like any other, so whoever takes entries keeps them apart until this returns.
pub fn read(
    file: &Path,
    begin: impl FnOnce(&Manifest) -> Result<(), MirrorError>,
    mut take: impl FnMut(&Manifest, &Content, u64, &mut dyn Read) -> Result<(), MirrorError>,
) -> Result<Manifest, MirrorError> {
    let malformed = |detail: String| malformed(file, detail);
    let unusable = |detail: String| MirrorError::NotAFile { path: file.to_owned(), detail };
    // A pipe would be waited for, and is read once only.
    if !std::fs::metadata(file).map_err(|e| unusable(e.to_string()))?.is_file() {
        return Err(unusable("it is a folder, a pipe or a device".to_owned()));
    }
    let opened = BufReader::with_capacity(128 * 1024, File::open(file).map_err(MirrorError::io(file))?);
    let zstd = Decoder::new(Compression::Zstd, opened, &LIMITS).map_err(MirrorError::io(file))?;
    let mut tar = Tar::new(zstd, &LIMITS);
    next(&mut tar, "manifest.json", None).map_err(malformed)?;
    let text = tar.whole(MANIFEST).map_err(|e| malformed(e.words()))?;
    let manifest = parse(&text).map_err(malformed)?;
    begin(&manifest)?;
    for (content, size) in manifest.entries() {
        let path = content.path();
        next(&mut tar, &path, Some(size)).map_err(malformed)?;
        let mut entry = Watched { inner: tar.content(), failed: None };
        let taken = take(&manifest, &content, size, &mut entry);
        // Whoever was given it cannot know that it was the file's fault.
        if let Some(detail) = entry.failed {
            return Err(malformed(format!("{path} does not read: {detail}")));
        }
        taken?;
    }
    tar.finish().map_err(|e| malformed(e.words()))?;
    Ok(manifest)
}

/// The next entry, which must be the file `path` of exactly `size` bytes.
fn next<S: Source>(tar: &mut Tar<S>, path: &str, size: Option<u64>) -> Result<(), String> {
    let entry = tar.next_entry().map_err(|e| e.words())?.ok_or_else(|| format!("it ends before {path}"))?;
    if entry.path != path.as_bytes() || entry.kind != Kind::File {
        return Err(format!("where {path} should be is {}", shown(&entry.path)));
    }
    match size.filter(|size| *size != entry.size) {
        Some(size) => Err(format!("{path} has {} bytes, not {size} as its manifest says", entry.size)),
        None => Ok(()),
    }
}

/// A manifest that this program can follow.
fn parse(text: &[u8]) -> Result<Manifest, String> {
    let items = text.split(|b| *b == b',').count() - 1;
    if items > ITEMS {
        return Err(format!("its manifest lists more than {ITEMS} things"));
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| format!("its manifest: {e}"))?;
    if manifest.format != FORMAT {
        return Err(format!("it is of format {}, this program reads {FORMAT}", manifest.format));
    }
    check(&manifest)?;
    Ok(manifest)
}

fn malformed(file: &Path, detail: String) -> MirrorError {
    MirrorError::Malformed { what: file.display().to_string(), expected: "an export of a mirror", detail }
}

/// Remembers whether reading failed.
struct Watched<R> {
    inner: R,
    failed: Option<String>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.inner.read(to).inspect_err(|e| self.failed = Some(e.to_string()))
    }
}

/// The manifest of an export, without what follows it.
pub fn manifest(file: &Path) -> Result<Manifest, MirrorError> {
    let mut found = None;
    let stop = |manifest: &Manifest| {
        found = Some(manifest.clone());
        Err(MirrorError::Cancelled { what: String::new() })
    };
    match read(file, stop, |_, _, _, _| Ok(())) {
        Err(MirrorError::Cancelled { .. }) => {}
        Err(e) => return Err(e),
        Ok(manifest) => return Ok(manifest),
    }
    found.ok_or_else(|| MirrorError::Cancelled { what: file.display().to_string() })
}

/// Names become file names.
fn check(manifest: &Manifest) -> Result<(), String> {
    for project in &manifest.projects {
        if !crate::git::is_project_name(&project.name) {
            return Err(format!("{:?} is not a project's name", project.name));
        }
        // What an upstream may send.
        let most = crate::git::Bounds::default().packs;
        if project.bundle > most || project.journal > crate::git::JOURNAL_LIMIT {
            return Err(format!("what is carried of {} is larger than one may be", project.name));
        }
    }
    if let Some((digest, size)) = manifest.blobs.iter().find(|(_, size)| *size > BLOB) {
        return Err(format!("blob {digest} has {size} bytes, more than the {BLOB} that are taken"));
    }
    // One name twice would be two contents for one file.
    let mut seen = BTreeSet::new();
    if let Some(path) =
        manifest.entries().iter().map(|(content, _)| content.path()).find(|p| !seen.insert(p.clone()))
    {
        return Err(format!("it announces {path} twice"));
    }
    let plain =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains('/') && name.len() < 200;
    match manifest.certificates.iter().find(|(name, size)| !plain(name) || *size > 16 << 20) {
        Some((name, _)) => Err(format!("{name:?} is not a certificate's file")),
        None => Ok(()),
    }
}
