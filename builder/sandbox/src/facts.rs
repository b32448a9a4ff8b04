//! A `/proc` that does not show the machine: only the files of processes are the kernel's own. The other files that
//! programs read are made up (`machine.rs`).
//!
//! A `/proc` of processes alone (`subset=pid`) has no other name on which a file could be mounted. So `/proc` is
//! mounted whole, and its files are covered with ours while nobody else can see it. Then it is changed to processes
//! alone: the covered files stay, since a mount holds its name, and all others are gone.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::machine::Machine;
use crate::mounts::{attach, clone_mount, restrict};
use crate::places::Clock;
use crate::spec::Spec;

/// A random value, new at each reading; programs make names from it.
const UUID: &str = "kernel/random/uuid";

/// The kernel's `/proc`, not yet mounted in its place.
pub(crate) struct Proc {
    filesystem: OwnedFd,
    pub(crate) mount: OwnedFd,
}

impl Proc {
    /// Makes a new `/proc`. Call it while the host's `/proc` is still visible: the kernel gives a user namespace a new
    /// one only if it reveals nothing more than the visible one (`mount_too_revealing`).
    pub(crate) fn fresh() -> io::Result<Self> {
        let filesystem = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&filesystem, "source", "proc")?;
        fsconfig_create(&filesystem)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self { filesystem, mount })
    }

    /// Covers files with `facts`, and hides all others but the processes'. It must be mounted at `/proc` already.
    pub(crate) fn cover(self, facts: &Facts) -> io::Result<()> {
        let proc = Path::new("/proc");
        let uuid = clone_mount(&proc.join("sys").join(UUID))?;
        for (name, mount) in &facts.mounts {
            let path = proc.join(name);
            // A kernel that was built without one of these files has no name to cover.
            if fs::symlink_metadata(&path).is_ok() {
                attach(mount, &path)?;
                restrict(&path, false)?;
            }
        }
        let at = proc.join("sys").join(UUID);
        attach(&uuid, &at)?;
        restrict(&at, false)?;
        fsconfig_set_string(&self.filesystem, "subset", "pid")?;
        Ok(fsconfig_reconfigure(&self.filesystem)?)
    }
}

/// The made-up files, each a detached mount.
pub(crate) struct Facts {
    mounts: Vec<(&'static str, OwnedFd)>,
}

impl Facts {
    /// Writes the files into the new folder `folder`, with the times of the root.
    pub(crate) fn lay_out(spec: &Spec, folder: &Path, clock: &Clock) -> io::Result<Self> {
        let machine = Machine::of(spec);
        let identity = machine.identity(&spec.hostname);
        let settings = folder.join("sys");
        fs::create_dir_all(&settings)?;
        write_all(&settings, machine.settings(&identity), clock)?;
        write_all(&settings, vec![(UUID, String::new())], clock)?;
        let files = machine.files(&identity, spec.memory_shown());
        let mut names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        write_all(folder, files, clock)?;
        names.push("sys");
        let mounts = names.into_iter().map(|name| Ok((name, clone_mount(&folder.join(name))?)));
        Ok(Self { mounts: mounts.collect::<io::Result<_>>()? })
    }
}

fn write_all(folder: &Path, files: Vec<(&'static str, String)>, clock: &Clock) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    for (name, content) in files {
        let path = folder.join(name);
        let above = path.ancestors().skip(1).take_while(|above| *above != folder);
        folders.extend(above.map(Path::to_owned));
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, content)?;
        clock.set(&path)?;
    }
    folders.iter().try_for_each(|folder| clock.set(folder))
}
