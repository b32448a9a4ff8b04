//! `/dev` with the devices every program may expect, and the parts of `/proc` that speak of the host.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::mounts::{attach, clone_mount};
use crate::places::make_folder;

/// Bound from the host: a user namespace cannot make device nodes.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Hidden: what names the host's disks, keys, kernel arguments and activity, or acts on the machine.
const MASKED_FILES: [&str; 11] = [
    "cmdline",
    "diskstats",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "modules",
    "partitions",
    "sysrq-trigger",
    "timer_list",
];
const MASKED_FOLDERS: [&str; 5] = ["acpi", "asound", "bus", "irq", "scsi"];

/// Makes the folder that becomes `/dev`, with a place for each node.
pub(crate) fn lay_out(dev: &Path) -> io::Result<()> {
    make_folder(dev, 0o755)?;
    make_folder(&dev.join("shm"), 0o1777)?;
    for node in NODES {
        fs::write(dev.join(node), "")?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// Takes hold of the host's nodes, in the order of [`NODES`].
pub(crate) fn nodes() -> io::Result<Vec<OwnedFd>> {
    NODES.iter().map(|node| clone_mount(&Path::new("/dev").join(node))).collect()
}

/// Puts them into the view's `/dev`.
pub(crate) fn attach_nodes(nodes: &[OwnedFd]) -> io::Result<()> {
    NODES.iter().zip(nodes).try_for_each(|(node, mount)| attach(mount, &Path::new("/dev").join(node)))
}

/// Covers what must not be seen, files with `/dev/null` and folders with the empty `nothing`.
pub(crate) fn mask_proc(nothing: &OwnedFd) -> io::Result<()> {
    for path in present(&MASKED_FILES) {
        attach(&clone_mount(Path::new("/dev/null"))?, &path)?;
    }
    let mut folders = present(&MASKED_FOLDERS);
    let Some(first) = folders.next() else { return Ok(()) };
    attach(nothing, &first)?;
    folders.try_for_each(|folder| attach(&clone_mount(&first)?, &folder))
}

fn present(names: &[&str]) -> impl Iterator<Item = PathBuf> {
    names.iter().map(|name| Path::new("/proc").join(name)).filter(|path| path.exists())
}
