//! Every change of the catalog's facts once more, as lines of text beside the blobs.
//!
//! The catalog is one file. Whoever loses it, or restores an older one, still has the blobs; the journal says what they
//! were: which repository held them, which tag was where, which name was which bytes. With the newest copy of the
//! catalog it makes a catalog again ([`crate::rebuild`]), and it shows that a catalog is older than the blobs beside it.
//!
//! `<data>/blobs/catalog/` holds segments, `<first entry>.journal`, and copies of the catalog, `<last entry>.sqlite`.
//! An entry is written within the transaction that it describes, just before the commit, while the database's write
//! lock is held: so entries are in the order of commits, whichever process wrote them. It is not synced on its own. What
//! a power failure takes is in the catalog, which is synced; [`crate::halves`] notices and has a copy made.
//!
//! A line is 16 hexadecimal digits of the SHA-256 of what follows, a space, and one JSON document. A line that was cut
//! by a kill does not match its digest and is passed over.

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
    /// A repository does not hold a blob any more.
    Leaves { repository: String, digest: Digest },
    /// An upstream, by its address, sent a blob.
    Received { digest: Digest, upstream: String },
    /// A repository has a manifest.
    Manifest { repository: String, digest: Digest, media_type: String },
    /// A repository does not have a manifest any more.
    NoManifest { repository: String, digest: Digest },
    /// A tag is somewhere else, or nowhere.
    Tag { repository: String, tag: String, digest: Option<Digest> },
    /// A mirrored name is these bytes.
    Name { kind: String, name: String, digest: Digest, size: u64 },
    /// A mirrored name stands for nothing any more.
    Withdrawn { kind: String, name: String },
    /// A plan was finished.
    Build { plan: Digest, result: String, started: i64, finished: i64 },
}

/// The changes of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Counts up from 1 without gaps. Of two entries with one number the later one counts: the first was not committed.
    pub(crate) number: u64,
    /// Tells entries of one number apart.
    pub(crate) id: String,
    /// When, in unix seconds.
    pub(crate) at: i64,
    pub(crate) changes: Vec<Change>,
}

/// What a line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Entry(Entry),
    /// The transaction of this entry was not committed.
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
