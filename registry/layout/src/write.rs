//! Writes a layout under a temporary name and renames it when it is whole, so that no half layout ever exists.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hab_oci::{Digest, Hasher, media_type};
use rustix::fs::{CWD, RenameFlags};

use crate::entry::Index;
use crate::{Error, IndexEntry, Result};

const MARK: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// The content of a layout to write.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// The entries of index.json, in order.
    pub entries: Vec<IndexEntry>,
    /// Every manifest, layer and configuration, with its size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
}

/// Writes a layout: an oci-archive if the path ends in `.tar`, otherwise a folder. Returns the bytes of its files.
///
/// The same bundle gives the same bytes: members are sorted, and have no owner and no time. `open` opens the bytes of a
/// digest, which are hashed while they are copied; wrong bytes are [`Error::WrongDigest`] and leave nothing behind. An
/// existing path is never overwritten ([`Error::Exists`]).
pub fn write<R: Read>(
    to: &Path,
    bundle: &Bundle,
    mut open: impl FnMut(&Digest) -> io::Result<R>,
) -> Result<u64> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(Error::Exists { path: to.to_owned() });
    }
    let parent = match to.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(Error::Exists { path: to.to_owned() }),
    };
    let mut output = Output::begin(to, parent)?;
    let mut bytes = 0;
    output.folder("blobs")?;
    for (digest, size) in &bundle.blobs {
        // The digests are sorted, so the folders are too.
        let within = format!("blobs/{}", digest.algorithm().name());
        output.folder(&within)?;
        let reader = open(digest).map_err(Error::io("read", Path::new(&digest.to_string())))?;
        let mut checked = Checked { inner: reader, hasher: Hasher::new(digest.algorithm()) };
        output.file(&format!("{within}/{}", digest.hex()), *size, &mut (&mut checked).take(*size))?;
        let found = checked.hasher.finish();
        if found != *digest {
            return Err(Error::WrongDigest { expected: digest.clone(), found });
        }
        bytes += size;
    }
    let index = Index { schema_version: 2, media_type: media_type::IMAGE_INDEX, manifests: &bundle.entries };
    let index =
        serde_json::to_vec(&index).map_err(|source| Error::Json { what: "index.json".to_owned(), source })?;
    for (name, content) in [("index.json", index.as_slice()), ("oci-layout", MARK)] {
        output.file(name, content.len() as u64, &mut &*content)?;
        bytes += content.len() as u64;
    }
    output.finish(to)?;
    sync(parent)?;
    Ok(bytes)
}

/// Hashes the bytes that pass through.
struct Checked<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// The unfinished output. Dropping it removes its files.
enum Output {
    Folder(tempfile::TempDir),
    Archive(tar::Builder<tempfile::NamedTempFile>, PathBuf, Vec<String>),
}

impl Output {
    fn begin(to: &Path, parent: &Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{}.", to.file_name().unwrap_or_default().to_string_lossy());
        builder.prefix(&prefix);
        if to.extension().is_some_and(|end| end == "tar") {
            let file = builder.tempfile_in(parent).map_err(Error::io("create a file in", parent))?;
            let path = file.path().to_owned();
            Ok(Self::Archive(tar::Builder::new(file), path, Vec::new()))
        } else {
            Ok(Self::Folder(builder.tempdir_in(parent).map_err(Error::io("create a folder in", parent))?))
        }
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let path = folder.path().join(name);
                match fs::create_dir(&path) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("create", &path)(e)),
                    _ => Ok(()),
                }
            }
            Self::Archive(_, _, done) if done.iter().any(|d| d == name) => Ok(()),
            Self::Archive(tar, path, done) => {
                done.push(name.to_owned());
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                tar.append_data(&mut header, format!("{name}/"), io::empty())
                    .map_err(Error::io("write", path))
            }
        }
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let path = folder.path().join(name);
                let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
                io::copy(content, &mut file).map_err(Error::io("write", &path))?;
                file.set_permissions(Permissions::from_mode(0o644)).map_err(Error::io("write", &path))?;
                file.sync_all().map_err(Error::io("write", &path))
            }
            Self::Archive(tar, path, _) => {
                let mut header = header(tar::EntryType::Regular, 0o644, size);
                tar.append_data(&mut header, name, content).map_err(Error::io("write", path))
            }
        }
    }

    fn finish(self, to: &Path) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                for name in ["blobs/sha256", "blobs/sha512", "blobs", "."] {
                    let path = folder.path().join(name);
                    if path.exists() {
                        fs::set_permissions(&path, Permissions::from_mode(0o755))
                            .map_err(Error::io("write", &path))?;
                        sync(&path)?;
                    }
                }
                match rustix::fs::renameat_with(CWD, folder.path(), CWD, to, RenameFlags::NOREPLACE) {
                    // The folder has its final name, so the temporary one must not be removed.
                    Ok(()) => drop(folder.keep()),
                    Err(rustix::io::Errno::EXIST) => return Err(Error::Exists { path: to.to_owned() }),
                    Err(e) => return Err(Error::io("rename a folder to", to)(e.into())),
                }
                Ok(())
            }
            Self::Archive(tar, path, _) => {
                let mut file = tar.into_inner().map_err(Error::io("write", &path))?;
                file.flush().map_err(Error::io("write", &path))?;
                let mode = Permissions::from_mode(0o644);
                file.as_file().set_permissions(mode).map_err(Error::io("write", &path))?;
                file.as_file().sync_all().map_err(Error::io("write", &path))?;
                match file.persist_noclobber(to) {
                    Ok(_) => Ok(()),
                    Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                        Err(Error::Exists { path: to.to_owned() })
                    }
                    Err(e) => Err(Error::io("rename a file to", to)(e.error)),
                }
            }
        }
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write", folder))
}
