//! The format of an export: one zstd-compressed tar. It begins with `manifest.json`, which lists what follows and its
//! size; then come `journals/<project>`, `bundles/<project>`, `certificates/<name>` and `blobs/<hex>`, in the
//! manifest's order.
//!
//! The reader is strict: it refuses the whole file if an entry is not in the manifest or has another size, or if
//! anything follows the last entry.

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
/// The most items that a manifest lists, counted by its commas. In an honest manifest an item has some 40 bytes; one
/// full of tiny items would take many times its size in memory.
const ITEMS: usize = 2_000_000;
/// The largest blob that is accepted, in bytes; a release file may be as large.
const BLOB: u64 = 4 << 30;
/// Limits for a stranger's file. Packages, bundles and indexes are compressed already, so an export hardly shrinks; a
/// file that grows a thousandfold is made to fill the disk.
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

/// The table of contents of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// The time at which it was made, in Unix seconds.
    pub created: i64,
    /// The digest of the earlier export's manifest that this export continues.
    pub since: Option<Digest>,
    /// Git projects.
    pub projects: Vec<ProjectEntry>,
    /// Certificates, with file names and sizes in bytes.
    pub certificates: Vec<(String, u64)>,
    /// Blobs in this export, with their sizes in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// Blobs that earlier exports held.
    pub assumed: Vec<Digest>,
    /// Names, and the blobs that they stand for.
    pub names: Vec<ExportedName>,
}

/// A project of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectEntry {
    /// Its name.
    pub name: String,
    /// The text of its project file.
    pub project: String,
    /// Every ref, with those under `refs/history/`, and the object that it names.
    pub refs: BTreeMap<String, String>,
    /// The branch that HEAD names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The journal's size in bytes.
    pub journal: u64,
    /// The bundle's size in bytes; 0 if there is no bundle because nothing is new.
    pub bundle: u64,
}

/// A name and its blob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedName {
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
    /// An empty manifest.
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

    /// The manifest's text, as it stands in the file.
    pub fn to_text(&self) -> String {
        // Serialising fails only for maps whose keys are not strings.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The digest by which later exports refer to this one.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// Every blob that is present after this export was imported.
    pub fn all_blobs(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter().map(|(digest, _)| digest).chain(&self.assumed)
    }

    /// The bytes of everything that follows the manifest, by its own numbers.
    pub fn bytes(&self) -> u64 {
        self.entries().iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size))
    }

    /// The entries that follow the manifest, in order.
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

/// Writes an export to a temporary file beside `file`, and renames it when it is complete. `open` returns the bytes of
/// each entry.
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
    // Do not write what no reader would accept.
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
            return Err(MirrorError::Stopped { what, then: "no part of the file is left" });
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

/// Reads an export: passes its manifest to `begin`, then every entry in the manifest's order to `take`.
///
/// An export counts only after all of it was read: an entry that is not in the manifest or has another size, and bytes
/// after the end, are errors. So the caller must keep entries apart until this function returns.
pub fn read(
    file: &Path,
    begin: impl FnOnce(&Manifest) -> Result<(), MirrorError>,
    mut take: impl FnMut(&Manifest, &Content, u64, &mut dyn Read) -> Result<(), MirrorError>,
) -> Result<Manifest, MirrorError> {
    let malformed = |detail: String| malformed(file, detail);
    let unusable = |detail: String| MirrorError::NotAFile { path: file.to_owned(), detail };
    // A pipe could block, and can be read only once.
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
        let mut entry = FailureNoted { inner: tar.content(), failed: None };
        let taken = take(&manifest, &content, size, &mut entry);
        // The callee cannot know that the file was at fault, so its own error is replaced.
        if let Some(detail) = entry.failed {
            return Err(malformed(format!("cannot read {path}: {detail}")));
        }
        taken?;
    }
    tar.finish().map_err(|e| malformed(e.words()))?;
    Ok(manifest)
}

/// Goes to the next entry, which must be the file `path` of exactly `size` bytes.
fn next<S: Source>(tar: &mut Tar<S>, path: &str, size: Option<u64>) -> Result<(), String> {
    let entry = tar.next_entry().map_err(|e| e.words())?.ok_or_else(|| format!("it ends before {path}"))?;
    if entry.path != path.as_bytes() || entry.kind != Kind::File {
        return Err(format!("expected {path}, found {}", shown(&entry.path)));
    }
    match size.filter(|size| *size != entry.size) {
        Some(size) => Err(format!("{path} has {} bytes, not {size} as its manifest says", entry.size)),
        None => Ok(()),
    }
}

/// Parses a manifest of the format that this program knows.
fn parse(text: &[u8]) -> Result<Manifest, String> {
    let items = text.split(|b| *b == b',').count() - 1;
    if items > ITEMS {
        return Err(format!("its manifest lists more than {ITEMS} items"));
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
struct FailureNoted<R> {
    inner: R,
    failed: Option<String>,
}

impl<R: Read> Read for FailureNoted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.inner.read(to).inspect_err(|e| self.failed = Some(e.to_string()))
    }
}

/// The manifest of an export, without its contents.
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

/// Checks the names in a manifest, which become file names, and the sizes.
fn check(manifest: &Manifest) -> Result<(), String> {
    for project in &manifest.projects {
        if !crate::git::is_project_name(&project.name) {
            return Err(format!("{:?} is not a project's name", project.name));
        }
        // The most that an upstream may send.
        let most = crate::git::Bounds::default().packs;
        if project.bundle > most || project.journal > crate::git::JOURNAL_LIMIT {
            return Err(format!("the bundle or the journal of {} is too large", project.name));
        }
    }
    if let Some((digest, size)) = manifest.blobs.iter().find(|(_, size)| *size > BLOB) {
        return Err(format!("blob {digest} has {size} bytes, more than the {BLOB} allowed"));
    }
    // The same path twice would be two contents for one file.
    let mut seen = BTreeSet::new();
    if let Some(path) =
        manifest.entries().iter().map(|(content, _)| content.path()).find(|p| !seen.insert(p.clone()))
    {
        return Err(format!("its manifest lists {path} twice"));
    }
    let plain =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains('/') && name.len() < 200;
    match manifest.certificates.iter().find(|(name, size)| !plain(name) || *size > 16 << 20) {
        Some((name, _)) => Err(format!("{name:?} is not a certificate's file")),
        None => Ok(()),
    }
}
