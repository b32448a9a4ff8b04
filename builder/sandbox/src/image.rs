//! A file system of its own size for one run, if the caller is root: ext4 in a sparse file, on a loop device that
//! detaches the file by itself when its last user is gone.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::space::{most_files, slack};
use crate::sys;

/// The size of an inode, and of a block group, which takes 1 MiB besides.
const INODE: u64 = 256;
const GROUP: u64 = 128 << 20;
/// How many times another process may take a free loop device first.
const TRIES: usize = 16;

/// The image's file, and a detached mount of the file system in it.
pub(crate) struct Image {
    pub file: File,
    pub mount: OwnedFd,
}

/// Makes the image at `path`, with room for `most` bytes and the slack.
pub(crate) fn make(path: &Path, most: u64) -> io::Result<Image> {
    let made = try_make(path, most);
    if made.is_err() {
        // If this fails too, the first error says more.
        let _ = fs::remove_file(path);
    }
    made
}

fn try_make(path: &Path, most: u64) -> io::Result<Image> {
    let files = most_files(most);
    let room = most.saturating_add(slack(most)).saturating_add(files * INODE);
    let size = room.saturating_add((room / GROUP + 1) << 20).next_multiple_of(4096);
    // This follows no link, and never writes to an earlier image.
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.set_len(size)?;
    format(path, files)?;
    let (device, node) = attach(&file)?;
    let mount = mount(&node)?;
    // From here on the mount holds the device.
    drop(device);
    unlinkat(&mount, "lost+found", AtFlags::REMOVEDIR)?;
    Ok(Image { file, mount })
}

fn format(path: &Path, files: u64) -> io::Result<()> {
    let program = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];
    let program = program.iter().find(|path| Path::new(path).exists()).ok_or(io::ErrorKind::NotFound)?;
    let output = Command::new(program)
        // No journal: after a power cut the run is repeated. No reserve for root: no process in there is root.
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard", "-I", &INODE.to_string(), "-N", &files.to_string()])
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Puts the file on a free loop device.
fn attach(file: &File) -> io::Result<(File, PathBuf)> {
    let open = |path: &OsStr| OpenOptions::new().read(true).write(true).open(path);
    let control = open("/dev/loop-control".as_ref())?;
    for _ in 0..TRIES {
        let node = PathBuf::from(format!("/dev/loop{}", sys::free_loop(&control)?));
        let device = open(node.as_os_str())?;
        let configured = match sys::configure_loop(&device, file, true) {
            // Direct I/O avoids holding pages twice, but not every file system below supports it.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                sys::configure_loop(&device, file, false)
            }
            other => other,
        };
        match configured {
            Ok(()) => return Ok((device, node)),
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::BUSY.into())
}

fn mount(node: &Path) -> io::Result<OwnedFd> {
    let filesystem = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&filesystem, "source", node)?;
    // Nothing here has to outlive a power cut, so no write waits for the disk.
    for flag in ["nobarrier", "noinit_itable", "noauto_da_alloc"] {
        fsconfig_set_flag(&filesystem, flag)?;
    }
    fsconfig_create(&filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    Ok(fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
