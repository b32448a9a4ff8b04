//! Signed lists of hashes: `SHA256SUMS`, as sha256sum(1) writes them, and detached signatures over them.

use std::collections::BTreeMap;

use hab_oci::Digest;

use crate::judge::Signed;
use crate::policy::{Rule, RuleKind};
use crate::{Document, Evidence, EvidenceKind, Judge, Refusal};

/// The largest list that is read, in bytes.
const LIMIT: usize = 4 << 20;

/// File names and the SHA-256 of their content. **Unverified** by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashList {
    entries: BTreeMap<String, Digest>,
}

impl HashList {
    /// Reads a list: 64 hexadecimal digits, a space, a space or `*`, a name; a line each.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LIMIT {
            return Err(format!("{} bytes are more than a list may have ({LIMIT})", bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let mut entries = BTreeMap::new();
        for (number, line) in text.split_terminator('\n').enumerate() {
            let entry = (|| {
                let (hex, name) = line.split_at_checked(64)?;
                let name = name.strip_prefix("  ").or_else(|| name.strip_prefix(" *"))?;
                let plain = !name.is_empty() && !name.chars().any(char::is_control) && name.trim() == name;
                Some((plain.then(|| name.to_owned())?, Digest::from_sha256_hex(hex).ok()?))
            })();
            let (name, digest) =
                entry.ok_or_else(|| format!("line {} is not a hash and a name", number + 1))?;
            if let Some(other) = entries.insert(name.clone(), digest.clone())
                && other != digest
            {
                return Err(format!("{name} stands twice in it, with two hashes"));
            }
        }
        if entries.is_empty() {
            return Err("it names no file".to_owned());
        }
        Ok(Self { entries })
    }

    /// What it says of each file.
    pub fn entries(&self) -> &BTreeMap<String, Digest> {
        &self.entries
    }

    /// What it says of the file `name`.
    pub fn get(&self, name: &str) -> Option<&Digest> {
        self.entries.get(name)
    }
}

/// A list whose signatures a policy accepted.
#[derive(Clone, Debug)]
pub struct VerifiedSums {
    list: HashList,
    evidence: Evidence,
}

impl VerifiedSums {
    /// Judges `bytes` by `signatures`, each a file of one or more detached signatures.
    pub fn verify(
        name: &str,
        bytes: &[u8],
        signatures: &[(&str, &[u8])],
        judge: &Judge<'_>,
    ) -> Result<Self, Refusal> {
        let requirement = judge.requirement(RuleKind::SignedHashes, name)?;
        let mut seen = Vec::new();
        let mut documents = vec![Document::of(name, bytes)];
        for (file, signature) in signatures {
            seen.extend(judge.detached(file, Signed::File, signature, bytes)?);
            documents.push(Document::of(file, signature));
        }
        if let Rule::SignedHashes(quorum) = &requirement.rule {
            judge.quorum(name, quorum, &seen)?;
        }
        let malformed = |detail| Refusal::Malformed { what: name.to_owned(), detail };
        let list = HashList::parse(bytes).map_err(malformed)?;
        Ok(Self {
            list,
            evidence: Evidence {
                kind: EvidenceKind::SignedHashes,
                asked: format!("list of hashes {name}"),
                policy: Some(judge.policy().reference()),
                met: vec![requirement.name.clone()],
                documents,
                signatures: seen,
            },
        })
    }

    /// The list.
    pub fn list(&self) -> &HashList {
        &self.list
    }

    /// Why it was accepted.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_and_a_doubtful_one_does_not() {
        let hash = "ab".repeat(32);
        let list = HashList::parse(format!("{hash}  a.tar.gz\n{hash} *dir/b c\n").as_bytes()).unwrap();
        assert_eq!(list.entries().len(), 2);
        assert!(list.get("dir/b c").is_some());
        let other = "cd".repeat(32);
        for bad in [
            String::new(),
            format!("{hash} a"),
            format!("{}  a", &hash[..63]),
            format!("{hash}  "),
            format!("{hash}  a\r\n"),
            format!("{hash}  a\n\n{hash}  b"),
            format!("{hash}  a\n{other}  a\n"),
            format!("ä{}  a", &hash[..62]),
        ] {
            assert!(HashList::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
