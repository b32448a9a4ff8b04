//! How much disk the writable binds hold.
//!
//! Adding up a tree takes long, asking a filesystem how full it is takes a microsecond. So a tree is added
//! up when its filesystem has filled by half of what the run may still use, or when the last time is long ago
//! compared with what it took.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// Of all time, adding up may take one part in this many.
const SHARE: u32 = 200;

pub(crate) struct Disks {
    binds: Vec<PathBuf>,
    most: Option<u64>,
    /// What the binds held, and how full their filesystems were then.
    held: u64,
    full: u64,
    next: Instant,
}

impl Disks {
    pub(crate) fn new(binds: Vec<PathBuf>, most: Option<u64>) -> Self {
        let full = if most.is_some() { fullness(&binds) } else { 0 };
        Self { binds, most, held: 0, full, next: Instant::now() + AT_LEAST_EVERY }
    }

    /// Whether the binds and `scratch` bytes beside them are more than allowed.
    pub(crate) fn over(&mut self, scratch: u64) -> bool {
        let Some(most) = self.most else { return false };
        let left = most.saturating_sub(self.held + scratch);
        let full = fullness(&self.binds);
        if full.saturating_sub(self.full) > left / 2 || Instant::now() >= self.next {
            let begun = Instant::now();
            self.held = held(&self.binds);
            self.full = full;
            self.next = Instant::now() + AT_LEAST_EVERY.max(begun.elapsed() * SHARE);
        }
        self.held + scratch > most
    }
}

impl Disks {
    /// The same when the run is over, counted whatever the filesystem says: others free space on it too.
    pub(crate) fn over_at_the_end(&self, scratch: u64) -> bool {
        self.most.is_some_and(|most| held(&self.binds) + scratch > most)
    }
}

fn fullness(binds: &[PathBuf]) -> u64 {
    let used = |path: &PathBuf| {
        statvfs(path).map_or(0, |stat| stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize)
    };
    binds.iter().map(used).sum()
}

fn held(binds: &[PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    binds.iter().map(|bind| allocated(bind, &mut seen)).sum()
}

/// Bytes allocated to everything at and below `top`, a file with several names once. What vanishes
/// meanwhile or cannot be read is left out.
fn allocated(top: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let mut sum = 0;
    let mut folders = Vec::new();
    let mut add = |path: PathBuf, folders: &mut Vec<PathBuf>| {
        let Ok(stat) = fs::symlink_metadata(&path) else { return };
        if stat.is_dir() {
            folders.push(path);
        } else if stat.nlink() > 1 && !seen.insert((stat.dev(), stat.ino())) {
            return;
        }
        sum += stat.blocks() * 512;
    };
    add(top.to_owned(), &mut folders);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            add(entry.path(), &mut folders);
        }
    }
    sum
}
