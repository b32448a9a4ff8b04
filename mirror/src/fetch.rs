//! Fetches files by digest, and the few documents whose digest nobody can know yet.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hab_oci::Digest;

use crate::http::{self, Bounds, Http};
use crate::partial::Partial;
use crate::transfer::Transfer;
use crate::{Address, Fault, Keep, KeepError, MirrorError, Observer, Outside};

/// How much is accepted from outside if no lock gives the size.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The largest document without a known digest (an InRelease, an index entry, a crate to be locked), in bytes.
    /// Debian's InRelease files have 0.2 MB, the largest index entries 10 MB.
    pub document: u64,
    /// The largest file that is read into memory, in bytes. Debian's Packages.xz has 10 MB.
    pub read: u64,
    /// How often one upstream is asked for a file, if it breaks off half way.
    pub attempts: usize,
    /// How many files are fetched at a time.
    pub parallel: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { document: 32 << 20, read: 128 << 20, attempts: 3, parallel: 4 }
    }
}

/// A file's size, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// At most this many bytes; the digest decides which.
    AtMost(u64),
    /// Exactly this many bytes.
    Exact(u64),
}

impl Size {
    fn bounds(self) -> Bounds {
        match self {
            Self::AtMost(limit) => Bounds { exact: None, limit, pinned: true, within: None },
            Self::Exact(size) => Bounds { exact: Some(size), limit: size, pinned: true, within: None },
        }
    }
}

/// A file to fetch, named by its digest.
#[derive(Clone, Debug)]
pub struct FileToFetch {
    /// The name of the package or file, for people.
    pub what: String,
    /// Addresses to fetch it from, the preferred one first.
    pub urls: Vec<Address>,
    /// The file's digest.
    pub digest: Digest,
    /// Its size.
    pub size: Size,
}

/// Fetches files into a [`Keep`].
pub struct Fetcher<'a> {
    http: Http,
    keep: &'a dyn Keep,
    observer: &'a dyn Observer,
    limits: FetchLimits,
    offline: bool,
}

impl<'a> Fetcher<'a> {
    /// A fetcher into `keep`. When `offline`, it finds only files that are already stored.
    pub fn new(keep: &'a dyn Keep, observer: &'a dyn Observer, limits: FetchLimits, offline: bool) -> Self {
        Self { http: Http::default(), keep, observer, limits, offline }
    }

    /// The same fetcher, with the operator's settings for requests to hosts outside.
    #[must_use]
    pub fn asking(self, outside: Outside) -> Self {
        Self { http: Http::new(outside), ..self }
    }

    /// Whether fetching is forbidden.
    pub fn offline(&self) -> bool {
        self.offline
    }

    /// The stored bytes of `digest`, if they are here.
    pub fn open(&self, digest: &Digest) -> Result<Option<File>, MirrorError> {
        self.keep.open(digest).map_err(MirrorError::keep(digest.to_string()))
    }

    /// Stores every wanted file that is missing. The first failure ends it; files that arrived before stay.
    pub fn fetch_all(&self, wanted: &[FileToFetch]) -> Result<(), MirrorError> {
        self.each(&self.missing(wanted)?, |w| self.fetch(w))
    }

    /// Stores as many of the missing files as possible: one that no upstream has does not stop the others. Returns an
    /// error for each file that is still missing.
    pub fn fetch_each(&self, wanted: &[FileToFetch]) -> Result<Vec<MirrorError>, MirrorError> {
        let failures = Mutex::new(Vec::new());
        self.each(&self.missing(wanted)?, |w| match self.fetch(w) {
            // A full disk, or a person who asks to stop, would stop the next file too.
            Err(e) if !matches!(e.fault(), Fault::Ours | Fault::Cancelled) => {
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(e);
                Ok(())
            }
            done => done,
        })?;
        Ok(failures.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The files that are not stored yet, the largest first, so that the last thread does not end alone with the
    /// biggest file.
    fn missing<'w>(&self, wanted: &'w [FileToFetch]) -> Result<Vec<&'w FileToFetch>, MirrorError> {
        let mut missing = Vec::new();
        // A package may be wanted twice, for two roots; two threads must not write one partial file.
        let mut seen = BTreeSet::new();
        for w in wanted {
            if seen.insert(&w.digest) && self.open(&w.digest)?.is_none() {
                missing.push(w);
            }
        }
        missing.sort_by_key(|w| std::cmp::Reverse(w.size));
        Ok(missing)
    }

    /// Does `work` for every item, on a few threads. The first failure ends it.
    pub fn each<T: Sync>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<(), MirrorError> + Sync,
    ) -> Result<(), MirrorError> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        thread::scope(|scope| {
            for _ in 0..self.limits.parallel.min(items.len()) {
                scope.spawn(|| {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(e) = work(item) {
                            next.store(items.len(), Ordering::Relaxed);
                            if let Ok(mut slot) = failure.lock() {
                                slot.get_or_insert(e);
                            }
                        }
                    }
                });
            }
        });
        match failure.into_inner() {
            Ok(None) => Ok(()),
            Ok(Some(e)) => Err(e),
            Err(poisoned) => poisoned.into_inner().map_or(Ok(()), Err),
        }
    }

    /// Stores the wanted file, if it is missing.
    pub fn fetch(&self, wanted: &FileToFetch) -> Result<(), MirrorError> {
        if self.open(&wanted.digest)?.is_some() {
            return Ok(());
        }
        let what = wanted.what.as_str();
        if self.offline {
            return Err(MirrorError::Offline { what: what.to_owned() });
        }
        let mut partial = Partial::open(wanted, self.keep, self.observer)?;
        // Another process that held the partial file may have finished it.
        if self.open(&wanted.digest)?.is_some() {
            return partial.remove();
        }
        let (mut refused, mut away) = (None, None);
        for address in &wanted.urls {
            match self.ask_one(wanted, address, &mut partial) {
                Ok(()) => return Ok(()),
                Err(e) => match e? {
                    wrong @ (Transfer::WrongDigest { .. } | Transfer::WrongSize { .. }) => {
                        refused = Some((address.shown(), wrong));
                    }
                    other => away = Some((address.shown(), other)),
                },
            }
        }
        let what = what.to_owned();
        // Wrong bytes from one upstream say more than silence from another.
        Err(match (refused, away) {
            (Some((url, Transfer::WrongDigest { expected, actual })), _) => {
                MirrorError::WrongDigest { what, url, expected, actual }
            }
            (Some((url, Transfer::WrongSize { expected, actual })), _) => {
                MirrorError::WrongSize { what, url, expected, actual }
            }
            (Some((url, transfer)), _) | (None, Some((url, transfer))) => {
                MirrorError::Unreachable { what, tried: wanted.urls.len(), url, source: Box::new(transfer) }
            }
            (None, None) => MirrorError::NoUpstream { what, advice: "name one in hab.toml".to_owned() },
        })
    }

    /// Asks one upstream. `Err(Ok(_))`: this upstream failed, ask the next. `Err(Err(_))`: no other upstream could do
    /// better.
    fn ask_one(
        &self,
        wanted: &FileToFetch,
        address: &Address,
        partial: &mut Partial,
    ) -> Result<(), Result<Transfer, MirrorError>> {
        let resumed = partial.len().map_err(Err)? > 0;
        self.attempts(address, &mut partial.file, wanted.size.bounds(), &wanted.what)?;
        partial.file.seek(SeekFrom::Start(0)).map_err(MirrorError::io(&partial.path)).map_err(Err)?;
        match self.keep.take(Some(&wanted.digest), &mut partial.file) {
            Ok(_) => partial.remove().map_err(Err),
            Err(KeepError::WrongDigest { expected, actual }) => {
                partial.file.set_len(0).map_err(MirrorError::io(&partial.path)).map_err(Err)?;
                // The bytes of an earlier run may be at fault: blame the upstream only for a whole transfer.
                if resumed {
                    return self.ask_one(wanted, address, partial);
                }
                Err(Ok(Transfer::WrongDigest { expected, actual }))
            }
            Err(source) => Err(Err(MirrorError::Keep { what: wanted.what.clone(), source })),
        }
    }

    /// Asks one upstream, again if it breaks off.
    fn attempts(
        &self,
        address: &Address,
        file: &mut File,
        bounds: Bounds,
        what: &str,
    ) -> Result<(), Result<Transfer, MirrorError>> {
        for attempt in 1.. {
            if !bounds.pinned && attempt > 1 {
                // Without a digest, nobody would notice if two halves came from two versions of the file.
                file.set_len(0).map_err(|e| Ok(Transfer::Io(e)))?;
            }
            match http::transfer(&self.http, address, file, bounds, what, self.observer) {
                Ok(_) => break,
                Err(_) if self.observer.cancelled() => {
                    return Err(Err(MirrorError::Cancelled { what: what.to_owned() }));
                }
                Err(Transfer::Io(e)) if is_full(&e) => {
                    return Err(Err(MirrorError::Io { path: self.keep.partial().to_owned(), source: e }));
                }
                Err(e) if e.may_pass() && attempt < self.limits.attempts => {
                    let error = hab_outbound::story(&e);
                    tracing::debug!(what, attempt, error, "transfer broke off, trying again");
                }
                Err(e) => return Err(Ok(e)),
            }
        }
        Ok(())
    }

    /// Fetches a document whose digest nobody can know yet (a signed index, an index entry) from the first upstream
    /// that has it, and stores it under `kind` and `name`. **Unverified**: `hab-keys` judges it. If every upstream
    /// fails, there is no fallback to an earlier copy, because only the caller knows which copy was accepted.
    pub fn document(&self, kind: &str, name: &str, urls: &[Address]) -> Result<Vec<u8>, MirrorError> {
        let bytes = self.glance(name, urls, self.limits.document)?;
        let (digest, size) = self.keep.take(None, &mut bytes.as_slice()).map_err(MirrorError::keep(name))?;
        self.name(kind, name, &digest, size)?;
        Ok(bytes)
    }

    /// Fetches up to `limit` bytes from the first of `urls` that answers: **unverified**, and not stored.
    pub(crate) fn glance(&self, name: &str, urls: &[Address], limit: u64) -> Result<Vec<u8>, MirrorError> {
        self.look(name, urls, Bounds { exact: None, limit, pinned: false, within: None })
    }

    fn look(&self, name: &str, urls: &[Address], bounds: Bounds) -> Result<Vec<u8>, MirrorError> {
        if self.offline {
            return Err(MirrorError::Offline { what: name.to_owned() });
        }
        let mut last = None;
        for address in urls {
            let folder = self.keep.partial();
            let mut file = tempfile::tempfile_in(folder).map_err(MirrorError::io(folder))?;
            match self.attempts(address, &mut file, bounds, name) {
                Ok(()) => {
                    let mut bytes = Vec::new();
                    file.seek(SeekFrom::Start(0)).map_err(MirrorError::io(folder))?;
                    file.read_to_end(&mut bytes).map_err(MirrorError::io(folder))?;
                    return Ok(bytes);
                }
                Err(e) => last = Some((address.shown(), e?)),
            }
        }
        Err(match last {
            Some((url, Transfer::Status(404 | 410 | 403))) => {
                MirrorError::Unknown { what: name.to_owned(), upstream: url }
            }
            Some((url, transfer)) => MirrorError::Unreachable {
                what: name.to_owned(),
                tried: urls.len(),
                url,
                source: Box::new(transfer),
            },
            None => {
                MirrorError::NoUpstream { what: name.to_owned(), advice: "name one in hab.toml".to_owned() }
            }
        })
    }

    /// Fetches up to `limit` bytes from one address within `time`: **unverified**, and not stored. `None` if the host
    /// has no such file.
    pub fn peek(
        &self,
        name: &str,
        address: &Address,
        limit: u64,
        time: Duration,
    ) -> Result<Option<Vec<u8>>, MirrorError> {
        let bounds = Bounds { exact: None, limit, pinned: false, within: Some(time) };
        match self.look(name, std::slice::from_ref(address), bounds) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(MirrorError::Unknown { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Records that `name` stands for these stored bytes.
    pub fn name(&self, kind: &str, name: &str, digest: &Digest, size: u64) -> Result<(), MirrorError> {
        self.keep.remember(kind, name, digest, size).map_err(MirrorError::keep(name))
    }

    /// The digest that `name` stands for, if its bytes are stored.
    pub(crate) fn named(&self, kind: &str, name: &str) -> Result<Option<Digest>, MirrorError> {
        let Some(digest) = self.keep.latest(kind, name).map_err(MirrorError::keep(name))? else {
            return Ok(None);
        };
        Ok(self.open(&digest)?.map(|_| digest))
    }

    /// The size of the stored bytes of `digest`.
    pub fn size(&self, digest: &Digest) -> Result<u64, MirrorError> {
        let what = digest.to_string();
        let file = self.open(digest)?.ok_or_else(|| MirrorError::Offline { what: what.clone() })?;
        Ok(file.metadata().map_err(MirrorError::io(what))?.len())
    }

    /// The limits on what is accepted from outside.
    pub(crate) fn limits(&self) -> FetchLimits {
        self.limits
    }

    /// Stores bytes that are in memory, if `digest` is theirs.
    pub(crate) fn take(&self, what: &str, digest: &Digest, mut bytes: &[u8]) -> Result<(), MirrorError> {
        self.keep.take(Some(digest), &mut bytes).map(drop).map_err(MirrorError::keep(what))
    }

    /// The stored document with this digest, if it is here.
    pub fn kept_document(&self, name: &str, digest: &Digest) -> Result<Option<Vec<u8>>, MirrorError> {
        self.open(digest)?.map(|file| read_limited(file, name, self.limits.document)).transpose()
    }

    /// The bytes of a wanted file, fetched first if they are missing.
    pub fn read(&self, wanted: &FileToFetch) -> Result<Vec<u8>, MirrorError> {
        self.fetch(wanted)?;
        let file =
            self.open(&wanted.digest)?.ok_or_else(|| MirrorError::Offline { what: wanted.what.clone() })?;
        read_limited(file, &wanted.what, self.limits.read)
    }
}

fn read_limited(file: File, what: &str, limit: u64) -> Result<Vec<u8>, MirrorError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(MirrorError::io(what))?;
    if bytes.len() as u64 > limit {
        return Err(MirrorError::Malformed {
            what: what.to_owned(),
            expected: "a document",
            detail: format!("it is larger than {limit} bytes"),
        });
    }
    Ok(bytes)
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
