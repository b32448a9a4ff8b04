//! Walks through folders, and measures or gives away what is in them.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Stat, Uid, chownat, fstat};
use rustix::io::Errno;

use crate::open::{Closed, DEPTH, folder, is_folder, names, stat};

/// Deeper folders have no path within `PATH_MAX` (4096 bytes): each level takes at least a letter and a slash.
const MOST_NAMES: usize = 2048;

/// A file, folder or link that a walk came to.
pub struct WalkEntry<'a> {
    /// The folder that holds it.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// Its metadata; for a link, that of the link itself.
    pub stat: &'a Stat,
    /// The names of the folders above it, without the top's; `None` if they are more than any path can have.
    pub above: Option<&'a [&'a CStr]>,
}

impl WalkEntry<'_> {
    /// Whether it is a folder. The walk enters it later.
    pub fn is_folder(&self) -> bool {
        is_folder(self.stat)
    }
}

/// How a walk went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// Folders that the walk did not see, or not all of: they were unreadable, on another file system, or moved away in
    /// the middle of the walk.
    pub unseen: u64,
}

/// How often to try to open a folder whose name is a link at the moment. Somebody who exchanges the two all the time
/// hides the folder from every second try, but not from all of them.
const TRIES: usize = 32;

struct Level {
    /// `None` far above the current level, to save descriptors; opened again by the name `..` on the way back.
    folder: Option<OwnedFd>,
    device: u64,
    inode: u64,
    name: CString,
    /// Folders in it that are still to be visited.
    waiting: Vec<CString>,
}

/// Calls `visit` for everything below the open folder `top`, a folder before its contents. An error of `visit` ends the
/// walk; a file that vanishes meanwhile is left out.
pub fn walk(top: impl AsFd, visit: &mut dyn FnMut(&WalkEntry<'_>) -> io::Result<()>) -> io::Result<Walked> {
    let mut walked = Walked::default();
    let device = fstat(&top)?.st_dev;
    let mut stack = Vec::new();
    enter(&mut stack, folder(&top, c".", Closed::Leave)?, CString::default(), visit)?;
    while let Some(level) = stack.last_mut() {
        let Some(name) = level.waiting.pop() else {
            leave(&mut stack, &mut walked);
            continue;
        };
        let Some(parent) = &level.folder else { continue };
        match patiently(parent, &name) {
            Ok(below) if fstat(&below)?.st_dev == device => enter(&mut stack, below, name, visit)?,
            Ok(_) => walked.unseen += 1,
            Err(error) => match Errno::from_io_error(&error) {
                // The folder is gone, moved or removed by somebody else.
                Some(Errno::NOENT) => {}
                _ => walked.unseen += 1,
            },
        }
    }
    Ok(walked)
}

/// Opens a folder, and tries again if a link has its name at the moment, because somebody exchanges the two.
fn patiently(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let exchanged = |e: &io::Error| matches!(Errno::from_io_error(e), Some(Errno::LOOP | Errno::NOTDIR));
    for _ in 1..TRIES {
        match folder(parent, name, Closed::Leave) {
            Err(e) if exchanged(&e) => std::thread::yield_now(),
            other => return other,
        }
    }
    folder(parent, name, Closed::Leave)
}

/// Visits everything in `opened` and pushes it on the stack; closes the descriptor of the level [`DEPTH`] above.
fn enter(
    stack: &mut Vec<Level>,
    opened: OwnedFd,
    name: CString,
    visit: &mut dyn FnMut(&WalkEntry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let own = fstat(&opened)?;
    let mut waiting = Vec::new();
    {
        let names_above: Vec<&CStr> = if stack.is_empty() || stack.len() > MOST_NAMES {
            Vec::new()
        } else {
            stack.iter().skip(1).map(|level| level.name.as_c_str()).chain([name.as_c_str()]).collect()
        };
        let above = (stack.len() <= MOST_NAMES).then_some(&names_above[..]);
        for name in names(&opened)? {
            let Some(stat) = stat(&opened, &name)? else { continue };
            visit(&WalkEntry { folder: opened.as_fd(), name: &name, stat: &stat, above })?;
            if is_folder(&stat) {
                waiting.push(name);
            }
        }
    }
    // The top's descriptor stays open: the way back ends there.
    if stack.len() > DEPTH {
        let far = stack.len() - DEPTH;
        stack[far].folder = None;
    }
    stack.push(Level { folder: Some(opened), device: own.st_dev, inode: own.st_ino, name, waiting });
    Ok(())
}

/// Goes back up one level. A folder that was moved meanwhile has another parent, so `..` leads elsewhere: the walk
/// gives up all levels up to the next one that is still open.
fn leave(stack: &mut Vec<Level>, walked: &mut Walked) {
    let Some(done) = stack.pop() else { return };
    let Some(above) = stack.last_mut() else { return };
    if above.folder.is_some() {
        return;
    }
    let parent = done.folder.as_ref().map(|folder_| folder(folder_, c"..", Closed::Leave));
    if let Some(Ok(parent)) = parent
        && fstat(&parent).is_ok_and(|stat| stat.st_dev == above.device && stat.st_ino == above.inode)
    {
        above.folder = Some(parent);
        return;
    }
    while stack.last().is_some_and(|level| level.folder.is_none()) {
        walked.unseen += 1;
        stack.pop();
    }
}

/// The size of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// Bytes allocated; a file with several names counts once.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// See [`Walked::unseen`].
    pub unseen: u64,
}

/// Adds up the sizes of the open folder `top` and everything below. Files in `seen` (device, inode) do not count again;
/// files with several names are added to it.
pub fn measure(top: impl AsFd, seen: &mut BTreeSet<(u64, u64)>) -> io::Result<Measure> {
    let mut sum = Measure { bytes: allocated(&fstat(&top)?), ..Measure::default() };
    let walked = walk(top, &mut |entry| {
        sum.entries += 1;
        let several = !entry.is_folder() && entry.stat.st_nlink > 1;
        if !several || seen.insert((entry.stat.st_dev, entry.stat.st_ino)) {
            sum.bytes = sum.bytes.saturating_add(allocated(entry.stat));
        }
        Ok(())
    })?;
    Ok(Measure { unseen: walked.unseen, ..sum })
}

fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// Makes a user and a group the owners of the open folder `top` and everything below: of links themselves, never their
/// targets.
pub fn give_away(top: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let walked =
        walk(
            &top,
            &mut |entry| match chownat(entry.folder, entry.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            },
        )?;
    if walked.unseen > 0 {
        return Err(Errno::ACCESS.into());
    }
    Ok(rustix::fs::fchown(top, uid, gid)?)
}
