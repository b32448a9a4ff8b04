//! Whether a catalog and the blobs beside it belong together. Pure: what was found goes in, what to do comes out.
//!
//! Both carry the farm's identity, and both count the changes of facts: the catalog in a row, the blobs in their journal
//! ([`crate::journal`]). So a half that was lost, restored from an older backup or put beside another farm's is noticed
//! before anything is served, collected or scrubbed.

use std::fmt;

/// What is known of a catalog before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogHalf {
    /// There is no file, or an empty one.
    New,
    /// One of a version that did not mark it yet.
    Unmarked {
        /// Whether it names any blob.
        names_blobs: bool,
    },
    /// It belongs to a farm.
    Marked {
        /// Which farm's it is.
        farm: String,
        /// How many changes it holds.
        changes: u64,
        /// Whether it names any blob.
        names_blobs: bool,
    },
}

/// What is known of the folder of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobsHalf {
    /// Which farm's they are.
    pub(crate) farm: Option<String>,
    /// The number of the journal's last entry, 0 if there is none.
    pub(crate) last: u64,
    /// Whether any blob is there.
    pub(crate) any: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Neither holds anything that the other could miss: both are marked, with this identity where there is one.
    Mark(Option<String>),
    /// They belong together. The journal may hold one entry more, whose commit was cut off.
    Together {
        /// Whether there is one.
        cut_off: bool,
    },
    /// They belong together, but the journal lacks the last entries: a power failure took them, or the blobs are older.
    JournalBehind {
        /// How many entries.
        missing: u64,
    },
    /// They do not belong together.
    Refuse(Mismatch),
}

/// How a catalog and the blobs beside it do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// There are blobs, and a catalog that is new or empty.
    CatalogLost,
    /// The catalog lacks changes that the journal beside the blobs has.
    CatalogOlder {
        /// How many.
        missing: u64,
    },
    /// The catalog names blobs, and there is none.
    BlobsLost,
    /// Only the journal beside the blobs is left.
    BothLost,
    /// The blobs are of another farm.
    Strangers,
    /// Blobs that the catalog names are not there, and the journal lacks changes that the catalog has.
    BlobsOlder {
        /// How many of the newest blobs.
        missing: usize,
        /// Of how many that were looked at.
        of: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CatalogLost => f.write_str("there are blobs, but the catalog is new or empty: it was lost"),
            Self::CatalogOlder { missing: 1 } => {
                f.write_str("the catalog is older than the blobs: it lacks the last change")
            }
            Self::CatalogOlder { missing } => {
                write!(f, "the catalog is older than the blobs: it lacks the last {missing} changes")
            }
            Self::BlobsLost => f.write_str(
                "the catalog names blobs, but there is none: they were lost, or their disk is not mounted",
            ),
            Self::BothLost => {
                f.write_str("neither a catalog nor a blob is there, only the journal of what there was")
            }
            Self::Strangers => f.write_str("the catalog and the blobs belong to different farms"),
            Self::BlobsOlder { missing, of } => write!(
                f,
                "the blobs are older than the catalog: of the {of} blobs that were added last, {missing} are not there"
            ),
        }
    }
}

impl Mismatch {
    /// What a person can do.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::CatalogLost | Self::CatalogOlder { .. } => {
                "`hab-build store rebuild` makes the catalog again from its newest copy and the journal beside the blobs; \
                 nothing is deleted. `hab-build store status` says what is there"
            }
            Self::BlobsLost => {
                "mount the disk, or put the folder `blobs` back from a backup. If they are gone for good, `hab-build store \
                 accept` goes on without them: what they were is answered 404 until it is pushed or built again"
            }
            Self::BothLost => {
                "put the folder `blobs` and catalog.sqlite back from a backup. If they are gone for good, move the folder \
                 `blobs` away and begin anew"
            }
            Self::Strangers => {
                "put back the half that belongs here. `hab-build store accept` declares that this catalog and these blobs \
                 are one farm from now on"
            }
            Self::BlobsOlder { .. } => {
                "put the newer blobs back. `hab-build store accept` goes on with those that are here, and says which \
                 are gone"
            }
        }
    }
}

/// Judges what was found. That the newest blobs are there is looked at by the caller where the journal is behind.
pub(crate) fn judge(catalog: &CatalogHalf, blobs: &BlobsHalf) -> Verdict {
    let empty = !blobs.any && blobs.last == 0;
    match (catalog, &blobs.farm) {
        (CatalogHalf::New, farm) if empty => Verdict::Mark(farm.clone()),
        (CatalogHalf::New, _) if !blobs.any => Verdict::Refuse(Mismatch::BothLost),
        (CatalogHalf::New, _) => Verdict::Refuse(Mismatch::CatalogLost),
        (CatalogHalf::Unmarked { names_blobs: true }, _) if empty => Verdict::Refuse(Mismatch::BlobsLost),
        // A version that marks neither wrote both; or it was killed when it had marked the blobs.
        (CatalogHalf::Unmarked { .. }, farm) if blobs.last == 0 => Verdict::Mark(farm.clone()),
        (CatalogHalf::Unmarked { .. }, _) => Verdict::Refuse(Mismatch::CatalogOlder { missing: blobs.last }),
        (CatalogHalf::Marked { farm, changes: 0, .. }, None) if empty => Verdict::Mark(Some(farm.clone())),
        (CatalogHalf::Marked { names_blobs: true, .. }, _) if !blobs.any => {
            Verdict::Refuse(Mismatch::BlobsLost)
        }
        (CatalogHalf::Marked { farm, .. }, other) if other.as_ref() != Some(farm) => {
            Verdict::Refuse(Mismatch::Strangers)
        }
        (CatalogHalf::Marked { changes, .. }, _) => match blobs.last.checked_sub(*changes) {
            Some(ahead @ (0 | 1)) => Verdict::Together { cut_off: ahead == 1 },
            Some(missing) => Verdict::Refuse(Mismatch::CatalogOlder { missing }),
            None => Verdict::JournalBehind { missing: changes - blobs.last },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "aa";

    fn marked(changes: u64) -> CatalogHalf {
        CatalogHalf::Marked { farm: OURS.to_owned(), changes, names_blobs: changes > 0 }
    }

    fn blobs(farm: Option<&str>, last: u64, any: bool) -> BlobsHalf {
        BlobsHalf { farm: farm.map(str::to_owned), last, any }
    }

    #[test]
    fn what_belongs_together_is_used_and_what_does_not_is_refused_by_name() {
        use Mismatch::{BlobsLost, CatalogLost, CatalogOlder, Strangers};
        use Verdict::{JournalBehind, Mark, Refuse, Together};
        let ours = || Some(OURS.to_owned());
        let (unmarked, empty) =
            (CatalogHalf::Unmarked { names_blobs: true }, CatalogHalf::Unmarked { names_blobs: false });
        for (catalog, blobs, verdict) in [
            (CatalogHalf::New, blobs(None, 0, false), Mark(None)),
            (CatalogHalf::New, blobs(Some(OURS), 0, false), Mark(ours())),
            (CatalogHalf::New, blobs(None, 0, true), Refuse(CatalogLost)),
            (CatalogHalf::New, blobs(Some(OURS), 0, true), Refuse(CatalogLost)),
            (CatalogHalf::New, blobs(Some(OURS), 7, false), Refuse(Mismatch::BothLost)),
            (empty.clone(), blobs(None, 0, false), Mark(None)),
            (unmarked.clone(), blobs(None, 0, true), Mark(None)),
            (unmarked.clone(), blobs(None, 0, false), Refuse(BlobsLost)),
            (unmarked.clone(), blobs(Some(OURS), 0, true), Mark(ours())),
            (unmarked, blobs(Some(OURS), 9, true), Refuse(CatalogOlder { missing: 9 })),
            (empty, blobs(Some(OURS), 9, true), Refuse(CatalogOlder { missing: 9 })),
            (marked(0), blobs(None, 0, false), Mark(ours())),
            (marked(0), blobs(None, 0, true), Refuse(Strangers)),
            (marked(5), blobs(None, 0, false), Refuse(BlobsLost)),
            (marked(5), blobs(None, 0, true), Refuse(Strangers)),
            (marked(5), blobs(Some(OURS), 5, false), Refuse(BlobsLost)),
            (marked(5), blobs(Some("bb"), 5, true), Refuse(Strangers)),
            (marked(5), blobs(Some(OURS), 5, true), Together { cut_off: false }),
            (marked(5), blobs(Some(OURS), 6, true), Together { cut_off: true }),
            (marked(5), blobs(Some(OURS), 7, true), Refuse(CatalogOlder { missing: 2 })),
            (marked(5), blobs(Some(OURS), 3, true), JournalBehind { missing: 2 }),
        ] {
            assert_eq!(judge(&catalog, &blobs), verdict, "{catalog:?} {blobs:?}");
        }
    }
}
