//! A signed git tag, from its bytes: gitformat-signature(5), git-mktag(1).

use std::io::Read;
use std::time::SystemTime;

use git2::{ObjectType, Oid};
use hab_oci::Digest;

use crate::openpgp::{self, Asked};
use crate::{
    Certificates, Document, Evidence, EvidenceKind, Policy, Refusal, RequirementKind, SourceFile, SourceKind,
    Unpack, VerifiedSource, git_tree,
};

/// What a mirror says about a tag: bytes with names.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The ref that was asked for, without `refs/tags/`.
    pub name: &'a str,
    /// The object id that the ref names.
    pub id: &'a str,
    /// The tag object's bytes; `None` for a lightweight tag, which cannot be signed.
    pub object: Option<&'a [u8]>,
    /// The commit's id and bytes.
    pub commit: (&'a str, &'a [u8]),
}

/// A tag whose signatures a policy accepted.
#[derive(Clone, Debug)]
pub struct VerifiedTag {
    project: String,
    name: String,
    object: Digest,
    commit: String,
    tree: Oid,
    epoch: i64,
    evidence: Evidence,
}

impl VerifiedTag {
    /// Judges a tag at the time `now`.
    ///
    /// Beside the signature: the object has the id that the ref names, its own header names the tag that was asked for
    /// (an old tag object under a new name is an attack), and its target is the commit that is built.
    pub fn verify(
        claimed: Claimed<'_>,
        policy: &Policy,
        certificates: &Certificates,
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let what = format!("tag {} of {}", claimed.name, claimed.project);
        let unsigned = || Refusal::Unsigned { what: what.clone(), policy: policy.name().to_owned() };
        let malformed = |detail: &str| Refusal::Malformed { what: what.clone(), detail: detail.to_owned() };
        let object = claimed.object.ok_or_else(unsigned)?;
        has_id(ObjectType::Tag, object, claimed.id).map_err(malformed)?;

        let at =
            signature_start(object).ok_or_else(|| match find(object, b"-----BEGIN SSH SIGNATURE-----") {
                Some(_) => malformed("it carries an SSH signature, which no policy here accepts yet"),
                None => unsigned(),
            })?;
        let (payload, signature) = object.split_at(at);
        // Headers are read from the signed bytes only: the armor below them has lines of its own.
        if find(payload, b"\n\n").is_none() {
            return Err(malformed("its headers do not end within the signed text"));
        }
        let header = |name| header(payload, name);
        if header("type") != Some("commit") || header("object") != Some(claimed.commit.0) {
            return Err(malformed("it does not point at the commit that would be built"));
        }
        if header("tag") != Some(claimed.name) {
            return Err(malformed(&format!(
                "the signed object calls itself {:?}: it was signed for another tag",
                header("tag").unwrap_or_default()
            )));
        }
        let asked = Asked { what: &what, kind: RequirementKind::Tag, policy, certificates, now };
        let signatures = openpgp::detached(asked, signature, payload)?;

        let commit = claimed.commit.1;
        has_id(ObjectType::Commit, commit, claimed.commit.0).map_err(malformed)?;
        let tree = self::header(commit, "tree").and_then(|t| Oid::from_str(t).ok());
        let committer = self::header(commit, "committer").and_then(|line| {
            let mut words = line.rsplit(' ');
            words.nth(1)?.parse().ok()
        });
        Ok(Self {
            project: claimed.project.to_owned(),
            name: claimed.name.to_owned(),
            object: Digest::of(object),
            commit: claimed.commit.0.to_owned(),
            tree: tree.ok_or_else(|| malformed("its commit names no tree"))?,
            epoch: committer.ok_or_else(|| malformed("its commit has no date"))?,
            evidence: Evidence {
                kind: EvidenceKind::Tag,
                asked: what.clone(),
                policy: Some(policy.reference()),
                documents: vec![
                    document(&format!("tag object {}", claimed.id), object),
                    document(&format!("commit {}", claimed.commit.0), commit),
                ],
                signatures,
            },
        })
    }

    /// The digest of the tag object itself.
    pub fn object_digest(&self) -> &Digest {
        &self.object
    }

    /// The signed commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The commit's date, in seconds since 1970.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Accepts an exported tar archive (one leading folder) when its files are exactly the signed tree: the tree's
    /// object id is recomputed from the archive's bytes.
    pub fn archive(&self, tar: &mut dyn Read) -> Result<VerifiedSource, Refusal> {
        let what = format!("the exported tree of tag {} of {}", self.name, self.project);
        let hashed =
            git_tree::of_tar(tar).map_err(|detail| Refusal::Malformed { what: what.clone(), detail })?;
        if hashed.tree != self.tree {
            let detail = format!("it has tree {}, but the signed commit has {}", hashed.tree, self.tree);
            return Err(Refusal::Malformed { what, detail });
        }
        let name = format!("{}-{}.tar", self.project, self.name);
        let mut evidence = self.evidence.clone();
        evidence.documents.push(Document {
            name: format!("tree {} as a tar archive", self.tree),
            digest: hashed.digest.clone(),
            size: hashed.size,
        });
        let files = vec![SourceFile {
            name,
            digest: hashed.digest.clone(),
            size: hashed.size,
            unpack: Some(Unpack { into: String::new(), strip: 1 }),
        }];
        let names = (self.project.as_str(), self.name.as_str(), self.commit.as_str());
        Ok(VerifiedSource::new(SourceKind::Git, names, self.epoch, hashed.digest, files, evidence))
    }
}

fn has_id(kind: ObjectType, bytes: &[u8], id: &str) -> Result<(), &'static str> {
    // libgit2 hashes with collision detection, so a SHA-1 collision attack is an error here and not a match.
    match Oid::hash_object(kind, bytes) {
        Ok(actual) if actual.to_string() == id => Ok(()),
        Ok(_) => Err("an object does not have the id that it is stored under"),
        Err(_) => Err("an object cannot be hashed"),
    }
}

/// The value of a header before the first empty line. A header that stands twice counts as absent: which of the two a
/// reader takes would be the forger's choice.
fn header<'a>(object: &'a [u8], name: &str) -> Option<&'a str> {
    let end = find(object, b"\n\n").unwrap_or(object.len());
    let text = std::str::from_utf8(object.get(..end)?).ok()?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Where the armored signature begins: the last line that is its first one, as git's parse_signature takes it.
fn signature_start(object: &[u8]) -> Option<usize> {
    let marker = b"\n-----BEGIN PGP SIGNATURE-----";
    object.windows(marker.len()).rposition(|w| w == marker).map(|at| at + 1)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle)
}

fn document(name: &str, bytes: &[u8]) -> Document {
    Document { name: name.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
}
