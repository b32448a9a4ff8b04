//! The entry points: one archive, or many at once with a worker for each core.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, open};

use super::claims::{BEFORE, Claims, Node};
use super::name::{MERGED, Rules};
use super::worker::Job;
use super::{Options, UnpackError};

/// The progress of [`unpack_packages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The package that was just finished.
    pub name: &'a str,
    /// Packages that are finished.
    pub packages: usize,
    /// Packages in all.
    pub packages_total: usize,
    /// Bytes of package files that are finished.
    pub bytes: u64,
    /// Bytes of package files in all.
    pub bytes_total: u64,
}

/// The totals of an unpacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Entries of all archives.
    pub entries: u64,
    /// Bytes of content of all archives, padding at their ends included.
    pub bytes: u64,
    /// Bytes on the disk, as [`super::UnpackLimits::disk`] counts them.
    pub disk: u64,
}

/// Unpacks one archive into `root`, which is made if it is missing.
///
/// `name` is what errors call the archive. After an error `root` holds a part of the tree and must be removed.
pub fn unpack_archive(
    name: &str,
    archive: &Path,
    root: &Path,
    options: &Options,
    cancel: &AtomicBool,
) -> Result<Summary, UnpackError> {
    run(&[(name, archive)], root, options, false, &|_| {}, cancel)
}

/// Unpacks one layer of an OCI image into `root`, as [`unpack_archive`] does; a whiteout is an error.
pub fn unpack_layer(
    name: &str,
    layer: &Path,
    root: &Path,
    options: &Options,
    cancel: &AtomicBool,
) -> Result<Summary, UnpackError> {
    run(&[(name, layer)], root, options, true, &|_| {}, cancel)
}

/// Unpacks `packages`, given as (name, file), into `root` on all cores.
///
/// The tree does not depend on which worker is faster: directories are merged, and a file that two packages have is an
/// error unless it is the same in both. `progress` is called from the workers, once a package.
pub fn unpack_packages(
    packages: &[(String, PathBuf)],
    root: &Path,
    options: &Options,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    cancel: &AtomicBool,
) -> Result<Summary, UnpackError> {
    let packages: Vec<_> = packages.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    run(&packages, root, options, false, progress, cancel)
}

fn run(
    archives: &[(&str, &Path)],
    root: &Path,
    options: &Options,
    layer: bool,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    cancel: &AtomicBool,
) -> Result<Summary, UnpackError> {
    let broken = |source: io::Error| UnpackError::Root { path: root.to_owned(), source };
    fs::create_dir_all(root).map_err(broken)?;
    // An earlier archive may have put a link here. It is not followed, and everything below is relative to this
    // descriptor.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(open(root, flags, Mode::empty()).map_err(|e| broken(e.into()))?);
    let claims = Claims::new(archives.iter().map(|(name, _)| *name), options.limits);
    let job = Job { root: folder.as_fd(), claims: &claims, options, cancel, layer };
    claims.claim(BEFORE, b"", Node::Directory)?;
    if options.merged_usr {
        let mut placer = job.placer(claims.links());
        for name in MERGED {
            let target = format!("usr/{name}");
            placer.directory(target.as_bytes())?;
            placer.link(name.as_bytes(), target.as_bytes())?;
        }
    }
    workers(job, archives, progress)?;
    let mut placer = job.placer(claims.links());
    let rules = Rules {
        absolute: true,
        strip: 0,
        merged_usr: options.merged_usr,
        longest: options.limits.path,
        layer,
    };
    for (path, target) in &options.links {
        let problem = |problem| UnpackError::Name {
            archive: claims.name(claims.links()).to_owned(),
            entry: path.clone(),
            problem,
        };
        let Some(place) = rules.apply(path.as_bytes()).map_err(problem)?.filter(|p| !p.is_empty()) else {
            return Err(problem(super::NameProblem::Empty));
        };
        placer.link(&place, target.as_bytes())?;
    }
    placer.complete()?;
    let (entries, bytes) = claims.totals();
    Ok(Summary { entries, bytes, disk: claims.disk() })
}

/// Unpacks the largest archives first, so that no worker is left with a long one at the end.
fn workers(
    job: Job<'_>,
    archives: &[(&str, &Path)],
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<(), UnpackError> {
    // If a file's size cannot be read, opening it fails too, and that error names it.
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let mut queue: Vec<_> =
        archives.iter().enumerate().map(|(at, (name, path))| (size(path), at, *name, *path)).collect();
    queue.sort_by_key(|(size, at, _, _)| (std::cmp::Reverse(*size), *at));
    let bytes_total = queue.iter().map(|(size, ..)| size).sum();
    let (next, done, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    // The error of the first archive in the list that failed, so that the answer does not depend on timing. Locked for
    // one comparison.
    let failed: Mutex<Option<(usize, UnpackError)>> = Mutex::new(None);
    let first_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let mut buffer = Vec::new();
        while let Some((size, at, name, path)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            if first_failed().as_ref().is_some_and(|(first, _)| first < at) {
                continue;
            }
            // Number 0 stands for what was there before.
            if let Err(error) = job.unpack(at + 1, path, &mut buffer) {
                let mut first = first_failed();
                if first.as_ref().is_none_or(|(first, _)| at < first) {
                    *first = Some((*at, error));
                }
                continue;
            }
            progress(Progress {
                name,
                packages: done.fetch_add(1, Ordering::Relaxed) + 1,
                packages_total: archives.len(),
                bytes: bytes.fetch_add(*size, Ordering::Relaxed) + size,
                bytes_total,
            });
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(archives.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
