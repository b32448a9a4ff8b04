//! Verified sources, the only input that `builder` accepts.

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::{Document, Evidence, EvidenceKind, Refusal};

/// Where a source comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A Debian source package.
    DebianSource,
    /// A crate.
    Crate,
    /// A git tag's tree.
    Git,
}

/// How a file of a source is unpacked into the source folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpack {
    /// The folder of the source to unpack into; empty for the source folder itself.
    pub into: String,
    /// The number of leading path components that are dropped.
    pub strip: u32,
}

/// One file of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// The file's name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it is unpacked; `None` for a file that is only evidence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unpack: Option<Unpack>,
}

/// A source whose evidence a policy accepted. Only this crate makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSource {
    kind: SourceKind,
    name: String,
    version: String,
    revision: String,
    epoch: i64,
    digest: Digest,
    files: Vec<SourceFile>,
    evidence: Evidence,
}

impl VerifiedSource {
    pub(crate) fn new(
        kind: SourceKind,
        (name, version, revision): (&str, &str, &str),
        epoch: i64,
        digest: Digest,
        files: Vec<SourceFile>,
        evidence: Evidence,
    ) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            revision: revision.to_owned(),
            epoch,
            digest,
            files,
            evidence,
        }
    }

    /// A crate that a lock pins by digest. The registry index is not signed, so the person who committed the lock
    /// vouches for it. `bytes` are hashed here.
    pub fn pinned(
        (name, version): (&str, &str),
        pinned: &Digest,
        epoch: i64,
        bytes: &mut dyn std::io::Read,
    ) -> Result<Self, Refusal> {
        let file = format!("{name}-{version}.crate");
        let (digest, size) =
            Digest::of_reader(bytes).map_err(|source| Refusal::Io { path: file.clone().into(), source })?;
        if digest != *pinned {
            return Err(Refusal::WrongDigest {
                what: file,
                said_by: "the lock".to_owned(),
                expected: pinned.clone(),
                actual: digest,
            });
        }
        let evidence = Evidence {
            kind: EvidenceKind::Digest,
            asked: format!("crate {name} {version}"),
            policy: None,
            met: Vec::new(),
            documents: vec![Document { name: file.clone(), digest: digest.clone(), size }],
            signatures: Vec::new(),
        };
        let unpack = Some(Unpack { into: String::new(), strip: 1 });
        let files = vec![SourceFile { name: file, digest: digest.clone(), size, unpack }];
        Ok(Self::new(SourceKind::Crate, (name, version, version), epoch, digest, files, evidence))
    }

    /// What kind of source it is.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The package's, crate's or project's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that was asked for.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Upstream's own name for exactly this state: a commit id, a Debian version, a crate version.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The source's date, in seconds since 1970; it becomes SOURCE_DATE_EPOCH.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The source's identity: the digest of its only file, or of the .dsc that names all its files by digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its files, in the order in which they are unpacked.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Why it was accepted.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}
