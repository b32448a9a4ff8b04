//! The journal: a second record of every change of the catalog's facts, as lines of text beside the blobs.
//!
//! The catalog is one file. An operator who loses it, or restores an older one, still has the blobs; the journal says
//! which repository held them, where each tag was, and which bytes each name stood for. A rebuild makes a catalog from
//! the newest copy and the journal ([`crate::rebuild`]). The journal also shows that a catalog is older than its blobs.
//!
//! `<data>/blobs/catalog/` holds segments, `<first entry>.journal`, and copies of the catalog, `<last entry>.sqlite`.
//! An entry is written within its transaction, just before the commit, while the database's write lock is held. So
//! entries are in the order of commits, whichever process wrote them. The journal is not synced. If a power failure
//! loses entries, the catalog, which is synced, still has their changes; [`crate::halves`] notices, and a new copy of
//! the catalog is made.
//!
//! A line is a checksum, a space, and one JSON document. The checksum is the first 16 hexadecimal digits of the
//! document's SHA-256. A line that a kill cut does not match its checksum and is skipped.

mod file;
mod read;

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use file::Journal;

/// One fact that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum Change {
    /// A repository holds a blob.
    Holds { repository: String, digest: Digest, size: u64 },
    /// A repository no longer holds a blob.
    Leaves { repository: String, digest: Digest },
    /// An upstream, given by its address, sent a blob.
    Received { digest: Digest, upstream: String },
    /// A repository has a manifest.
    Manifest { repository: String, digest: Digest, media_type: String },
    /// A repository no longer has a manifest.
    NoManifest { repository: String, digest: Digest },
    /// A tag moved, or was deleted.
    Tag { repository: String, tag: String, digest: Option<Digest> },
    /// A mirrored name stands for a blob.
    Name { kind: String, name: String, digest: Digest, size: u64 },
    /// A mirrored name was withdrawn.
    Withdrawn { kind: String, name: String },
    /// A build of a plan finished.
    Build { plan: Digest, result: String, started: i64, finished: i64 },
}

/// The changes of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalRecord {
    /// Counts up from 1 without gaps. If two entries have the same number, the first was not committed, and the later
    /// one counts.
    pub(crate) number: u64,
    /// Distinguishes entries with the same number.
    pub(crate) id: String,
    /// The time of the transaction, in unix seconds.
    pub(crate) at: i64,
    pub(crate) changes: Vec<Change>,
}

/// The JSON document of a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Entry(JournalRecord),
    /// The transaction of the entry with this id was not committed.
    Void(String),
}

impl Line {
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        Ok(format!("{} {text}\n", sum(text.as_bytes())).into_bytes())
    }

    /// `None` if the line was cut or damaged.
    fn decode(line: &[u8]) -> Option<Self> {
        let (said, text) = line.split_at_checked(17)?;
        let intact = said[16] == b' ' && sum(text).as_bytes() == &said[..16];
        if intact { serde_json::from_slice(text).ok() } else { None }
    }
}

fn sum(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()[..16].to_owned()
}
