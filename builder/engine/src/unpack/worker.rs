//! Unpacks one archive's entries into the root.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use hab_archive::{Entry, Error, Kind, Measure, Problem, Source, Tar};

use super::claims::Claims;
use super::format::{self, Format};
use super::name::{MERGED, Rules};
use super::order::{self, Order, Refused};
use super::place::Placer;
use super::{NameProblem, Options, Special, UnpackError, shown};

/// The size of the buffer. It fits a core's own cache: larger writes are not faster, smaller ones need more calls.
const BUFFER: usize = 256 * 1024;

/// What workers on the same root share.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) claims: &'a Claims<'a>,
    pub(super) options: &'a Options,
    pub(super) cancel: &'a AtomicBool,
    /// Whether whiteouts are refused.
    pub(super) layer: bool,
}

struct Worker<'a> {
    job: Job<'a>,
    archive: usize,
    placer: Placer<'a>,
    rules: Rules,
    compression: &'static str,
}

impl<'a> Job<'a> {
    pub(super) fn placer(self, archive: usize) -> Placer<'a> {
        Placer::new(self.root, self.claims, self.options, archive)
    }

    /// Unpacks the archive with the number `archive`. `buffer` is reused from archive to archive.
    pub(super) fn unpack(self, archive: usize, path: &Path, buffer: &mut Vec<u8>) -> Result<(), UnpackError> {
        let limits = self.options.limits.of_one();
        let opened = format::open(self.claims.name(archive), path, &limits)?;
        let rules = Rules {
            absolute: opened.format == Format::Deb,
            strip: self.options.strip_components,
            merged_usr: self.options.merged_usr,
            longest: self.options.limits.path,
            layer: self.layer,
        };
        let placer = self.placer(archive);
        let mut worker = Worker { job: self, archive, placer, rules, compression: opened.compression };
        buffer.resize(BUFFER, 0);
        worker.run(Tar::new(opened.tar, &limits), buffer)
    }
}

impl Worker<'_> {
    fn run<S: Source>(&mut self, mut tar: Tar<S>, buffer: &mut [u8]) -> Result<(), UnpackError> {
        let mut entries = 0_u64;
        if self.job.options.order == Order::AsIs {
            while let Some(entry) = tar.next_entry().map_err(|e| self.problem(e))? {
                entries += 1;
                self.entry(&entry, buffer, &mut |b| tar.read(b))?;
            }
        } else {
            let limits = &self.job.options.limits;
            let mut kept =
                order::collect(&mut tar, limits.memory, limits.entries).map_err(|e| self.refused(e))?;
            order::arrange(&mut kept, self.job.options.order);
            for (entry, content) in kept {
                entries += 1;
                let mut content = content.as_slice();
                self.entry(&entry, buffer, &mut |b| Ok(taken(&mut content, b)))?;
            }
        }
        if entries == 0 {
            return Err(UnpackError::Empty { archive: self.name() });
        }
        loop {
            self.cancelled()?;
            match tar.rest(buffer).map_err(|e| self.problem(e))? {
                0 => return Ok(()),
                n => self.job.claims.count_bytes(self.archive, n as u64)?,
            }
        }
    }

    fn entry(
        &mut self,
        entry: &Entry,
        buffer: &mut [u8],
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<(), UnpackError> {
        self.cancelled()?;
        self.job.claims.count_entry(self.archive)?;
        self.job.claims.count_bytes(self.archive, entry.size)?;
        self.job.claims.count_disk(self.archive, entry.size)?;
        let Some(path) = self.path(&entry.path, &entry.path)? else { return Ok(()) };
        match &entry.kind {
            Kind::Directory => return self.placer.directory(&path),
            Kind::Special(kind) => {
                return match self.job.options.special {
                    Special::Skip => Ok(()),
                    Special::Refuse => {
                        Err(UnpackError::Special { archive: self.name(), entry: shown(&entry.path), kind })
                    }
                };
            }
            _ if path.is_empty() => return Err(self.bad_name(&entry.path, NameProblem::Empty)),
            Kind::Link(target) if self.rules.merged_usr && is_merged(&path, target) => return Ok(()),
            Kind::Link(target) => return self.placer.link(&path, target),
            Kind::HardLink(target) => {
                return match self.path(target, &entry.path)? {
                    Some(target) if !target.is_empty() => self.placer.hard_link(&path, &target),
                    _ => Err(self.bad_name(&entry.path, NameProblem::Empty)),
                };
            }
            Kind::File => {}
        }
        let mut sink = self.placer.file(&path, entry.mtime.max(0), entry.executable())?;
        loop {
            match read(buffer).map_err(|e| self.problem(e))? {
                0 => return self.placer.finish(sink, &path),
                n => self.placer.write(&mut sink, &path, &buffer[..n])?,
            }
            self.cancelled()?;
        }
    }

    /// `raw` as a path below the root; `entry` is for errors.
    fn path(&self, raw: &[u8], entry: &[u8]) -> Result<Option<Vec<u8>>, UnpackError> {
        self.rules.apply(raw).map_err(|problem| self.bad_name(entry, problem))
    }

    fn cancelled(&self) -> Result<(), UnpackError> {
        if self.job.cancel.load(Ordering::Relaxed) {
            return Err(UnpackError::Cancelled);
        }
        match self.job.options.until {
            Some(until) if std::time::Instant::now() >= until => {
                Err(UnpackError::Overtime { archive: self.name() })
            }
            _ => Ok(()),
        }
    }

    fn name(&self) -> String {
        self.job.claims.name(self.archive).to_owned()
    }

    fn bad_name(&self, entry: &[u8], problem: NameProblem) -> UnpackError {
        UnpackError::Name { archive: self.name(), entry: shown(entry), problem }
    }

    fn problem(&self, error: Error) -> UnpackError {
        let (archive, limits) = (self.name(), &self.job.options.limits);
        let Error { entry, offset, problem } = error;
        match problem {
            Problem::Truncated(inside) => UnpackError::Truncated { archive, inside },
            Problem::Malformed(problem) => UnpackError::Tar { archive, entry, offset, problem },
            Problem::Exceeded(exceeded) => match exceeded.measure {
                Measure::Entry | Measure::Total | Measure::Decoded => {
                    UnpackError::TooManyBytes { archive, limit: limits.bytes }
                }
                Measure::Entries => UnpackError::TooManyEntries { archive, limit: limits.entries },
                _ => UnpackError::Limit { archive, entry, exceeded },
            },
            Problem::Read(source) => UnpackError::Decode { archive, format: self.compression, source },
        }
    }

    fn refused(&self, refused: Refused) -> UnpackError {
        let limits = &self.job.options.limits;
        match refused {
            Refused::Problem(problem) => self.problem(problem),
            Refused::TooMuch => UnpackError::TooMuchMemory { archive: self.name(), limit: limits.memory },
            Refused::TooMany => UnpackError::TooManyEntries { archive: self.name(), limit: limits.entries },
        }
    }
}

/// Reads content that is in memory, as [`Tar::read`] would.
fn taken(content: &mut &[u8], buffer: &mut [u8]) -> usize {
    let n = content.len().min(buffer.len());
    buffer[..n].copy_from_slice(&content[..n]);
    *content = &content[n..];
    n
}

/// Whether a package has the link that [`Options::merged_usr`] made already. `path` is rewritten by now.
fn is_merged(path: &[u8], target: &[u8]) -> bool {
    let target = target.strip_prefix(b"/").unwrap_or(target);
    path == target
        && path.strip_prefix(b"usr/").is_some_and(|name| MERGED.iter().any(|m| m.as_bytes() == name))
}
