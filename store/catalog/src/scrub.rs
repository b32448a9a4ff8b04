//! Scrubbing: hashes every file again at a bounded rate, and sets aside files that do not match their digest.
//!
//! A damaged file is moved to `damaged/`, then its blob is marked in the catalog. Requests for the blob are answered
//! 404, so that a client pushes it again, which mends it. The order matters: a kill between the two leaves a blob
//! without a file, which the next pass finds and marks. In the other order a push could take the damaged file for good.
//!
//! A scrub also sets aside strays: loose files (see `blobs/loose.rs`) that the catalog does not name, most often
//! because the push that wrote them was refused, or was killed before it was recorded. See `strays.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hab_oci::{Digest, Hasher};
use tokio::time::{Instant, sleep_until};

use crate::blocking::blocking;
use crate::error::Error;
use crate::{Bytes, Result, Store};
use hab_blobs::{Stripe, Suspect};

/// Bytes that are read and hashed at a time.
const CHUNK: usize = 1 << 20;
/// The age from which an unnamed file is a stray. A younger one may belong to a push that is about to name it.
const STRAY: Duration = Duration::from_secs(24 * 60 * 60);
const WORK: &str = "scrub";

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many files were hashed.
    pub files: u64,
    /// The bytes of these files.
    pub bytes: u64,
    /// Files that do not match their digest or that the disk cannot read; they are set aside.
    pub damaged: Vec<Digest>,
    /// Blobs that have no file.
    pub missing: Vec<Digest>,
    /// Blobs without a file that an earlier pass found already.
    pub known: Vec<Digest>,
    /// Blobs that have a good file again; an earlier pass may have found the damage.
    pub mended: Vec<Digest>,
    /// Files set aside because the catalog does not know them.
    pub strays: u64,
}

/// A source that may be able to fetch a blob's bytes again, such as an upstream.
pub trait Mender: Send + Sync {
    /// Fetches the bytes into the blob store and returns whether they are there. It reports a failure itself.
    fn mend<'a>(&'a self, digest: &'a Digest) -> Mending<'a>;
}

/// A [`Mender`] at work.
pub type Mending<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// A scrub and its rate.
pub struct Scrub {
    store: Store,
    /// Bytes a second.
    rate: Option<Bytes>,
    mender: Option<Arc<dyn Mender>>,
    /// The time from which the next chunk may be read.
    due: Option<Instant>,
}

impl Scrub {
    /// A scrub that reads at most `rate` bytes a second, or without a limit.
    pub fn new(store: Store, rate: Option<Bytes>) -> Self {
        Self { store, rate: rate.filter(|rate| rate.get() > 0), mender: None, due: None }
    }

    /// Adds a mender, which is asked for every blob that is damaged or missing.
    #[must_use]
    pub fn with_mender(mut self, mender: Arc<dyn Mender>) -> Self {
        self.mender = Some(mender);
        self
    }

    /// Hashes every file once. `now` is in unix seconds.
    pub async fn pass(&mut self, now: i64) -> Result<Scrubbed> {
        self.pass_telling(now, |_| ()).await
    }

    /// As [`Scrub::pass`]; calls `told` after every folder with the findings so far.
    pub async fn pass_telling(&mut self, now: i64, told: impl Fn(&Scrubbed)) -> Result<Scrubbed> {
        let mut whole = Scrubbed::default();
        for stripe in Stripe::all() {
            self.stripe(stripe, now, &mut whole).await?;
            told(&whole);
        }
        Ok(whole)
    }

    /// Continues to the end from where the last scrub of this data folder stopped. Calls `found` for every folder with
    /// files or missing blobs. `now` returns the time in unix seconds.
    pub async fn go_on(&mut self, now: impl Fn() -> i64, found: impl Fn(&Scrubbed)) -> Result<()> {
        let catalog = self.store.catalog.clone();
        let place = catalog.position(WORK).await?.unwrap_or_default();
        // An unknown position means that the last pass ended: begin anew.
        let from = Stripe::all().position(|stripe| stripe.prefix() == place).unwrap_or(0);
        for stripe in Stripe::all().skip(from) {
            let mut part = Scrubbed::default();
            self.stripe(stripe, now(), &mut part).await?;
            if part != Scrubbed::default() {
                catalog.set_position(WORK, &stripe.prefix()).await?;
                found(&part);
            }
        }
        catalog.set_position(WORK, "").await
    }

    async fn stripe(&mut self, stripe: Stripe, now: i64, found: &mut Scrubbed) -> Result<()> {
        let blobs = self.store.blobs.clone();
        for digest in blocking(move || blobs.list(stripe)).await? {
            let (blobs, key) = (self.store.blobs.clone(), digest.clone());
            // A collection may have removed it since.
            let Some(suspect) = blocking(move || blobs.suspect(&key)).await? else { continue };
            let suspect = Arc::new(suspect);
            found.files += 1;
            if self.is_whole(&digest, &suspect, &mut found.bytes).await? {
                found.strays += u64::from(self.is_stray(&digest, &suspect).await?);
            } else if self.set_aside(&digest, suspect, now).await? {
                found.damaged.push(digest.clone());
                self.mend(digest, found).await?;
            }
        }
        for (digest, damaged) in self.store.catalog.blobs_below(&stripe.prefix()).await? {
            // A blob marked as damaged may have been pushed again since. If its file exists, the loop above found it
            // good.
            if damaged && self.store.blobs.get(&digest)?.is_some() && !found.damaged.contains(&digest) {
                self.store.catalog.mark_mended(&digest).await?;
                found.mended.push(digest);
            } else if damaged && !found.damaged.contains(&digest) {
                found.known.push(digest);
            } else if !damaged && self.is_missing(&digest, now).await? {
                found.missing.push(digest.clone());
                self.mend(digest, found).await?;
            }
        }
        Ok(())
    }

    /// Whether a file matches its digest; `false` also if the disk cannot read it.
    async fn is_whole(&mut self, digest: &Digest, suspect: &Arc<Suspect>, bytes: &mut u64) -> Result<bool> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut at = 0;
        loop {
            if let Some(due) = self.due {
                sleep_until(due).await;
            }
            let (blobs, key, file) = (self.store.blobs.clone(), digest.clone(), suspect.clone());
            let read = move || blobs.read_some(&key, &file, at, CHUNK);
            let Some(chunk) = blocking(read).await? else { return Ok(false) };
            self.spend(chunk.len());
            if chunk.is_empty() {
                return Ok(hasher.finish() == *digest);
            }
            at += chunk.len() as u64;
            *bytes += chunk.len() as u64;
            hasher = blocking(move || {
                hasher.update(&chunk);
                Ok::<_, Error>(hasher)
            })
            .await?;
        }
    }

    /// Delays the next chunk according to the rate. Unused time is not made up for later.
    fn spend(&mut self, bytes: usize) {
        if let Some(rate) = self.rate {
            let time = Duration::from_micros(bytes as u64 * 1_000_000 / rate.get());
            let now = Instant::now();
            self.due = Some(self.due.map_or(now, |due| due.max(now)) + time);
        }
    }

    async fn set_aside(&self, digest: &Digest, suspect: Arc<Suspect>, now: i64) -> Result<bool> {
        let (blobs, key) = (self.store.blobs.clone(), digest.clone());
        let work = move || {
            let alone = blobs.alone(&key)?;
            Ok::<_, Error>((blobs.set_aside(&key, &suspect, &alone)?, alone))
        };
        let (moved, _alone) = blocking(work).await?;
        if moved {
            self.store.catalog.mark_damaged(digest, now).await?;
        }
        Ok(moved)
    }

    async fn is_missing(&self, digest: &Digest, now: i64) -> Result<bool> {
        let (blobs, key) = (self.store.blobs.clone(), digest.clone());
        if blocking(move || blobs.get(&key)).await?.is_some() {
            return Ok(false);
        }
        // Under the exclusive lock nobody stores or collects the blob: if the catalog still names it, the file should
        // exist.
        let (blobs, key) = (self.store.blobs.clone(), digest.clone());
        let (there, _alone) = blocking(move || {
            let alone = blobs.alone(&key)?;
            Ok::<_, Error>((blobs.get(&key)?.is_some(), alone))
        })
        .await?;
        if there || !self.store.catalog.names_blob(digest).await? {
            return Ok(false);
        }
        self.store.catalog.mark_damaged(digest, now).await?;
        Ok(true)
    }

    async fn is_stray(&self, digest: &Digest, suspect: &Suspect) -> Result<bool> {
        let (blobs, key) = (self.store.blobs.clone(), digest.clone());
        if !suspect.is_older(STRAY) || blocking(move || blobs.loose(&key)).await?.is_none() {
            return Ok(false);
        }
        self.store.set_stray_aside(digest, suspect).await
    }

    async fn mend(&self, digest: Digest, found: &mut Scrubbed) -> Result<()> {
        let Some(mender) = &self.mender else { return Ok(()) };
        if mender.mend(&digest).await && self.store.blobs.get(&digest)?.is_some() {
            self.store.catalog.mark_mended(&digest).await?;
            found.mended.push(digest);
        }
        Ok(())
    }
}
