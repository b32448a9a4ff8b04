//! Transfers one address into a file, and resumes where an earlier transfer broke off.

use std::fs::File;
use std::io::{Read as _, Seek, SeekFrom, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hab_outbound::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use hab_outbound::{Blocking, NamedBy, NoClient, Request};

use crate::Observer;
use crate::address::{Address, Outside};
use crate::transfer::Transfer;

/// The slowest rate that a transfer may have, after its first minute.
const SLOWEST_BYTES_PER_SECOND: u64 = 20 * 1024;

/// The HTTP client. It is made at the first fetch: most runs fetch nothing.
#[derive(Debug, Default)]
pub(crate) struct Http {
    outside: Outside,
    client: OnceLock<Blocking>,
}

impl Http {
    pub(crate) fn new(outside: Outside) -> Self {
        Self { outside, client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Blocking, NoClient> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Blocking::new(&self.outside.settings())?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// Limits on the bytes and the time of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The exact size, if a lock gives it.
    pub exact: Option<u64>,
    /// The most that is accepted.
    pub limit: u64,
    /// Whether a digest will be checked. Only then may a transfer be resumed, because a digest tells a whole file from
    /// two halves of different files.
    pub pinned: bool,
    /// How long the whole transfer may take, with head and redirects; `None`: as long as the largest body takes at the
    /// slowest rate.
    pub within: Option<Duration>,
}

impl Bounds {
    /// Refuses a body whose size shows that it is not the wanted one, before any of it is read.
    fn admit(self, size: u64) -> Result<(), Transfer> {
        match self.exact {
            Some(expected) if size != expected => Err(Transfer::WrongSize { expected, actual: size }),
            None if size > self.limit => Err(Transfer::TooLarge { limit: self.limit }),
            _ => Ok(()),
        }
    }
}

/// Appends to `file` until it holds everything at `address`. On failure, the bytes that arrived stay in the file, to
/// resume from.
pub(crate) fn transfer(
    http: &Http,
    address: &Address,
    file: &mut File,
    bounds: Bounds,
    what: &str,
    observer: &dyn Observer,
) -> Result<u64, Transfer> {
    let have = file.seek(SeekFrom::End(0)).map_err(Transfer::Io)?;
    if bounds.exact == Some(have) {
        return Ok(have);
    }
    if let Some(path) = address.url.strip_prefix("file://") {
        if address.named_by == NamedBy::Outside {
            return Err(Transfer::File);
        }
        let mut source = File::open(path).map_err(Transfer::Io)?;
        restart(file)?;
        bounds.admit(source.metadata().map_err(Transfer::Io)?.len())?;
        let mut buffer = vec![0; 128 * 1024];
        let next = || {
            let n = loop {
                match source.read(&mut buffer) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    other => break other.map_err(Transfer::Io)?,
                }
            };
            Ok((n > 0).then(|| buffer[..n].to_vec()))
        };
        return copy(next, file, 0, bounds, what, observer);
    }
    let until = Until { observer, begun: Instant::now(), within: bounds.within };
    receive(http, address, file, (have, bounds), what, &until).map_err(|e| match bounds.within {
        Some(time) if until.is_late() => Transfer::TooSlow { seconds: time.as_secs().max(1) },
        _ => e,
    })
}

/// The same over HTTP.
fn receive(
    http: &Http,
    address: &Address,
    file: &mut File,
    (have, bounds): (u64, Bounds),
    what: &str,
    observer: &dyn Observer,
) -> Result<u64, Transfer> {
    let cancelled = || observer.cancelled();
    let mut answer = http.client()?.send(&request(address, have, bounds)?, &cancelled)?;
    let start = match answer.status().as_u16() {
        // Append only the range that was requested; another one would splice two files.
        206 if content_range_start(answer.headers()) == Some(have) => have,
        200 => {
            restart(file)?;
            0
        }
        status @ (416 | 206) => {
            // Upstream has another file than the one begun here; the next attempt starts anew.
            restart(file)?;
            return Err(Transfer::Status(status));
        }
        other => return Err(Transfer::Status(other)),
    };
    let announced = answer.content_length().map(|rest| start.saturating_add(rest));
    if let Some(size) = announced
        && let Err(e) = bounds.admit(size)
    {
        restart(file)?;
        return Err(e);
    }
    let total = Bounds { exact: bounds.exact.or(announced), ..bounds };
    copy(|| Ok(answer.chunk(&cancelled)?), file, start, total, what, observer)
}

/// An observer that cancels after a time limit: a host that sends a byte now and then is neither silent nor ever done.
struct Until<'a> {
    observer: &'a dyn Observer,
    begun: Instant,
    within: Option<Duration>,
}

impl Until<'_> {
    fn is_late(&self) -> bool {
        self.within.is_some_and(|time| self.begun.elapsed() > time)
    }
}

impl Observer for Until<'_> {
    fn fetching(&self, what: &str, done: u64, total: Option<u64>) {
        self.observer.fetching(what, done, total);
    }
    fn note(&self, text: &str) {
        self.observer.note(text);
    }
    fn cancelled(&self) -> bool {
        self.observer.cancelled() || self.is_late()
    }
}

fn request(address: &Address, from: u64, bounds: Bounds) -> Result<Request, Transfer> {
    let mut request = Request::get(address.url.parse().map_err(|_| Transfer::Scheme)?);
    request.named_by = address.named_by;
    // Some hosts label a compressed file as an encoded one. A digest shows whether the file is right; for a document,
    // nothing would.
    request.any_encoding = bounds.pinned;
    if from > 0 {
        let range = HeaderValue::from_str(&format!("bytes={from}-")).map_err(|_| Transfer::Scheme)?;
        request.headers.insert(RANGE, range);
    }
    Ok(request)
}

fn content_range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn restart(file: &mut File) -> Result<(), Transfer> {
    file.set_len(0).map_err(Transfer::Io)?;
    file.seek(SeekFrom::Start(0)).map_err(Transfer::Io)?;
    Ok(())
}

/// Appends the pieces that `next` returns, until there are no more.
fn copy<B: AsRef<[u8]>>(
    mut next: impl FnMut() -> Result<Option<B>, Transfer>,
    file: &mut File,
    start: u64,
    bounds: Bounds,
    what: &str,
    observer: &dyn Observer,
) -> Result<u64, Transfer> {
    let seconds = 60 + bounds.limit.min(bounds.exact.unwrap_or(u64::MAX)) / SLOWEST_BYTES_PER_SECOND;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut done = start;
    loop {
        observer.fetching(what, done, bounds.exact);
        if observer.cancelled() {
            return Err(Transfer::Io(std::io::ErrorKind::Interrupted.into()));
        }
        if Instant::now() > deadline {
            return Err(Transfer::TooSlow { seconds });
        }
        let Some(piece) = next()? else { break };
        let piece = piece.as_ref();
        done += piece.len() as u64;
        let over = match bounds.exact {
            // The upstream announced no size, or lied: the bytes are not the lock's in any case.
            Some(expected) if done > expected => Some(Transfer::WrongSize { expected, actual: done }),
            None if done > bounds.limit => Some(Transfer::TooLarge { limit: bounds.limit }),
            _ => None,
        };
        if let Some(e) = over {
            restart(file)?;
            return Err(e);
        }
        file.write_all(piece).map_err(Transfer::Io)?;
    }
    match bounds.exact {
        Some(expected) if done < expected => Err(Transfer::Short { got: done, expected }),
        _ => Ok(done),
    }
}
