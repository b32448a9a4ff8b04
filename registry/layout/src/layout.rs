//! Opens and reads a layout.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hab_oci::json::{self, Shape};
use hab_oci::{Digest, shapes};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::archive::{self, Members};
use crate::docker::{self, Docker};
use crate::entry::IndexEntries;
use crate::{Error, IndexEntry, MANIFEST, Part, Result};

/// The most bytes of the `oci-layout` file.
const MARK: u64 = 4096;

/// An open OCI layout: `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`.
///
/// Other files are ignored, with two exceptions. An archive with members that no layout may have is refused as a whole.
/// A `manifest.json`, as `docker save` writes it, must agree with the layout; in an archive without a layout it
/// replaces one.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    place: Source,
    entries: Vec<IndexEntry>,
    docker: Docker,
}

#[derive(Debug)]
enum Source {
    Folder(File),
    Archive(Arc<File>, Members),
}

#[derive(Deserialize)]
struct Mark {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// The field names in `oci-layout`.
const MARK_SHAPE: Shape = Shape::Fields(&[("imageLayoutVersion", Shape::Free)]);

impl Layout {
    /// Opens a folder, or a tar archive of one, and reads its index.
    pub fn open(path: &Path) -> Result<Self> {
        let place = Source::open(path)?;
        let mut layout =
            Self { path: path.to_owned(), place, entries: Vec::new(), docker: Docker::default() };
        let saved = Docker::saved(&layout)?;
        if let Some(saved) = &saved
            && layout.is_archive()
            && layout.part("oci-layout")?.is_none()
        {
            layout.docker = Docker::make(&layout, saved)?;
            layout.entries = std::mem::take(&mut layout.docker.entries);
            return if layout.entries.is_empty() { Err(Error::Empty) } else { Ok(layout) };
        }
        layout.without_links(saved.is_some())?;
        let mark: Mark = layout.document("oci-layout", MARK, MARK_SHAPE)?;
        if mark.version != "1.0.0" {
            return Err(layout.no("its imageLayoutVersion is not 1.0.0"));
        }
        let index: IndexEntries = layout.document("index.json", MANIFEST, shapes::MANIFEST)?;
        layout.entries = index.manifests.unwrap_or_default();
        if layout.entries.is_empty() {
            return Err(Error::Empty);
        }
        if let Some(saved) = &saved {
            docker::agree(&layout, saved)?;
        }
        Ok(layout)
    }

    /// Refuses links in an archive, unless `docker save` wrote it.
    fn without_links(&self, saved: bool) -> Result<()> {
        let Source::Archive(_, members) = &self.place else { return Ok(()) };
        match members.links.keys().next().filter(|_| !saved) {
            Some(member) => {
                let member = hab_archive::shown(member.as_bytes());
                Err(Error::Member { path: self.path.clone(), member, why: "that is a link" })
            }
            None => Ok(()),
        }
    }

    /// The descriptors in index.json, in order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The file of a digest, not checked; `None` if there is no such file.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Part>> {
        match self.docker.blob(self, digest)? {
            Some(part) => Ok(Some(part)),
            None => self.part(&format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())),
        }
    }

    /// Whether the layout is an archive.
    pub(crate) fn is_archive(&self) -> bool {
        matches!(self.place, Source::Archive(..))
    }

    /// A file that manifest.json names. In an archive the name may be a link.
    pub(crate) fn linked(&self, name: &str) -> Result<Option<Part>> {
        match &self.place {
            Source::Archive(file, members) => {
                Ok(members.find(name).map(|(at, size)| Part::new(file.clone(), at, size)))
            }
            // These paths could lead out of the folder.
            Source::Folder(_) if name.starts_with('/') || name.split('/').any(|part| part == "..") => {
                Ok(None)
            }
            Source::Folder(_) => self.part(name),
        }
    }

    /// As [`Layout::linked`]; a missing file is an error.
    pub(crate) fn named(&self, name: &str) -> Result<Part> {
        let shown = || hab_archive::shown(name.as_bytes());
        self.linked(name)?
            .ok_or_else(|| self.odd(format!("manifest.json names {}, which is not in it", shown())))
    }

    /// An error about the output of `docker save`.
    pub(crate) fn odd(&self, why: String) -> Error {
        Error::Docker { path: self.path.clone(), why }
    }

    fn document<T: DeserializeOwned>(&self, name: &'static str, limit: u64, shape: Shape) -> Result<T> {
        let part = self.part(name)?.ok_or_else(|| match name {
            "oci-layout" => self.no("it has no file oci-layout, and no manifest.json of `docker save`"),
            _ => self.no("it has no file index.json"),
        })?;
        let bytes = self.whole(part, name, limit)?;
        json::read(&bytes, shape).map_err(|source| Error::Json { what: name.to_owned(), source })
    }

    /// All bytes of a small file.
    pub(crate) fn whole(&self, mut part: Part, what: &str, limit: u64) -> Result<Vec<u8>> {
        let size = part.size();
        if size > limit {
            return Err(Error::TooLarge { what: what.to_owned(), size, limit });
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }

    pub(crate) fn part(&self, name: &str) -> Result<Option<Part>> {
        match &self.place {
            Source::Archive(file, members) => {
                Ok(members.files.get(name).map(|(at, size)| Part::new(file.clone(), *at, *size)))
            }
            Source::Folder(folder) => {
                let path = self.path.join(name);
                let Some(file) = within(folder, name, &path)? else { return Ok(None) };
                let found = file.metadata().map_err(Error::io("look at", &path))?;
                if !found.is_file() {
                    return Err(Error::Link { path });
                }
                Ok(Some(Part::new(Arc::new(file), 0, found.len())))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn no(&self, why: &'static str) -> Error {
        Error::NotALayout { path: self.path.clone(), why }
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let found = path.metadata().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Neither { path: path.to_owned() },
            _ => Error::io("look at", path)(source),
        })?;
        let kind = found.file_type();
        // Opening a pipe would wait for its writer.
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Err(Error::Neither { path: path.to_owned() });
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        if kind.is_dir() {
            return Ok(Self::Folder(file));
        }
        let mut magic = [0; 4];
        let n = (&file).read(&mut magic).map_err(Error::io("read", path))?;
        if magic[..n].starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd] {
            let why = "it is compressed; its layers are already, so decompress it first";
            return Err(Error::NotALayout { path: path.to_owned(), why });
        }
        let members = archive::members(path, &file)?;
        Ok(Self::Archive(Arc::new(file), members))
    }
}

/// Opens a file below a folder. Follows no link, not even one that stays within the folder.
fn within(folder: &File, name: &str, path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file.into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR | rustix::io::Errno::NXIO) => {
            Err(Error::Link { path: path.to_owned() })
        }
        Err(e) => Err(Error::io("open", path)(e.into())),
    }
}
