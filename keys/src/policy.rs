//! What a project demands: `trust/<project>/policy.toml`.

use std::collections::BTreeMap;
use std::str::FromStr;

use hab_oci::Digest;
use sequoia_openpgp::Fingerprint;
use serde::Deserialize;

use crate::PolicyRef;

/// Which keys, how many of them, over what.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    kind: RequirementKind,
    threshold: usize,
    keys: BTreeMap<Fingerprint, String>,
    digest: Digest,
}

/// What has to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequirementKind {
    /// An archive's clearsigned index.
    ArchiveSignature,
    /// An annotated tag.
    Tag,
}

/// Why a text is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or not a policy's fields; the source says line and column.
    #[error("policy {name} does not read")]
    Syntax {
        /// The folder's name.
        name: String,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// Something that must not be.
    #[error("policy {name}: {detail}")]
    Invalid {
        /// The policy's name.
        name: String,
        /// What is wrong.
        detail: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    name: String,
    require: RequireTable,
    #[serde(default)]
    key: Vec<KeyTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequireTable {
    kind: RequirementKind,
    threshold: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    fingerprint: String,
    name: String,
    /// Why it is pinned: for the person who reviews the file, so it must be there though nothing computes with it.
    #[serde(rename = "reason")]
    _reason: String,
}

impl Policy {
    /// Reads a policy from the text of its file. `folder` is the name it must have.
    pub fn parse(folder: &str, text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile =
            toml::from_str(text).map_err(|source| PolicyError::Syntax { name: folder.to_owned(), source })?;
        let invalid = |detail: String| PolicyError::Invalid { name: folder.to_owned(), detail };
        if file.name != folder {
            return Err(invalid(format!("its name is {:?}, but it lies in folder {folder}", file.name)));
        }
        if file.require.threshold == 0 {
            return Err(invalid("a threshold of 0 would accept anything".to_owned()));
        }
        let mut keys = BTreeMap::new();
        for key in file.key {
            let fingerprint = parse_fingerprint(&key.fingerprint).map_err(&invalid)?;
            if keys.insert(fingerprint, key.name).is_some() {
                return Err(invalid(format!("{} is pinned twice", key.fingerprint)));
            }
        }
        if !keys.is_empty() && file.require.threshold > keys.len() {
            return Err(invalid(format!("{} of {} keys can never sign", file.require.threshold, keys.len())));
        }
        Ok(Self {
            name: file.name,
            kind: file.require.kind,
            threshold: file.require.threshold,
            keys,
            digest: Digest::of(text.as_bytes()),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it demands to be signed.
    pub fn kind(&self) -> RequirementKind {
        self.kind
    }

    /// How many distinct pinned keys must sign.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// The pinned primary keys and whose they are.
    pub fn keys(&self) -> &BTreeMap<Fingerprint, String> {
        &self.keys
    }

    /// Its name and digest, for evidence.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { name: self.name.clone(), digest: self.digest.clone() }
    }
}

/// Only whole fingerprints are pinned: a key id of 64 bits or less can be made to collide.
fn parse_fingerprint(text: &str) -> Result<Fingerprint, String> {
    let hex: String = text.split_whitespace().collect();
    let whole = matches!(hex.len(), 40 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    whole
        .then(|| Fingerprint::from_str(&hex).ok())
        .flatten()
        .ok_or_else(|| format!("{text:?} is not a whole fingerprint of 40 or 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"p\"\n[require]\nkind = \"tag\"\nthreshold = 1\n[[key]]\n\
                        fingerprint = \"E777299FC265DD04793070EB944D35F9AC3DB76A\"\nname = \"n\"\nreason = \"r\"\n";

    #[test]
    fn a_policy_reads() {
        let policy = Policy::parse("p", GOOD).unwrap();
        assert_eq!((policy.threshold(), policy.keys().len(), policy.kind()), (1, 1, RequirementKind::Tag));
    }

    #[test]
    fn what_would_accept_too_much_is_refused() {
        for (from, to) in [
            ("threshold = 1", "threshold = 0"),
            ("threshold = 1", "threshold = 2"),
            ("E777299FC265DD04793070EB944D35F9AC3DB76A", "944D35F9AC3DB76A"),
            ("name = \"p\"", "name = \"q\""),
            ("reason = \"r\"", ""),
            ("kind = \"tag\"", "kind = \"anything\""),
        ] {
            assert!(Policy::parse("p", &GOOD.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn the_shipped_policies_read() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/trust")).unwrap() {
            let dir = entry.unwrap();
            let text = std::fs::read_to_string(dir.path().join("policy.toml")).unwrap();
            Policy::parse(dir.file_name().to_str().unwrap(), &text).unwrap();
        }
    }
}
