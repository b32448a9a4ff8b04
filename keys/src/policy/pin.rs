//! A key that a policy pins.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sequoia_openpgp::Fingerprint;

/// A key, named by its whole hash: a key id of 64 bits or less can be made to collide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyId {
    /// An OpenPGP certificate, by its primary key's fingerprint.
    OpenPgp(Fingerprint),
    /// An SSH public key, by its SHA-256 as `ssh-keygen -l` prints it, without `SHA256:`.
    Ssh(String),
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenPgp(fingerprint) => write!(f, "{fingerprint:X}"),
            Self::Ssh(hash) => write!(f, "SHA256:{hash}"),
        }
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(hash) = text.strip_prefix("SHA256:") {
            // 32 bytes in base64 without padding.
            let whole =
                hash.len() == 43 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
            return whole
                .then(|| Self::Ssh(hash.to_owned()))
                .ok_or_else(|| format!("{text:?} is not the SHA-256 of an SSH key"));
        }
        let hex: String = text.split_whitespace().collect();
        let whole = matches!(hex.len(), 40 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let fingerprint = whole.then(|| Fingerprint::from_str(&hex).ok()).flatten();
        fingerprint
            .map(Self::OpenPgp)
            .ok_or_else(|| format!("{text:?} is not a whole fingerprint of 40 or 64 hexadecimal digits"))
    }
}

/// A pinned key, with what the policy says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The key.
    pub id: KeyId,
    /// The owner's name.
    pub name: String,
    /// Why it is pinned, for people who review the policy.
    pub reason: String,
    /// Signatures that claim to be made before this time do not count.
    pub since: Option<jiff::Timestamp>,
    /// The key is judged as if it expired at this time.
    pub until: Option<jiff::Timestamp>,
    /// The groups that the key belongs to.
    pub groups: BTreeSet<String>,
    /// The folders of the builder whose attestations it signs; a builder who changed names has two.
    pub builders: BTreeSet<String>,
    /// Addresses under which a Web Key Directory may have its certificate. They only say where to look.
    pub addresses: BTreeSet<String>,
}

impl Pin {
    /// Whether the key counts for a requirement on `group`.
    pub fn counts_for(&self, group: Option<&str>) -> bool {
        group.is_none_or(|group| self.groups.contains(group))
    }
}
