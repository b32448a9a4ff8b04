//! Files by digest, and the few documents whose digest nobody can know yet.

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

/// How much is accepted from outside where no lock gives the size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a document that nothing names by digest yet (an InRelease, an index entry, a crate to be locked), in bytes:
    /// Debian's InRelease files have 0.2 MB, the largest index entries 10 MB.
    pub document: u64,
    /// Of a file that is read into memory, in bytes: Debian's Packages.xz has 10 MB.
    pub read: u64,
    /// How often one upstream is asked again after it broke off half way.
    pub attempts: usize,
    /// How many files are fetched at a time.
    pub parallel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { document: 32 << 20, read: 128 << 20, attempts: 3, parallel: 4 }
    }
}

/// What is known of a file's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// No more than this many bytes, and no other bytes than the digest's.
    AtMost(u64),
    /// This many bytes.
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

/// A file that something names by its digest.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For people: a package's or a file's name.
    pub what: String,
    /// Where it may be had, the preferred one first.
    pub urls: Vec<Address>,
    /// Which bytes it is.
    pub digest: Digest,
    /// Its size.
    pub size: Size,
}

/// Brings files into the [`Keep`].
pub struct Fetcher<'a> {
    http: Http,
    keep: &'a dyn Keep,
    observer: &'a dyn Observer,
    limits: Limits,
    offline: bool,
}

impl<'a> Fetcher<'a> {
    /// A fetcher into `keep`; when `offline`, only what is kept already is found.
    pub fn new(keep: &'a dyn Keep, observer: &'a dyn Observer, limits: Limits, offline: bool) -> Self {
        Self { http: Http::default(), keep, observer, limits, offline }
    }

    /// The same, asking as the operator wants.
    #[must_use]
    pub fn asking(self, outside: Outside) -> Self {
        Self { http: Http::new(outside), ..self }
    }

    /// Whether nothing may be fetched.
    pub fn offline(&self) -> bool {
        self.offline
    }

    /// The kept bytes of `digest`, if they are here.
    pub fn open(&self, digest: &Digest) -> Result<Option<File>, MirrorError> {
        self.keep.open(digest).map_err(MirrorError::keep(digest.to_string()))
    }

    /// Makes sure that every wanted file is kept. The first refusal ends it; what came stays.
    pub fn fetch_all(&self, wanted: &[Wanted]) -> Result<(), MirrorError> {
        self.each(&self.missing(wanted)?, |w| self.fetch(w))
    }

    /// Makes sure that as many of the wanted files are kept as can be had: one that nobody has keeps no other away.
    /// Returns why the missing ones are missing.
    pub fn fetch_each(&self, wanted: &[Wanted]) -> Result<Vec<MirrorError>, MirrorError> {
        let failures = Mutex::new(Vec::new());
        self.each(&self.missing(wanted)?, |w| match self.fetch(w) {
            // Our own disk, or a person who asks to stop, are the same for the next file.
            Err(e) if !matches!(e.fault(), Fault::Ours | Fault::Cancelled) => {
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(e);
                Ok(())
            }
            done => done,
        })?;
        Ok(failures.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that are not kept, the largest first, so that the last thread does not end alone with the biggest file.
    fn missing<'w>(&self, wanted: &'w [Wanted]) -> Result<Vec<&'w Wanted>, MirrorError> {
        let mut missing = Vec::new();
        // A package may be wanted for two roots; two threads must not write one partial file.
        let mut seen = BTreeSet::new();
        for w in wanted {
            if seen.insert(&w.digest) && self.open(&w.digest)?.is_none() {
                missing.push(w);
            }
        }
        missing.sort_by_key(|w| std::cmp::Reverse(w.size));
        Ok(missing)
    }

    /// Does `work` for every item, a few at a time. The first failure ends it.
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

    /// Makes sure that the wanted file is kept.
    pub fn fetch(&self, wanted: &Wanted) -> Result<(), MirrorError> {
        if self.open(&wanted.digest)?.is_some() {
            return Ok(());
        }
        let what = wanted.what.as_str();
        if self.offline {
            return Err(MirrorError::Offline { what: what.to_owned() });
        }
        let mut partial = Partial::open(wanted, self.keep, self.observer)?;
        // Whoever had the file before may have brought it to its end.
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
        // That somebody has other bytes says more than that somebody else does not answer.
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

    /// `Err(Ok(_))`: this upstream failed, ask the next. `Err(Err(_))`: nobody could do better.
    fn ask_one(
        &self,
        wanted: &Wanted,
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
                // What an earlier run left may be at fault; only a whole transfer accuses the upstream.
                if resumed {
                    return self.ask_one(wanted, address, partial);
                }
                Err(Ok(Transfer::WrongDigest { expected, actual }))
            }
            Err(source) => Err(Err(MirrorError::Keep { what: wanted.what.clone(), source })),
        }
    }

    /// Asks one upstream, again where it broke off.
    fn attempts(
        &self,
        address: &Address,
        file: &mut File,
        bounds: Bounds,
        what: &str,
    ) -> Result<(), Result<Transfer, MirrorError>> {
        for attempt in 1.. {
            if !bounds.pinned && attempt > 1 {
                // Without a digest nothing would notice that two halves are of two generations.
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

    /// A document whose digest nobody can know yet (a signed index, an index entry), from the first upstream that
    /// has it; kept, and remembered under `kind` and `name`. **Unverified**: it is for `hab-keys` to judge, and only
    /// its caller knows which earlier copy was accepted, so there is no falling back here.
    pub fn document(&self, kind: &str, name: &str, urls: &[Address]) -> Result<Vec<u8>, MirrorError> {
        let bytes = self.glance(name, urls, self.limits.document)?;
        let (digest, size) = self.keep.take(None, &mut bytes.as_slice()).map_err(MirrorError::keep(name))?;
        self.name(kind, name, &digest, size)?;
        Ok(bytes)
    }

    /// What the first of `urls` that answers has now, up to `limit` bytes: **unverified**, and not kept.
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

    /// What is at one address now, up to `limit` bytes and within `time`: **unverified**, and not kept. `None` where
    /// its host says that there is no such thing.
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

    /// Remembers that kept bytes are what `name` is.
    pub fn name(&self, kind: &str, name: &str, digest: &Digest, size: u64) -> Result<(), MirrorError> {
        self.keep.remember(kind, name, digest, size).map_err(MirrorError::keep(name))
    }

    /// Which bytes `name` is, where they are kept.
    pub(crate) fn named(&self, kind: &str, name: &str) -> Result<Option<Digest>, MirrorError> {
        let Some(digest) = self.keep.latest(kind, name).map_err(MirrorError::keep(name))? else {
            return Ok(None);
        };
        Ok(self.open(&digest)?.map(|_| digest))
    }

    /// How many bytes the kept `digest` has.
    pub fn size(&self, digest: &Digest) -> Result<u64, MirrorError> {
        let what = digest.to_string();
        let file = self.open(digest)?.ok_or_else(|| MirrorError::Offline { what: what.clone() })?;
        Ok(file.metadata().map_err(MirrorError::io(what))?.len())
    }

    /// How much is accepted from outside.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Keeps bytes that are in memory already, where they are the ones that `digest` names.
    pub(crate) fn take(&self, what: &str, digest: &Digest, mut bytes: &[u8]) -> Result<(), MirrorError> {
        self.keep.take(Some(digest), &mut bytes).map(drop).map_err(MirrorError::keep(what))
    }

    /// The kept document with this digest, if it is here.
    pub fn kept_document(&self, name: &str, digest: &Digest) -> Result<Option<Vec<u8>>, MirrorError> {
        self.open(digest)?.map(|file| read_limited(file, name, self.limits.document)).transpose()
    }

    /// The kept bytes of a wanted file, fetched first when they are missing.
    pub fn read(&self, wanted: &Wanted) -> Result<Vec<u8>, MirrorError> {
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
