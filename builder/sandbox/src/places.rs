//! Makes the folders and files in the view that mounts cover, and the few files that a root may lack. None of them
//! shows the time of the run.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, utimensat};

use crate::error::{At, Failure, Step};

/// Writes the files of users and hosts that a C library reads, where the root has none of its own.
pub(crate) fn complete_etc(clock: &Clock) -> Result<(), Failure> {
    let files = [
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1000:build:/build:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ),
        ("/etc/group", "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n"),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ];
    for (path, content) in files {
        let path = Path::new(path);
        if fs::symlink_metadata(path).is_err() {
            let write = |path: &Path| make_place(path, false).and_then(|()| fs::write(path, content));
            clock.keeping(path, write).at(Step::Place, path)?;
        }
    }
    Ok(())
}

/// Keeps the time of this run out of the view: files that the sandbox makes in it get the times of its root.
pub(crate) struct Clock(Timestamps);

impl Clock {
    pub(crate) fn of(root: &Path) -> io::Result<Self> {
        times(root).map(Self)
    }

    pub(crate) fn set(&self, path: &Path) -> io::Result<()> {
        Ok(utimensat(CWD, path, &self.0, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Runs `make`, which makes `path` and missing folders above it. Then sets the times of all that it made, and
    /// restores those of the folder that it made them in.
    pub(crate) fn keeping(&self, path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let Some(existing) = path.ancestors().skip(1).find(|above| above.is_dir()) else {
            return make(path);
        };
        if fs::symlink_metadata(path).is_ok() {
            return make(path);
        }
        let before = times(existing)?;
        make(path)?;
        for made in path.ancestors().take_while(|above| *above != existing) {
            self.set(made)?;
        }
        Ok(utimensat(CWD, existing, &before, AtFlags::empty())?)
    }
}

fn times(path: &Path) -> io::Result<Timestamps> {
    let stat = rustix::fs::stat(path)?;
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    })
}

/// Makes a folder or an empty file, and the folders above it, unless `path` exists.
pub(crate) fn make_place(path: &Path, folder: bool) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if folder {
        return fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    }
    if let Some(above) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    Ok(())
}
