//! One transfer from one address into a file, resumed where an earlier one broke off.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use crate::Observer;
use crate::error::Transfer;
use crate::redirect::Client;

/// Within a transfer, how long an upstream may stay silent.
const SILENCE: Duration = Duration::from_secs(60);
/// The slowest whole transfer that is waited for, beside a fixed minute.
const SLOWEST_BYTES_PER_SECOND: u64 = 20 * 1024;

pub(crate) fn client() -> Client {
    // OpenSSL, which the signature checks bring anyway, with the host's own trust store.
    let tls =
        TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .user_agent(concat!("hab-build/", env!("CARGO_PKG_VERSION")))
        // Followed by hand, because an upstream must not lead just anywhere.
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build();
    Client::new(&config)
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

/// Appends to `file` until it holds the whole of `url`. On failure what came stays in the file, to resume from.
pub(crate) fn transfer(
    client: &Client,
    url: &str,
    file: &mut File,
    bounds: Bounds,
    what: &str,
    observer: &dyn Observer,
) -> Result<u64, Transfer> {
    let have = file.seek(SeekFrom::End(0)).map_err(Transfer::Io)?;
    if bounds.exact == Some(have) {
        return Ok(have);
    }
    if let Some(path) = url.strip_prefix("file://") {
        let source = File::open(path).map_err(Transfer::Io)?;
        restart(file)?;
        bounds.admit(source.metadata().map_err(Transfer::Io)?.len())?;
        return copy(source, file, 0, bounds, what, observer);
    }
    let response = client.get(url, have)?;
    let start = match response.status().as_u16() {
        // Only the range that was asked for may be appended; anything else would splice two files.
        206 if content_range_start(&response) == Some(have) => have,
        200 => {
            restart(file)?;
            0
        }
        416 | 206 => {
            // The file upstream is not the one that was begun; the next attempt starts anew.
            restart(file)?;
            return Err(Transfer::Status(response.status().as_u16()));
        }
        other => return Err(Transfer::Status(other)),
    };
    let announced = response.body().content_length().map(|rest| start.saturating_add(rest));
    if let Some(size) = announced
        && let Err(e) = bounds.admit(size)
    {
        restart(file)?;
        return Err(e);
    }
    let body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let total = Bounds { exact: bounds.exact.or(announced), ..bounds };
    copy(body, file, start, total, what, observer)
}

fn content_range_start(response: &ureq::http::Response<ureq::Body>) -> Option<u64> {
    let value = response.headers().get("content-range")?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn restart(file: &mut File) -> Result<(), Transfer> {
    file.set_len(0).map_err(Transfer::Io)?;
    file.seek(SeekFrom::Start(0)).map_err(Transfer::Io)?;
    Ok(())
}

fn copy(
    mut body: impl Read,
    file: &mut File,
    start: u64,
    bounds: Bounds,
    what: &str,
    observer: &dyn Observer,
) -> Result<u64, Transfer> {
    let seconds = 60 + bounds.limit.min(bounds.exact.unwrap_or(u64::MAX)) / SLOWEST_BYTES_PER_SECOND;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut buffer = vec![0; 128 * 1024];
    let mut done = start;
    loop {
        observer.fetching(what, done, bounds.exact);
        if observer.cancelled() {
            return Err(Transfer::Io(std::io::ErrorKind::Interrupted.into()));
        }
        if Instant::now() > deadline {
            return Err(Transfer::TooSlow { seconds });
        }
        let n = match body.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Transfer::Io(e)),
        };
        if n == 0 {
            break;
        }
        done += n as u64;
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
        file.write_all(&buffer[..n]).map_err(Transfer::Io)?;
    }
    match bounds.exact {
        Some(expected) if done < expected => Err(Transfer::Short { got: done, expected }),
        _ => Ok(done),
    }
}
