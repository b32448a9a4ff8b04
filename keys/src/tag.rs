//! Verifies a signed git tag from its bytes: gitformat-signature(5), git-mktag(1).

use std::collections::BTreeSet;
use std::io::Read;

use git2::{ObjectType, Oid};
use hab_oci::Digest;

use crate::judge::Signed;
use crate::object::{self, find, has_id, tag_header};
use crate::policy::{Accept, Rule, RuleKind};
use crate::{
    Document, Evidence, EvidenceKind, Judge, Refusal, SignatureSeen, SourceFile, SourceKind, Unpack,
    VerifiedChain, VerifiedSource, blocks, git_tree,
};

/// A mirror's claim about a tag: bytes with names.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The name of the tag, without `refs/tags/`.
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
    policy: String,
    accept: Accept,
    /// The policy's requirements that are met.
    met: BTreeSet<String>,
    evidence: Evidence,
}

impl VerifiedTag {
    /// Judges a tag.
    ///
    /// Checks more than the signature: the object must have the id that the ref names; its own header must name this
    /// tag, because an attacker could serve an old tag object under a new name; and its target must be the commit to
    /// build.
    pub fn verify(claimed: Claimed<'_>, judge: &Judge<'_>) -> Result<Self, Refusal> {
        let what = format!("tag {} of {}", claimed.name, claimed.project);
        let requirement = judge.requirement(RuleKind::Tag, &what)?;
        let seen = inspect(claimed, judge)?;
        if let Rule::Tag(quorum) = &requirement.rule {
            judge.quorum(&what, quorum, &seen)?;
        }
        Self::new(claimed, judge, &requirement.name, EvidenceKind::Tag, seen)
    }

    /// Accepts a tag that nothing vouches for, because a person explicitly asked for unsigned source, and the policy
    /// has a requirement `unsigned` with the reason. Checks only the object ids.
    pub fn unsigned(claimed: Claimed<'_>, judge: &Judge<'_>) -> Result<Self, Refusal> {
        let policy = judge.policy();
        let requirement = policy.requirement(RuleKind::Unsigned).ok_or_else(|| Refusal::WrongPolicy {
            what: format!("tag {} of {}", claimed.name, claimed.project),
            policy: policy.name().to_owned(),
            kind: RuleKind::Unsigned,
        })?;
        let what = format!("tag {} of {}", claimed.name, claimed.project);
        if let Some(object) = claimed.object
            && (has_id(ObjectType::Tag, object, claimed.id).is_err()
                || tag_header(object, "object") != Some(claimed.commit.0))
        {
            let detail = "it does not point at the commit that would be built".to_owned();
            return Err(Refusal::Malformed { what, detail });
        }
        Self::new(claimed, judge, &requirement.name, EvidenceKind::Unsigned, Vec::new())
    }

    fn new(
        claimed: Claimed<'_>,
        judge: &Judge<'_>,
        met: &str,
        kind: EvidenceKind,
        signatures: Vec<SignatureSeen>,
    ) -> Result<Self, Refusal> {
        let what = format!("tag {} of {}", claimed.name, claimed.project);
        let malformed = |detail: String| Refusal::Malformed { what: what.clone(), detail };
        let (id, bytes) = claimed.commit;
        has_id(ObjectType::Commit, bytes, id).map_err(|e| malformed(e.to_owned()))?;
        let commit = object::commit(bytes).map_err(|e| malformed(format!("its commit is refused: {e}")))?;
        // A lightweight tag is its commit.
        let object = claimed.object.unwrap_or(bytes);
        let mut documents = vec![Document::of(&format!("commit {id}"), bytes)];
        if claimed.object.is_some() {
            documents.insert(0, Document::of(&format!("tag object {}", claimed.id), object));
        }
        Ok(Self {
            project: claimed.project.to_owned(),
            name: claimed.name.to_owned(),
            object: Digest::of(object),
            commit: id.to_owned(),
            tree: commit.tree,
            epoch: commit.epoch,
            policy: judge.policy().name().to_owned(),
            accept: judge.policy().accept().clone(),
            met: [met.to_owned()].into(),
            evidence: Evidence {
                kind,
                asked: what.clone(),
                policy: Some(judge.policy().reference()),
                met: vec![met.to_owned()],
                documents,
                signatures,
            },
        })
    }

    /// Adds the requirement that `chain` meets, if the same policy accepted it and it ends at the tag's commit.
    #[must_use]
    pub fn with_chain(mut self, chain: &VerifiedChain) -> Self {
        if chain.tip() == self.commit && Some(chain.policy()) == self.evidence.policy.as_ref() {
            self.met.insert(chain.requirement().to_owned());
            self.evidence.met = self.met.iter().cloned().collect();
        }
        self
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

    /// Whether nothing vouches for it.
    pub fn is_unsigned(&self) -> bool {
        self.evidence.kind == EvidenceKind::Unsigned
    }

    /// Why it was accepted.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Checks that the requirements met so far are enough for the policy's `accept`; the error names them.
    pub fn check_accepted(&self) -> Result<(), Refusal> {
        if self.accept.met_by(&self.met) {
            return Ok(());
        }
        Err(Refusal::NotEnough {
            what: self.evidence.asked.clone(),
            policy: self.policy.clone(),
            accept: self.accept.to_string(),
            met: self.met.iter().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Accepts an exported tar archive (with one leading folder) if its files are exactly the signed tree: recomputes
    /// the tree's object id from the archive's bytes.
    pub fn archive(&self, tar: &mut dyn Read) -> Result<VerifiedSource, Refusal> {
        self.check_accepted()?;
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

/// Judges every signature in a tag object, after checking the object.
pub(crate) fn inspect(claimed: Claimed<'_>, judge: &Judge<'_>) -> Result<Vec<SignatureSeen>, Refusal> {
    let what = format!("tag {} of {}", claimed.name, claimed.project);
    let malformed = |detail: &str| Refusal::Malformed { what: what.clone(), detail: detail.to_owned() };
    let object = claimed.object.ok_or_else(|| judge.unsigned(&what))?;
    has_id(ObjectType::Tag, object, claimed.id).map_err(malformed)?;
    let at = blocks::last(object).ok_or_else(|| judge.unsigned(&what))?;
    let (payload, signature) = object.split_at(at);
    // Read headers from the signed bytes only: the armor below has lines of its own.
    if find(payload, b"\n\n").is_none() {
        return Err(malformed("its headers do not end within the signed text"));
    }
    let header = |name| tag_header(payload, name);
    if header("type") != Some("commit") || header("object") != Some(claimed.commit.0) {
        return Err(malformed("it does not point at the commit that would be built"));
    }
    if header("tag") != Some(claimed.name) {
        return Err(malformed(&format!(
            "the signed object calls itself {:?}: it was signed for another tag",
            header("tag").unwrap_or_default()
        )));
    }
    judge.detached(&what, Signed::Git, signature, payload)
}
