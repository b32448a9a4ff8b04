//! A folder for a run to write to, whose size the kernel limits where the host allows that.
//!
//! The caller makes it before the run and can fill it. After the run the caller reads it by its descriptor alone,
//! because it is mounted in the run's own namespace and nowhere on the host.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};

use crate::launcher::{Launcher, memory_volume};
use crate::space::{DiskLimiter, most_files, slack};
use crate::spec::RunLimits;
use crate::{image, namespaces};

/// A folder for runs to write to. The caller removes what it leaves on disk (`hab_tree::remove` of the folder it was
/// made in). No mount and no loop device stays when this is dropped or the process ends.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    folder: OwnedFd,
    /// The mount that the next run shows. The lock is held for a moment.
    mount: Mutex<Option<OwnedFd>>,
    image: Option<File>,
    limiter: DiskLimiter,
    most: Option<u64>,
}

impl Volume {
    /// Makes a volume for the disk limit in `limits`. As root it is the image file `<at>.img`. For a normal user it is
    /// in memory, if there is room for it, for the run's own memory and for a second run's volume. Otherwise, and
    /// without a limit, it is the plain folder `at`. Neither path may exist yet.
    pub fn make(launcher: &Launcher, at: &Path, limits: &RunLimits) -> io::Result<Self> {
        let Some(most) = limits.disk else { return Self::plain(at, None) };
        if namespaces::owner().is_some() {
            Self::make_as(DiskLimiter::Image, launcher, at, most)
        } else if room_in_memory() > limits.memory.unwrap_or(0).saturating_add(most.saturating_mul(2)) {
            Self::make_as(DiskLimiter::Memory, launcher, at, most)
        } else {
            Self::plain(at, Some(most))
        }
        // Build without the kernel's limit if something for it is missing (a loop device, mkfs, a right).
        .or_else(|_| Self::plain(at, Some(most)))
    }

    /// Makes a volume of one kind, or fails.
    pub fn make_as(limiter: DiskLimiter, launcher: &Launcher, at: &Path, most: u64) -> io::Result<Self> {
        let (mount, image) = match limiter {
            DiskLimiter::Counted => return Self::plain(at, Some(most)),
            DiskLimiter::Image => {
                let mut path = at.as_os_str().to_owned();
                path.push(".img");
                let made = image::make(Path::new(&path), most)?;
                (made.mount, Some(made.file))
            }
            DiskLimiter::Memory => {
                (memory_volume(launcher, most.saturating_add(slack(most)), most_files(most))?, None)
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&mount, ".", flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        Ok(Self { path, folder, mount: Mutex::new(Some(mount)), image, limiter, most: Some(most) })
    }

    fn plain(at: &Path, most: Option<u64>) -> io::Result<Self> {
        fs::create_dir(at)?;
        Ok(Self {
            path: at.to_owned(),
            folder: open_folder(at)?,
            mount: Mutex::default(),
            image: None,
            limiter: DiskLimiter::Counted,
            most,
        })
    }

    /// The folder's path for this process, while the volume exists. It is the `host` of the bind that shows the volume.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mechanism that limits the volume's size.
    pub fn limiter(&self) -> DiskLimiter {
        self.limiter
    }

    /// The mount to show in a run; `None` for a plain folder, which is bound like any other.
    pub(crate) fn take_mount(&self) -> Option<OwnedFd> {
        self.mount.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes back the volume's mount from a run, for the next run.
    pub(crate) fn put_mount(&self, mount: OwnedFd) {
        *self.mount.lock().unwrap_or_else(PoisonError::into_inner) = Some(mount);
    }

    /// The image file that holds the file system, if there is one.
    pub(crate) fn image(&self) -> Option<&File> {
        self.image.as_ref()
    }

    /// The most bytes of memory that the volume may take.
    pub(crate) fn memory(&self) -> u64 {
        let in_memory = self.most.filter(|_| self.limiter == DiskLimiter::Memory);
        in_memory.map_or(0, |most| most.saturating_add(slack(most)))
    }
}

impl AsFd for Volume {
    /// The open folder.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}

/// Bytes of memory that programs could still take without swapping.
fn room_in_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = available.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
