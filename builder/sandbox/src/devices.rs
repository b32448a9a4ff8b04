//! `/dev` with the devices every program may expect.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, unmount,
};

use crate::mounts::{attach, clone_mount};
use crate::places::{Clock, make_folder};

/// The name, major and minor number of each device (Linux Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Makes the folder that becomes `/dev`, with a place for each node.
pub(crate) fn lay_out(dev: &Path) -> io::Result<()> {
    make_folder(dev, 0o755)?;
    make_folder(&dev.join("shm"), 0o1777)?;
    make_folder(&dev.join("pts"), 0o755)?;
    for (node, ..) in NODES {
        fs::write(dev.join(node), "")?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// Makes device nodes of our own in `folder`, because the host's are as old as its start, and stat(2) shows that.
/// Returns `false` and leaves `folder` empty in a user namespace, and in a container that may not make nodes.
pub(crate) fn make(folder: &Path, clock: &Clock) -> io::Result<bool> {
    mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"size=64k,mode=0755")?;
    for (node, major, minor) in NODES {
        let path = folder.join(node);
        let mode = Mode::from_raw_mode(0o666);
        match mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor)) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS) => {
                unmount(folder, UnmountFlags::DETACH)?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        chmod(&path, mode)?;
        clock.set(&path)?;
    }
    Ok(true)
}

/// Gives the view's `/dev` terminals of its own, which no other sandbox sees: a program's tests may need one.
pub(crate) fn attach_terminals() -> io::Result<()> {
    let filesystem = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, value) in [("source", "devpts"), ("ptmxmode", "0666"), ("mode", "0620"), ("max", "64")] {
        fsconfig_set_string(&filesystem, option, value)?;
    }
    fsconfig_create(&filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    attach(&mount, Path::new("/dev/pts"))
}

/// Detached mounts of the nodes in `folder`, in the order of [`NODES`].
pub(crate) fn nodes(folder: &Path) -> io::Result<Vec<OwnedFd>> {
    NODES.iter().map(|(node, ..)| clone_mount(&folder.join(node))).collect()
}

/// Puts the nodes into the view's `/dev`.
pub(crate) fn attach_nodes(nodes: &[OwnedFd]) -> io::Result<()> {
    NODES.iter().zip(nodes).try_for_each(|((node, ..), mount)| attach(mount, &Path::new("/dev").join(node)))
}
