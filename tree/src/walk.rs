//! Walking, and what is done on a walk: measuring and giving away.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Stat, Uid, chownat, fstat};
use rustix::io::Errno;

use crate::open::{Closed, DEPTH, folder, is_folder, names, stat};

/// `PATH_MAX`; a name and its slash take two bytes of it.
const MOST_NAMES: usize = 2048;

/// Something on a walk.
pub struct Entry<'a> {
    /// The folder that holds it.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// What it is; of a link, the link itself.
    pub stat: &'a Stat,
    /// The names of the folders above it, the top's left out; `None` where they are more than any path can have.
    pub above: Option<&'a [&'a CStr]>,
}

impl Entry<'_> {
    /// Whether it is a folder, into which the walk goes later.
    pub fn is_folder(&self) -> bool {
        is_folder(self.stat)
    }
}

/// How a walk went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// Folders that could not be read, that lie on another file system, or that were moved away in the middle of
    /// the walk: what is in them was not seen, or not all of it.
    pub unseen: u64,
}

/// How often a folder is opened whose name is a link's at that moment. Whoever exchanges the two again and again hides it
/// from one try as often as not, and from all of them never.
const TRIES: usize = 32;

struct Level {
    /// Let go far above, and taken again by the name `..` on the way back.
    folder: Option<OwnedFd>,
    device: u64,
    inode: u64,
    name: CString,
    /// Folders in it that are still to be seen.
    waiting: Vec<CString>,
}

/// Shows `visit` everything below the open folder `top`, a folder before what is in it. An error of `visit` ends the
/// walk; what vanishes meanwhile is left out.
pub fn walk(top: impl AsFd, visit: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>) -> io::Result<Walked> {
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
                // It went away, or something else took its name, which the one who put it there can explain.
                Some(Errno::NOENT) => {}
                _ => walked.unseen += 1,
            },
        }
    }
    Ok(walked)
}

/// Opens a folder whose name may be that of a link at this moment, because somebody exchanges the two.
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

/// Shows what is in `opened` and puts it on the stack; a level far above gives its descriptor back.
fn enter(
    stack: &mut Vec<Level>,
    opened: OwnedFd,
    name: CString,
    visit: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
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
            visit(&Entry { folder: opened.as_fd(), name: &name, stat: &stat, above })?;
            if is_folder(&stat) {
                waiting.push(name);
            }
        }
    }
    // The top's stays: the way back ends there.
    if stack.len() > DEPTH {
        let far = stack.len() - DEPTH;
        stack[far].folder = None;
    }
    stack.push(Level { folder: Some(opened), device: own.st_dev, inode: own.st_ino, name, waiting });
    Ok(())
}

/// Goes back up. A folder that was moved meanwhile has another parent: then everything up to the next level that is
/// still held is given up, since nothing says where `..` leads.
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

/// What a folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// Bytes allocated, a file with several names once.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// See [`Walked::unseen`].
    pub unseen: u64,
}

/// Adds up what the open folder `top` and everything below hold. `seen` are the files (device, inode) that count no
/// more; those with several names are added to it.
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

/// Gives the open folder `top` and everything below to a user and a group; links themselves, never their targets.
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
