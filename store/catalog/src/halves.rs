//! Decides whether a catalog and the blobs beside it belong together. Pure: it takes what was found and returns what to
//! do.
//!
//! Both halves carry the farm's identity, and both count the changes of facts: the catalog in a row, the blobs in their
//! journal ([`crate::journal`]). So a half that was lost, restored from an older backup, or put beside another farm's
//! half is noticed before anything is served, collected or scrubbed.

use std::fmt;

/// What was found of a catalog before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogHalf {
    /// The file is missing or empty.
    New,
    /// A catalog of an early version that did not mark it with a farm.
    Unmarked {
        /// Whether it names any blob.
        names_blobs: bool,
    },
    /// A catalog that belongs to a farm.
    Marked {
        /// The farm's identity.
        farm: String,
        /// How many changes it holds.
        changes: u64,
        /// Whether it names any blob.
        names_blobs: bool,
    },
}

/// What was found of the folder of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobsHalf {
    /// The farm's identity, if it is recorded.
    pub(crate) farm: Option<String>,
    /// The number of the journal's last entry, 0 if there is none.
    pub(crate) last: u64,
    /// Whether there is any blob.
    pub(crate) any: bool,
}

/// What to do with the two halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Neither half lacks anything that the other has: mark both, with this identity if there is one.
    Mark(Option<String>),
    /// They belong together. The journal may have one entry more, whose commit was cut off.
    Together {
        /// Whether the journal has that entry.
        cut_off: bool,
    },
    /// They belong together, but the journal lacks the last entries: a power failure lost them, or the blobs are older.
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
        /// How many changes.
        missing: u64,
    },
    /// The catalog names blobs, and there are none.
    BlobsLost,
    /// Both the catalog and the blobs are missing; only the journal is left.
    BothLost,
    /// The blobs belong to another farm.
    Strangers,
    /// Blobs that the catalog names are missing, and the journal lacks changes that the catalog has.
    BlobsOlder {
        /// How many of the newest blobs are missing.
        missing: usize,
        /// How many of the newest blobs were looked for.
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
                f.write_str("both the catalog and the blobs are missing; only the journal is left")
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
    /// What a person can do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::CatalogLost | Self::CatalogOlder { .. } => {
                "`hab-build store rebuild` makes the catalog again from its newest copy and the journal beside the blobs; \
                 nothing is deleted. `hab-build store status` says what is there"
            }
            Self::BlobsLost => {
                "mount the disk, or put the folder `blobs` back from a backup. If they are gone for good, `hab-build store \
                 accept` goes on without them: a request for one is answered 404 until it is pushed or built again"
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

/// Judges what was found. If the journal is behind, the caller checks that the newest blobs exist.
pub(crate) fn judge(catalog: &CatalogHalf, blobs: &BlobsHalf) -> Verdict {
    let empty = !blobs.any && blobs.last == 0;
    match (catalog, &blobs.farm) {
        (CatalogHalf::New, farm) if empty => Verdict::Mark(farm.clone()),
        (CatalogHalf::New, _) if !blobs.any => Verdict::Refuse(Mismatch::BothLost),
        (CatalogHalf::New, _) => Verdict::Refuse(Mismatch::CatalogLost),
        (CatalogHalf::Unmarked { names_blobs: true }, _) if empty => Verdict::Refuse(Mismatch::BlobsLost),
        // An early version that marks neither half wrote both, or opening was killed after it marked the blobs.
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
