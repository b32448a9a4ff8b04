//! One transfer from one address into a file, resumed where an earlier one broke off.

use std::fs::File;
use std::io::{Read as _, Seek, SeekFrom, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hab_outbound::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use hab_outbound::{Blocking, NamedBy, NoClient, Request};

use crate::Observer;
use crate::address::{Address, Outside};
use crate::transfer::Transfer;

/// The slowest whole transfer that is waited for, beside a fixed minute.
const SLOWEST_BYTES_PER_SECOND: u64 = 20 * 1024;

/// Who asks. Made when something is fetched for the first time: most runs fetch nothing.
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

/// How many bytes a transfer must and may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The exact size, where a lock gives it.
    pub exact: Option<u64>,
    /// The most that is accepted.
    pub limit: u64,
    /// Whether a digest will tell what is joined of two halves from the whole; otherwise nothing may be resumed.
    pub pinned: bool,
    /// How long all of it may take, head and redirects too; without, as long as so many bytes may at the slowest.
    pub within: Option<Duration>,
}

impl Bounds {
    /// Whether a body of `size` bytes may be the wanted one: another size is other bytes, before one of them is read.
    fn admit(self, size: u64) -> Result<(), Transfer> {
        match self.exact {
            Some(expected) if size != expected => Err(Transfer::WrongSize { expected, actual: size }),
            None if size > self.limit => Err(Transfer::TooLarge { limit: self.limit }),
            _ => Ok(()),
        }
    }
}

/// Appends to `file` until it holds the whole of what is at `address`. On failure what came stays in the file, to
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
        // Only the range that was asked for may be appended; anything else would splice two files.
        206 if content_range_start(answer.headers()) == Some(have) => have,
        200 => {
            restart(file)?;
            0
        }
        status @ (416 | 206) => {
            // The file upstream is not the one that was begun; the next attempt starts anew.
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

/// Whoever waits for an answer, and wants it no more after a time: one that sends a byte now and then is neither silent
/// nor ever done.
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
    // Some hosts call a compressed file an encoded one. A digest tells whether it is the file; nothing tells for a
    // document.
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

/// Appends what `next` gives, piece by piece, until there is no more.
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
            // An upstream that announced nothing, or lied: other bytes than the lock's all the same.
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
