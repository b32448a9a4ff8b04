//! Where builds happen: a data folder with a store, a cache of roots and scratch space.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hab_blobs::Blobs;
use hab_oci::{Digest, Platform};
use hab_recipe::{LockedPackage, Toolchain, ToolchainLock};
use hab_sandbox::Launcher;

use crate::private::private;
use crate::roots::{Root, Roots};
use crate::unpack::{self, Options, Special};
use crate::{BuildError, Observer};

/// The time of every file in a root: 2000-01-01. The packages' times would do, but one time reveals nothing at all.
const ROOT_EPOCH: i64 = 946_684_800;

/// A place to build in. One process at a time may use it; the caller holds the lock.
pub struct Workshop<'a> {
    pub(crate) blobs: &'a Blobs,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) launcher: Launcher,
    data: PathBuf,
}

impl<'a> Workshop<'a> {
    /// A workshop in the data folder `data`, which reads inputs from `blobs` and writes results there. The sandbox
    /// executes this program again; its `main` must call `hab_sandbox::init_if_requested`.
    pub fn new(data: &Path, blobs: &'a Blobs, observer: &'a dyn Observer) -> Self {
        Self { blobs, observer, launcher: Launcher::default(), data: data.to_owned() }
    }

    /// Uses another program as the sandbox's helper, for callers whose `main` cannot become it.
    #[must_use]
    pub fn with_launcher(mut self, launcher: Launcher) -> Self {
        self.launcher = launcher;
        self
    }

    /// Whether a toolchain is unpacked already.
    pub fn has_root(&self, toolchain: &Toolchain, lock: &ToolchainLock) -> bool {
        self.data.join("roots").join(root_key(toolchain, lock).hex()).exists()
    }

    /// The toolchain's root: from the cache if that still holds what was unpacked. Otherwise it is unpacked now, after
    /// every package was checked against its digest.
    pub fn root(&self, toolchain: &Toolchain, lock: &ToolchainLock) -> Result<Root, BuildError> {
        let runs_on = match toolchain.architecture.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        if runs_on != std::env::consts::ARCH {
            return Err(BuildError::Architecture {
                toolchain: toolchain.name.clone(),
                needs: toolchain.architecture.clone(),
                is: std::env::consts::ARCH,
            });
        }
        let owner = match hab_sandbox::owner() {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (rustix::process::geteuid().as_raw(), None),
        };
        let folder = private(&self.data.join("roots"))?;
        let roots = Roots { folder, blobs: self.blobs, observer: self.observer, owner };
        roots.get(root_key(toolchain, lock).hex(), |root| {
            let packages = lock.packages.len();
            self.observer.stage(&format!("unpack toolchain {} ({packages} packages)", toolchain.name));
            self.unpack_root(toolchain, lock, root)
        })
    }

    fn unpack_root(
        &self,
        toolchain: &Toolchain,
        lock: &ToolchainLock,
        root: &Path,
    ) -> Result<(), BuildError> {
        let links = toolchain.link.iter().map(|l| (l.path.clone(), l.target.clone())).collect();
        // Make these before any package is unpacked, so that no package can put a link in their place.
        let sysroots = Platform::ALL.map(|p| (p.architecture(), root.join("sysroot").join(p.architecture())));
        for (_, sysroot) in &sysroots {
            fs::create_dir_all(sysroot).map_err(BuildError::io(sysroot))?;
        }
        self.unpack_group(lock, "build", root, links)?;
        for (architecture, sysroot) in &sysroots {
            self.unpack_group(lock, architecture, sysroot, Vec::new())?;
            match_unpacked(sysroot, ROOT_EPOCH)?;
        }
        let folder = root.join("sysroot");
        match_unpacked(&folder, ROOT_EPOCH)?;
        match_unpacked(root, ROOT_EPOCH)
    }

    fn unpack_group(
        &self,
        lock: &ToolchainLock,
        group: &str,
        root: &Path,
        links: Vec<(String, String)>,
    ) -> Result<(), BuildError> {
        let members: Vec<&LockedPackage> = lock.packages.iter().filter(|p| p.root == group).collect();
        let total: u64 = members.iter().map(|p| p.size).sum();
        let mut files = Vec::with_capacity(members.len());
        let mut done = 0;
        for package in &members {
            let name = format!("{}_{}", package.name, package.version);
            files.push((name.clone(), self.verified(&name, &package.digest)?));
            done += package.size;
            self.observer.amount(&format!("check {group} packages:"), done, total);
        }
        let options = Options {
            merged_usr: true,
            relative_links: group != "build",
            owner: hab_sandbox::owner(),
            epoch: ROOT_EPOCH,
            special: Special::Skip,
            links,
            ..Options::default()
        };
        let progress = |p: unpack::Progress<'_>| {
            self.observer.amount(&format!("unpack {group} packages:"), p.bytes, p.bytes_total);
        };
        unpack::unpack_packages(&files, root, &options, &progress, self.observer.cancel())?;
        Ok(())
    }

    /// Checks a stored blob against its digest, and returns its path.
    pub(crate) fn verified(&self, what: &str, digest: &Digest) -> Result<PathBuf, BuildError> {
        if self.observer.cancel().load(std::sync::atomic::Ordering::Relaxed) {
            return Err(BuildError::Cancelled);
        }
        let path = self.blobs.path(digest);
        let missing = || BuildError::MissingInput { what: what.to_owned(), digest: digest.clone() };
        let blob = self.blobs.open_blob(digest)?.ok_or_else(missing)?;
        let (actual, _) = Digest::of_reader(blob.file).map_err(BuildError::io(&path))?;
        if actual != *digest {
            return Err(BuildError::Tampered {
                what: what.to_owned(),
                expected: digest.clone(),
                actual,
                path,
            });
        }
        Ok(path)
    }

    /// Makes an empty folder for one build, in place of what an earlier attempt left there.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, BuildError> {
        // The folder is private: nobody else writes here between unpacking and a run, or between the runs and their
        // comparison.
        let work = private(&self.data.join("work"))?;
        let path = private(&work.join("builds"))?.join(name);
        hab_tree::remove(&path).map_err(BuildError::io(&path))?;
        fs::create_dir(&path).map_err(BuildError::io(&path))?;
        Ok(path)
    }
}

/// The version of a root's layout. It grows whenever equal packages would be unpacked to another root.
const ROOT_SCHEMA: u32 = 1;

/// The digest of the lock and of the toolchain's links, which are in the root but not in the lock.
fn root_key(toolchain: &Toolchain, lock: &ToolchainLock) -> Digest {
    let links: Vec<_> = toolchain.link.iter().map(|l| format!("{} {}\n", l.path, l.target)).collect();
    Digest::of(format!("{ROOT_SCHEMA}\n{}\n{}", lock.digest(), links.concat()).as_bytes())
}

/// Gives a folder that was not unpacked the owner, mode and time of those that were.
fn match_unpacked(folder: &Path, epoch: i64) -> Result<(), BuildError> {
    if let Some((uid, gid)) = hab_sandbox::owner() {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid)).map_err(BuildError::io(folder))?;
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(epoch).unwrap_or(0));
    File::open(folder)
        .and_then(|f| {
            f.set_permissions(fs::Permissions::from_mode(0o755))?;
            f.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time))
        })
        .map_err(BuildError::io(folder))
}
