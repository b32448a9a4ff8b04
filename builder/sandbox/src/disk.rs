//! Measures how much disk space the writable binds take.
//!
//! A volume of its own is a file system: the kernel says how full it is, and lets it hold no more than a slack above
//! the limit. The files of a plain folder have to be added up, which takes long. So they are added up only when their
//! file system has filled by half of what the run may still use, or when the last count is long ago compared with the
//! time that it took.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fstat, fstatvfs};

use crate::report::{Limit, Outcome};
use crate::space::{DiskLimiter, most_files};
use crate::spec::Spec;
use crate::usage::Usage;
use crate::volume::Volume;

const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// Adding up may take at most one part in this many of all time.
const SHARE: u32 = 200;
/// Bytes that must stay free on the host's disk beyond what volumes are still to write to it.
const HOST_RESERVE: u64 = 64 << 20;
/// The disk of a plain folder counts as full if fewer bytes are free.
const LEAST_FREE: u64 = 1 << 20;

pub(crate) struct Disks {
    most: Option<u64>,
    volumes: Vec<Own>,
    plain: Vec<OwnedFd>,
    limiter: DiskLimiter,
    /// What the plain folders held when they were last added up.
    held: Held,
    /// How full the plain folders' file systems are: at the start, at the last count, and now.
    full_at_start: u64,
    full_then: u64,
    full_now: u64,
    next: Instant,
}

/// A volume that is a file system of its own.
struct Own {
    folder: OwnedFd,
    image: Option<File>,
}

#[derive(Default, Clone, Copy)]
struct Held {
    bytes: u64,
    entries: u64,
    /// Whether there may be further files that cannot be counted.
    hidden: bool,
}

impl Disks {
    /// `shown` are the volumes of the spec's binds, in the same order.
    pub(crate) fn new(spec: &Spec, shown: &[Option<&&Volume>]) -> io::Result<Self> {
        let (mut volumes, mut plain, mut limiters) = (Vec::new(), Vec::new(), Vec::new());
        for (bind, volume) in spec.binds.iter().zip(shown).filter(|(bind, _)| bind.writable) {
            match volume {
                Some(volume) if volume.limiter() != DiskLimiter::Counted => {
                    limiters.push(volume.limiter());
                    let image = volume.image().map(File::try_clone).transpose()?;
                    volumes.push(Own { folder: volume.as_fd().try_clone_to_owned()?, image });
                }
                _ => {
                    limiters.push(DiskLimiter::Counted);
                    // If a folder is missing, the set-up reports that.
                    plain.extend(rustix::fs::open(&bind.host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()));
                }
            }
        }
        let weakest = |a: DiskLimiter, b: DiskLimiter| if a == DiskLimiter::Counted { a } else { b };
        let limiter = limiters.into_iter().reduce(weakest).unwrap_or(DiskLimiter::Counted);
        let most = spec.limits.disk;
        let full = if most.is_some() { fullness(&plain) } else { 0 };
        let next = Instant::now() + AT_LEAST_EVERY;
        let held = Held::default();
        let (full_at_start, full_then, full_now) = (full, full, full);
        Ok(Self { most, volumes, plain, limiter, held, full_at_start, full_then, full_now, next })
    }

    pub(crate) fn limiter(&self) -> Option<DiskLimiter> {
        self.most.map(|_| self.limiter)
    }

    /// Why the run has to end now, if it has to. `usage` knows the scratch space and the open files of processes.
    pub(crate) fn over(&mut self, usage: &Usage) -> Option<Outcome> {
        let most = self.most?;
        if let Some(full) = self.trouble() {
            return Some(full);
        }
        let own = self.own_bytes() + usage.scratch_used();
        let left = most.saturating_sub(self.held.bytes + own);
        self.full_now = if self.plain.is_empty() { 0 } else { fullness(&self.plain) };
        let due = self.full_now.saturating_sub(self.full_then) > left / 2 || Instant::now() >= self.next;
        if due && !self.plain.is_empty() {
            let begun = Instant::now();
            self.held = self.add_up(Some(usage));
            self.full_then = self.full_now;
            self.next = Instant::now() + AT_LEAST_EVERY.max(begun.elapsed() * SHARE);
        }
        self.verdict(most, own)
    }

    /// The same check when the run is over. It always counts, because others may have freed space on the file system.
    pub(crate) fn over_at_the_end(&mut self, scratch: u64) -> Option<Outcome> {
        let most = self.most?;
        if let Some(full) = self.trouble() {
            return Some(full);
        }
        self.held = self.add_up(None);
        self.verdict(most, self.own_bytes() + scratch)
    }

    /// The time until the next check: `usual`, or `least` if the disk fills so fast that the limit is near.
    pub(crate) fn nap(&self, usual: Duration, least: Duration) -> Duration {
        let Some(most) = self.most.filter(|_| !self.plain.is_empty()) else { return usual };
        let grown = self.full_now.saturating_sub(self.full_then);
        let left = most.saturating_sub(self.held.bytes + grown);
        // In a tenth of a second a fast disk takes 256 MiB.
        if left < 256 << 20 || grown > left / 4 { least } else { usual }
    }

    fn verdict(&self, most: u64, own: u64) -> Option<Outcome> {
        let total = self.held.bytes.saturating_add(own);
        // If files cannot be counted and the disk has filled by more than the limit, the run counts as over it.
        let grown = self.full_now.saturating_sub(self.full_at_start);
        if total > most || (self.held.hidden && grown > most) {
            return Some(Outcome::LimitExceeded(Limit::Disk(most)));
        }
        let files = most_files(most);
        (self.held.entries > files).then_some(Outcome::LimitExceeded(Limit::Files(files)))
    }

    /// Whether a disk has no room left, whatever the limit is.
    fn trouble(&self) -> Option<Outcome> {
        let host = || {
            let full = self.plain.iter().any(|folder| {
                fstatvfs(folder)
                    .is_ok_and(|stat| stat.f_blocks > 0 && stat.f_bavail * stat.f_frsize < LEAST_FREE)
            });
            full.then_some(Outcome::HostDiskFull)
        };
        self.volumes.iter().find_map(Own::trouble).or_else(host)
    }

    fn own_bytes(&self) -> u64 {
        self.volumes.iter().map(|own| used(&own.folder)).sum()
    }

    fn add_up(&self, usage: Option<&Usage>) -> Held {
        let mut held = Held::default();
        let mut seen = BTreeSet::new();
        for folder in &self.plain {
            if let Ok(file) = fstat(folder)
                && !rustix::fs::FileType::from_raw_mode(file.st_mode).is_dir()
            {
                held.bytes += u64::try_from(file.st_blocks).unwrap_or(0) * 512;
                continue;
            }
            let Ok(measured) = hab_tree::measure(folder, &mut seen) else {
                held.hidden = true;
                continue;
            };
            held.bytes = held.bytes.saturating_add(measured.bytes);
            held.entries += measured.entries;
            held.hidden |= measured.unseen > 0;
        }
        if let Some(usage) = usage {
            let devices: BTreeSet<u64> =
                self.plain.iter().filter_map(|folder| Some(fstat(folder).ok()?.st_dev)).collect();
            let open = usage.unlinked(&devices);
            held.bytes = held.bytes.saturating_add(open.bytes);
            held.entries += open.files;
            held.hidden |= open.hidden;
        }
        held
    }
}

impl Own {
    /// Whether the volume has no room for another file, or the disk below its image has none for data it already took.
    fn trouble(&self) -> Option<Outcome> {
        let inside = fstatvfs(&self.folder).ok()?;
        if inside.f_ffree == 0 {
            return Some(Outcome::LimitExceeded(Limit::Files(inside.f_files)));
        }
        let image = self.image.as_ref()?;
        let below = fstatvfs(image).ok()?;
        let written = image.metadata().ok()?.blocks() * 512;
        let to_come = used(&self.folder).saturating_sub(written);
        // The image belongs to root, and root may use reserved blocks.
        let free = below.f_bfree * below.f_frsize;
        (free < to_come.saturating_add(HOST_RESERVE)).then_some(Outcome::HostDiskFull)
    }
}

fn used(filesystem: impl AsFd) -> u64 {
    fstatvfs(filesystem).map_or(0, |stat| stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize)
}

fn fullness(folders: &[OwnedFd]) -> u64 {
    folders.iter().map(used).sum()
}
