//! Unpacked toolchains: `<roots>/<key>` and `<roots>/<key>-again`, the same files twice, and `<roots>/<key>.seal`.
//!
//! A root is used only if it is what was unpacked; that its folder exists is not enough. The seal names the root's
//! manifest, which is in the store, and the stamp of each copy ([`tree`]). Before each use the stamps are computed
//! again. If one differs, or a day has passed, every file is read and compared with the manifest. A root that changed
//! is set aside, never used and never deleted, and a new one is made from the locked packages. After the runs of a plan
//! the stamps are computed once more, since an image takes files from the root.
//!
//! What this protects against: as root, only root can enter the folder, and the sandbox mounts a root read-only, so a
//! build that breaks out as the build user reaches nothing here. As a normal user, a build that breaks out is that
//! user, who can write seals too: a change is found then, but not a forgery by somebody who knows this page.
//! docs/TRUST.md says so.

mod copy;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hab_blobs::Blobs;
use hab_clock::now;
use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::{BuildError, Observer};
use tree::Tree;

/// The largest manifest that is read, in bytes; a root of a million files has a smaller one.
const MANIFEST: u64 = 256 << 20;

/// How long a stamp alone is trusted, because data that rots on the disk changes no stamp.
const READ_EVERY: Duration = Duration::from_hours(24);

/// A toolchain's root, which was verified when this value was made.
#[derive(Debug)]
pub struct Root {
    copies: [PathBuf; 2],
    stamps: [Digest; 2],
}

impl Root {
    /// The copy for the first run, and for everything else that needs files of the root.
    pub fn first(&self) -> &Path {
        &self.copies[0]
    }

    /// The copy for the second run: the same files with other inode numbers and times of change.
    pub fn second(&self) -> &Path {
        &self.copies[1]
    }

    /// Fails if the root changed since it was verified.
    pub(crate) fn still_the_same(&self, observer: &dyn Observer) -> Result<(), BuildError> {
        let changed = |path: &PathBuf| BuildError::RootChanged { path: path.clone() };
        let trees = match look(&self.copies, observer) {
            Ok(trees) => trees,
            Err(BuildError::Io { path, .. }) => return Err(changed(&path)),
            Err(other) => return Err(other),
        };
        for ((copy, tree), stamp) in self.copies.iter().zip(&trees).zip(&self.stamps) {
            if tree.stamp() != *stamp {
                return Err(changed(copy));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    /// The manifest of both copies, a blob of the store.
    manifest: Digest,
    /// The stamps of both copies.
    stamps: [Digest; 2],
    /// When all files were read last, in seconds since 1970.
    read: i64,
}

/// Why a root is not used.
enum Doubt {
    /// The root does not exist.
    Absent,
    /// The root is not what was unpacked, for this reason.
    Spoilt(String),
}

/// The roots of one folder.
pub(crate) struct Roots<'a> {
    /// A folder that nobody else can enter ([`crate::private`]).
    pub folder: PathBuf,
    pub blobs: &'a Blobs,
    pub observer: &'a dyn Observer,
    /// The uid and gid that must own everything in a root. The gid counts only where files are given away, because
    /// otherwise some folders give new files their own.
    pub owner: (u32, Option<u32>),
}

impl Roots<'_> {
    /// Returns the root with this key: the existing one, or one that `unpack` makes in a new folder.
    pub(crate) fn get(
        &self,
        key: &str,
        unpack: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<Root, BuildError> {
        match self.existing(key)? {
            Ok(root) => return Ok(root),
            Err(Doubt::Absent) => {}
            Err(Doubt::Spoilt(why)) => {
                let aside = self.set_aside(key)?;
                self.observer.note(&format!(
                    "the unpacked toolchain {} was not used: {why}; it was set aside as {} and is made anew",
                    self.folder.join(key).display(),
                    aside.display()
                ));
            }
        }
        self.make(key, unpack)
    }

    fn copies(&self, key: &str) -> [PathBuf; 2] {
        [self.folder.join(key), self.folder.join(format!("{key}-again"))]
    }

    fn seal(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.seal"))
    }

    fn existing(&self, key: &str) -> Result<Result<Root, Doubt>, BuildError> {
        let (copies, path) = (self.copies(key), self.seal(key));
        let there = copies.iter().chain([&path]).filter(|path| fs::symlink_metadata(path).is_ok()).count();
        if there == 0 {
            return Ok(Err(Doubt::Absent));
        }
        let spoilt = |why: String| Ok(Err(Doubt::Spoilt(why)));
        let text = fs::read(&path).ok().filter(|text| text.len() < 4096);
        let Some(seal) = text.and_then(|text| serde_json::from_slice::<Seal>(&text).ok()) else {
            return spoilt("it has no seal".to_owned());
        };
        let trees = match look(&copies, self.observer) {
            Ok(trees) => trees,
            Err(BuildError::Io { path, source }) => return spoilt(format!("{}: {source}", path.display())),
            Err(other) => return Err(other),
        };
        for tree in &trees {
            let (uid, gid) = self.owner;
            let foreign =
                |stat: &rustix::fs::Stat| stat.st_uid != uid || gid.is_some_and(|gid| stat.st_gid != gid);
            if let Some(seen) = tree.entries.iter().find(|seen| foreign(&seen.stat)) {
                let (uid, path) =
                    (seen.stat.st_uid, String::from_utf8_lossy(&seen.path).escape_default().to_string());
                return spoilt(format!("/{path} belongs to uid {uid} instead of {}", self.owner.0));
            }
        }
        let stamps = trees.each_ref().map(Tree::stamp);
        let now = now();
        let fresh = u64::try_from(now.saturating_sub(seal.read)).is_ok_and(|age| age < READ_EVERY.as_secs());
        if stamps != seal.stamps || !fresh {
            if let Some(why) = self.differs(&seal, &trees)? {
                return spoilt(why);
            }
            // Only the stamps changed: the folder was moved to another disk, or a day has passed.
            self.write_seal(key, &Seal { stamps: stamps.clone(), read: now, ..seal })?;
        }
        Ok(Ok(Root { copies, stamps }))
    }

    /// Reads every file of both copies. Returns the first difference from the manifest.
    fn differs(&self, seal: &Seal, trees: &[Tree; 2]) -> Result<Option<String>, BuildError> {
        self.observer.stage("read the unpacked toolchain and hold it against its manifest");
        let Some(expected) = self.blobs.read(&seal.manifest, MANIFEST)? else {
            return Ok(Some(format!("its manifest {} is not in the store", seal.manifest)));
        };
        if Digest::of(&expected) != seal.manifest {
            return Ok(Some(format!("its manifest {} is damaged in the store", seal.manifest)));
        }
        for tree in trees {
            let actual = tree.manifest(self.observer.cancel()).map_err(|e| self.failed(e))?;
            if actual.as_bytes() != expected {
                return Ok(Some(tree::first_difference(&String::from_utf8_lossy(&expected), &actual)));
            }
        }
        Ok(None)
    }

    fn failed(&self, error: io::Error) -> BuildError {
        if error.kind() == io::ErrorKind::Interrupted {
            return BuildError::Cancelled;
        }
        BuildError::Io { path: self.folder.clone(), source: error }
    }

    fn make(
        &self,
        key: &str,
        unpack: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<Root, BuildError> {
        // An earlier process may have left this; the caller's lock says that none is at work on it now.
        let unfinished = self.folder.join("unfinished");
        hab_tree::remove(&unfinished).map_err(BuildError::io(&unfinished))?;
        fs::create_dir(&unfinished).map_err(BuildError::io(&unfinished))?;
        let made = self.make_in(key, &unfinished, unpack);
        // If making failed, that error is the better one of the two.
        let removed = hab_tree::remove(&unfinished);
        let root = made?;
        removed.map_err(BuildError::io(&unfinished))?;
        Ok(root)
    }

    fn make_in(
        &self,
        key: &str,
        unfinished: &Path,
        unpack: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<Root, BuildError> {
        let new = ["first", "second"].map(|name| unfinished.join(name));
        unpack(&new[0])?;
        let cancel = self.observer.cancel();
        self.observer.stage("copy the toolchain for the second run, and write its manifest");
        let tree = Tree::look(&new[0], cancel).map_err(|e| self.failed(e))?;
        copy::copy(&tree, &new[0], &new[1], cancel).map_err(|e| self.failed(e))?;
        // Images take files from a root, so it must not lose any in a power cut.
        File::open(unfinished)
            .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
            .map_err(BuildError::io(unfinished))?;
        let trees = look(&new, self.observer)?;
        let [first, second] = trees.each_ref().map(|tree| tree.manifest(cancel));
        let (first, second) = (first.map_err(|e| self.failed(e))?, second.map_err(|e| self.failed(e))?);
        if first != second {
            let why = io::Error::other(tree::first_difference(&first, &second));
            return Err(BuildError::Io { path: new[1].clone(), source: why });
        }
        let manifest = self.blobs.put(first.as_bytes())?;
        let copies = self.copies(key);
        for (from, to) in new.iter().zip(&copies) {
            fs::rename(from, to).map_err(BuildError::io(to))?;
        }
        // Renaming a folder changes its stamp.
        let stamps = look(&copies, self.observer)?.each_ref().map(Tree::stamp);
        self.write_seal(key, &Seal { manifest, stamps: stamps.clone(), read: now() })?;
        Ok(Root { copies, stamps })
    }

    /// Writes the seal. This is the last step, because a root without a seal does not count.
    fn write_seal(&self, key: &str, seal: &Seal) -> Result<(), BuildError> {
        let path = self.seal(key);
        let new = self.folder.join("unfinished.seal");
        let text = serde_json::to_vec(seal).map_err(io::Error::from).map_err(BuildError::io(&path))?;
        let written =
            File::create(&new).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.map_err(BuildError::io(&new))?;
        fs::rename(&new, &path).map_err(BuildError::io(&path))
    }

    /// Moves all files of a root away, so that a person can look at them.
    fn set_aside(&self, key: &str) -> Result<PathBuf, BuildError> {
        let aside = crate::private::private(&self.folder.join("aside"))?;
        let free = (0_u32..).map(|number| aside.join(format!("{key}.{number}")));
        let place = free.into_iter().find(|place| fs::symlink_metadata(place).is_err()).unwrap_or(aside);
        fs::create_dir(&place).map_err(BuildError::io(&place))?;
        for path in self.copies(key).into_iter().chain([self.seal(key)]) {
            match fs::rename(&path, place.join(path.file_name().unwrap_or_default())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(BuildError::io(&path))?,
            }
        }
        Ok(place)
    }
}

/// Reads the metadata of both copies at the same time.
fn look(copies: &[PathBuf; 2], observer: &dyn Observer) -> Result<[Tree; 2], BuildError> {
    let one = |copy: &PathBuf| {
        Tree::look(copy, observer.cancel()).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => BuildError::Cancelled,
            _ => BuildError::Io { path: copy.clone(), source: error },
        })
    };
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| one(&copies[1]));
        (one(&copies[0]), second.join())
    });
    let second = second.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok([first?, second?])
}
