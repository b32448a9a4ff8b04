//! Whether the disk has room for a build. Each build records how much it needed, for the next one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::build::order::Order;
use crate::error::FarmError;
use crate::facts::{Facts, Position};
use crate::progress::Progress;

/// How often the free space is measured during a build.
const TICK: Duration = Duration::from_millis(500);
/// A toolchain is unpacked twice, each time to about four times the size of its packages.
const UNPACKED: u64 = 8;
/// Without a record of an earlier build, expect a run to use one part in this many of the disk that its recipe allows.
const PART: u64 = 4;

/// Checks whether the disk has room for a build.
#[derive(Clone, Copy)]
pub struct DiskSpace<'a> {
    /// The data folder.
    pub data: &'a Path,
    /// Remembers how much earlier builds needed.
    pub facts: Facts<'a>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl DiskSpace<'_> {
    /// Refuses a build for which less disk is free than an earlier one was measured to need. Without an earlier build
    /// it only warns, because its estimate is a guess. `unpacked`: whether the toolchain is unpacked already.
    pub fn check(&self, order: &Order, unpacked: bool) -> Result<(), FarmError> {
        let path = self.data;
        let free = free(path).map_err(FarmError::io(path))?;
        let known = self.facts.position(&position(order, unpacked))?;
        if let Some(needed) = known.and_then(|text| text.parse::<u64>().ok()) {
            if free < needed {
                return Err(FarmError::NoRoom {
                    path: path.to_owned(),
                    recipe: order.text.recipe.name.to_string(),
                    free: shown(free),
                    needed: shown(needed),
                });
            }
            return Ok(());
        }
        let packages: u64 = order.toolchain.packages.iter().map(|package| package.size).sum();
        let toolchain = if unpacked { 0 } else { packages.saturating_mul(UNPACKED + 1) };
        let needed = toolchain.saturating_add((order.text.recipe.build.disk_mib << 20) / PART);
        if free < needed {
            self.progress.note(&format!(
                "{} has {} of disk space free; building {} may need about {}",
                path.display(),
                shown(free),
                order.text.recipe.name,
                shown(needed)
            ));
        }
        Ok(())
    }

    /// Records how much a build needed, for the next one. `unpacked`: whether its toolchain was unpacked before.
    pub fn note(&self, order: &Order, unpacked: bool, used: u64) -> Result<(), FarmError> {
        self.facts.set_position(&position(order, unpacked), &used.to_string())
    }
}

/// The catalog's name for the record. A build that first unpacks its toolchain has another record, because it needs
/// more.
fn position(order: &Order, unpacked: bool) -> Position<'_> {
    Position::DiskNeeded { recipe: order.text.recipe.name.as_str(), unpacked }
}

/// Bytes that this user may still write to the disk of a folder.
fn free(path: &Path) -> std::io::Result<u64> {
    let about = rustix::fs::statvfs(path)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

fn shown(bytes: u64) -> String {
    match bytes {
        n if n >= 10 << 30 => format!("{} GiB", n >> 30),
        n => format!("{} MiB", n >> 20),
    }
}

/// Measures how much of a disk gets used, until `used` is called or the value is dropped.
pub struct Watch {
    path: PathBuf,
    begun: u64,
    least: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start(path: &Path) -> std::io::Result<Self> {
        let begun = free(path)?;
        let (least, stop) = (Arc::new(AtomicU64::new(begun)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (path, least, stop) = (path.to_owned(), least.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(now) = free(&path) {
                        least.fetch_min(now, Ordering::Relaxed);
                    }
                    thread::park_timeout(TICK);
                }
            }
        });
        Ok(Self { path: path.to_owned(), begun, least, stop, thread: Some(thread) })
    }

    /// The most bytes used at one time. Includes what other programs wrote meanwhile, so it is no less than the build
    /// needed.
    pub fn used(self) -> u64 {
        if let Ok(now) = free(&self.path) {
            self.least.fetch_min(now, Ordering::Relaxed);
        }
        self.begun.saturating_sub(self.least.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread returns nothing.
            let _ = thread.join();
        }
    }
}
