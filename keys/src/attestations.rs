//! What independent builders say that a release's files hash to, in the layout that Bitcoin Core's builders use:
//! `<version>/<builder>/{noncodesigned,all,codesigned}.SHA256SUMS{,.asc}`.
//!
//! Counted for each file, by distinct primary fingerprint. A builder's folder is bound to the key that the policy pins
//! for it. Omitting a file is not dissent; but a builder that counts and names another hash is never outvoted.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::judge::Signed;
use crate::policy::{KeyId, Quorum, Rule, RuleKind};
use crate::{Document, Evidence, EvidenceKind, HashList, Judge, Refusal, SignatureSeen};

pub use read::{read, read_commit};

/// Which list a builder signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListKind {
    /// What came out of the build.
    Noncodesigned,
    /// That, and what Apple's and Microsoft's signatures were attached to.
    All,
    /// Only what these signatures were attached to, as for 22.0rc1.
    Codesigned,
}

impl ListKind {
    /// Each.
    pub const EACH: [Self; 3] = [Self::Noncodesigned, Self::All, Self::Codesigned];

    /// The name of its file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Noncodesigned => "noncodesigned.SHA256SUMS",
            Self::All => "all.SHA256SUMS",
            Self::Codesigned => "codesigned.SHA256SUMS",
        }
    }
}

/// What one builder handed in: bytes, **unverified**.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The folder's name.
    pub builder: String,
    /// Which list.
    pub kind: ListKind,
    /// The list.
    pub sums: Vec<u8>,
    /// Its detached signature; empty when there is none.
    pub signature: Vec<u8>,
}

/// What came of all that the builders of a version handed in.
#[derive(Clone, Debug, Serialize)]
pub struct Attestations {
    /// The version.
    pub version: String,
    /// How many builders must agree on a file.
    pub threshold: usize,
    /// The lists.
    pub lists: Vec<ListReport>,
    /// The bytes and signatures.
    #[serde(skip)]
    pub evidence: Evidence,
}

/// What came of one list.
#[derive(Clone, Debug, Serialize)]
pub struct ListReport {
    /// Which.
    pub list: ListKind,
    /// Who signed it.
    pub attesters: Vec<Attester>,
    /// Which files it names.
    pub files: Vec<FileReport>,
}

/// A builder that handed in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Attester {
    /// The folder's name.
    pub builder: String,
    /// How many files its list names.
    pub files: usize,
    /// Whether it counts.
    pub counts: bool,
    /// Why, or why not.
    pub why: String,
    /// The best of its signatures.
    pub signature: Option<SignatureSeen>,
}

/// What builders say of one file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file's name.
    pub name: String,
    /// The builders that count, by the hash that they name.
    pub said: BTreeMap<Digest, Vec<String>>,
    /// What follows.
    pub outcome: Outcome,
}

/// What follows for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Enough builders agree, and none that counts dissents.
    Agreed,
    /// Too few say anything.
    TooFew,
    /// Builders that count name different hashes: nobody is outvoted, a person has to look.
    Disputed,
}

impl Attestations {
    /// Judges what was handed in.
    pub fn judge(version: &str, submitted: &[Submitted], judge: &Judge<'_>) -> Result<Self, Refusal> {
        let what = format!("the attestations of {version}");
        let requirement = judge.requirement(RuleKind::SignedHashes, &what)?;
        let Rule::SignedHashes(quorum) = &requirement.rule else {
            return Err(Refusal::NotListed { what, index: format!("policy {}", judge.policy().name()) });
        };
        if submitted.is_empty() {
            return Err(Refusal::NotListed { what, index: "what the builders handed in".to_owned() });
        }
        let mut signatures = Vec::new();
        let mut documents = Vec::new();
        for s in submitted {
            let name = format!("{version}/{}/{}", s.builder, s.kind.file());
            documents.push(Document::of(&name, &s.sums));
            documents.push(Document::of(&format!("{name}.asc"), &s.signature));
        }
        let mut lists: Vec<ListReport> = ListKind::EACH
            .into_iter()
            .map(|kind| {
                let of_kind = submitted.iter().filter(|s| s.kind == kind);
                list(kind, of_kind, quorum, judge, &mut signatures)
            })
            .collect();
        dispute_across(&mut lists);
        let evidence = Evidence {
            kind: EvidenceKind::Attestations,
            asked: what,
            policy: Some(judge.policy().reference()),
            // Which files are agreed on is in the lists.
            met: Vec::new(),
            documents,
            signatures,
        };
        Ok(Self { version: version.to_owned(), threshold: quorum.threshold, lists, evidence })
    }

    /// How many files, in all lists, came out so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.lists.iter().flat_map(|l| &l.files).filter(|f| f.outcome == outcome).count()
    }

    /// Refuses a version with a disputed file, or without a single one that enough builders agree on; and files of which
    /// none has the version in its name, which would be another version's in this one's folder. A file that too few name
    /// is not accepted, and takes nothing from the others.
    pub fn settle(&self) -> Result<(), Refusal> {
        let what = format!("the attestations of {}", self.version);
        let files = || self.lists.iter().flat_map(|l| l.files.iter().map(move |f| (l.list, f)));
        if let Some((_, disputed)) = files().find(|(_, f)| f.outcome == Outcome::Disputed) {
            let sides: BTreeSet<String> = files()
                .filter(|(_, f)| f.name == disputed.name)
                .flat_map(|(list, f)| {
                    f.said.iter().map(move |(digest, who)| {
                        format!("{} say {} in {}", who.join(", "), digest.short(), list.file())
                    })
                })
                .collect();
            let sides = sides.into_iter().collect::<Vec<_>>().join("; ");
            let detail = format!("builders that count do not agree on {}: {sides}", disputed.name);
            return Err(Refusal::Malformed { what, detail });
        }
        let mut agreed = files().filter(|(_, f)| f.outcome == Outcome::Agreed).peekable();
        let detail = if agreed.peek().is_none() {
            format!("there is no file on which {} builders that count agree", self.threshold)
        } else if agreed.all(|(_, f)| !f.name.contains(&self.version)) {
            "no file on which builders agree has the version in its name: they may be of another version"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(Refusal::Malformed { what, detail })
    }
}

/// A file has one content, in whichever list a builder names it: two hashes in two lists are a dispute as well.
fn dispute_across(lists: &mut [ListReport]) {
    let mut said: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
    for file in lists.iter().flat_map(|l| &l.files) {
        said.entry(file.name.clone()).or_default().extend(file.said.keys().cloned());
    }
    for file in lists.iter_mut().flat_map(|l| &mut l.files) {
        if said.get(&file.name).is_some_and(|digests| digests.len() > 1) {
            file.outcome = Outcome::Disputed;
        }
    }
}

fn list<'a>(
    kind: ListKind,
    submitted: impl Iterator<Item = &'a Submitted>,
    quorum: &Quorum,
    judge: &Judge<'_>,
    signatures: &mut Vec<SignatureSeen>,
) -> ListReport {
    let mut attesters = Vec::new();
    // By file and hash: the distinct keys that vouch for it, and their builders' names.
    let mut said: BTreeMap<String, BTreeMap<Digest, BTreeMap<KeyId, String>>> = BTreeMap::new();
    for s in submitted {
        let parsed = HashList::parse(&s.sums);
        let seen = judge.detached(&s.builder, Signed::File, &s.signature, &s.sums);
        let seen = seen.map_err(|e| e.to_string());
        let counted = counted(s, seen.as_deref(), quorum, judge);
        if let Ok(seen) = &seen {
            signatures.extend(seen.iter().cloned());
        }
        let best = seen.ok().and_then(|seen| seen.into_iter().min_by_key(rank));
        let (counts, why) = match (&parsed, &counted) {
            (Err(e), _) => (false, format!("its list is refused: {e}")),
            (Ok(_), Err(why)) => (false, why.clone()),
            (Ok(_), Ok(_)) => (true, best.as_ref().map_or_else(String::new, |s| s.verdict.to_string())),
        };
        let list = parsed.unwrap_or_default();
        let files = list.entries().len() + list.contested().len();
        attesters.push(Attester { builder: s.builder.clone(), files, counts, why, signature: best });
        // Who names two hashes of a file vouches for neither: it comes out as disputed, and the other files do not.
        for (name, digest) in list.all() {
            let sides = said.entry(name.clone()).or_default();
            if let (true, Ok(key)) = (counts, &counted) {
                sides.entry(digest.clone()).or_default().insert(key.clone(), s.builder.clone());
            }
        }
    }
    let files = said.into_iter().map(|(name, sides)| file(name, sides, quorum.threshold)).collect();
    ListReport { list: kind, attesters, files }
}

fn file(name: String, sides: BTreeMap<Digest, BTreeMap<KeyId, String>>, threshold: usize) -> FileReport {
    let most = sides.values().map(BTreeMap::len).max().unwrap_or(0);
    let outcome = match sides.len() {
        0 | 1 if most < threshold => Outcome::TooFew,
        0 | 1 => Outcome::Agreed,
        _ => Outcome::Disputed,
    };
    let names = |keys: BTreeMap<KeyId, String>| {
        let mut names: Vec<String> = keys.into_values().collect();
        names.sort();
        names
    };
    let said = sides.into_iter().map(|(digest, keys)| (digest, names(keys))).collect();
    FileReport { name, said, outcome }
}

/// The key that counts for a builder's list, or why none does.
fn counted(
    s: &Submitted,
    seen: Result<&[SignatureSeen], &String>,
    quorum: &Quorum,
    judge: &Judge<'_>,
) -> Result<KeyId, String> {
    if s.signature.is_empty() {
        return Err("it is not signed".to_owned());
    }
    let seen = seen.map_err(Clone::clone)?;
    let signers: BTreeSet<&KeyId> = judge.signers(quorum, seen);
    let bound = |key: &KeyId| judge.policy().pin(key).is_some_and(|pin| pin.builders.contains(&s.builder));
    if let Some(key) = signers.iter().copied().find(|key| bound(key)) {
        return Ok(key.clone());
    }
    Err(match signers.first() {
        Some(other) => {
            let pin = judge.policy().pin(other);
            let folders: Vec<&str> = pin.iter().flat_map(|pin| &pin.builders).map(String::as_str).collect();
            let theirs = if folders.is_empty() { "none".to_owned() } else { folders.join(", ") };
            format!(
                "signed by {other}, which is not the key of this folder; by the policy its folders are {theirs}, and a builder \
                 who took another name has both in builders"
            )
        }
        None => judge.words(quorum, seen),
    })
}

fn rank(seen: &SignatureSeen) -> u8 {
    use crate::Verdict as V;
    match seen.verdict {
        V::Good => 0,
        V::ExpiredSince(_) => 1,
        V::CertificateMissing => 2,
        V::Unidentified(_) | V::Revoked(_) | V::BadKey(_) | V::Weak(_) => 3,
        V::Bad(_) | V::UnknownKey => 4,
    }
}
