//! Judges the lists of hashes that independent builders signed for a release, in the layout that Bitcoin Core's
//! builders use: `<version>/<builder>/{noncodesigned,all,codesigned}.SHA256SUMS{,.asc}`.
//!
//! Builders are counted for each file, by distinct primary fingerprint. The policy's pin decides which key may sign in
//! which builder's folder. Leaving out a file is no dissent; but a builder that counts and names another hash is never
//! outvoted.

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
    /// The files that the build made.
    Noncodesigned,
    /// The same, and the files with Apple's and Microsoft's signatures attached.
    All,
    /// Only the files with these signatures attached, as for 22.0rc1.
    Codesigned,
}

impl ListKind {
    /// Every kind of list.
    pub const EACH: [Self; 3] = [Self::Noncodesigned, Self::All, Self::Codesigned];

    /// The name of the list's file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Noncodesigned => "noncodesigned.SHA256SUMS",
            Self::All => "all.SHA256SUMS",
            Self::Codesigned => "codesigned.SHA256SUMS",
        }
    }
}

/// One builder's list and signature: bytes, **unverified**.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The name of the builder's folder.
    pub builder: String,
    /// Which list it is.
    pub kind: ListKind,
    /// The list's bytes.
    pub sums: Vec<u8>,
    /// Its detached signature; empty if there is none.
    pub signature: Vec<u8>,
}

/// The result of judging everything that the builders of a version submitted.
#[derive(Clone, Debug, Serialize)]
pub struct Attestations {
    /// The version.
    pub version: String,
    /// How many builders must agree on a file.
    pub threshold: usize,
    /// The result for each list.
    pub lists: Vec<ListReport>,
    /// The documents and signatures that it rests on.
    #[serde(skip)]
    pub evidence: Evidence,
}

/// The result for one list.
#[derive(Clone, Debug, Serialize)]
pub struct ListReport {
    /// Which list it is.
    pub list: ListKind,
    /// The builders that submitted it.
    pub attesters: Vec<Attester>,
    /// The files that it names.
    pub files: Vec<FileReport>,
}

/// A builder that submitted a list.
#[derive(Clone, Debug, Serialize)]
pub struct Attester {
    /// The name of the builder's folder.
    pub builder: String,
    /// How many files its list names.
    pub files: usize,
    /// Whether the list counts.
    pub counts: bool,
    /// Why, or why not.
    pub why: String,
    /// The best of its signatures.
    pub signature: Option<SignatureSeen>,
}

/// What the builders say about one file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// The file's name.
    pub name: String,
    /// The builders that count, by the hash that they name.
    pub said: BTreeMap<Digest, Vec<String>>,
    /// The result for the file.
    pub outcome: Outcome,
}

/// The result for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Enough builders agree, and none that counts dissents.
    Agreed,
    /// Too few builders name the file.
    TooFew,
    /// Builders that count name different hashes: nobody is outvoted, and a person has to look.
    Disputed,
}

impl Attestations {
    /// Judges what the builders submitted.
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
            // The lists say which files are agreed on.
            met: Vec::new(),
            documents,
            signatures,
        };
        Ok(Self { version: version.to_owned(), threshold: quorum.threshold, lists, evidence })
    }

    /// The number of files in all lists with this result.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.lists.iter().flat_map(|l| &l.files).filter(|f| f.outcome == outcome).count()
    }

    /// Refuses a version if a file is disputed, or if there is no file that enough builders agree on. Also refuses it
    /// if no agreed file has the version in its name: the files may belong to another version. A file that too few
    /// builders name is not accepted, but does not affect the others.
    pub fn check_accepted(&self) -> Result<(), Refusal> {
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

/// A file has one content, whichever list names it: two hashes in two lists are a dispute too.
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
    // For each file and hash: the distinct keys that vouch for it, and their builders' names.
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
        // A builder that names two hashes for a file vouches for neither: this file is disputed, and the
        // builder's other files are not.
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
                "signed by {other}, which is not the key of this folder; in the policy, the folders of that key are \
                 {theirs}; a builder with two names needs both in builders"
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
