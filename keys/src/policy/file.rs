//! Parses policy.toml as a person writes it, and checks it.

use std::collections::{BTreeMap, BTreeSet};

use hab_oci::Digest;
use sequoia_openpgp::types::HashAlgorithm;
use serde::Deserialize;

use super::{
    Accept, Allowance, CertificateFolder, ChainRule, KeyId, LIMIT, Pin, Policy, PolicyError, Quorum,
    Requirement, Rule, WeakCertificate, WeakHash, is_address,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PolicyFile {
    name: String,
    /// Why there are no keys yet.
    needs_keys: Option<String>,
    accept: Option<Accept>,
    require: BTreeMap<String, RequireTable>,
    #[serde(default)]
    key: Vec<KeyTable>,
    #[serde(default)]
    weak_hash: Vec<WeakHashTable>,
    #[serde(default)]
    weak_certificate: Vec<WeakCertificateTable>,
    /// Folders with certificates of its keys.
    #[serde(default)]
    certificates: Vec<CertificateFolder>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
enum RequireTable {
    Tag {
        threshold: usize,
        group: Option<String>,
        #[serde(default)]
        expired_since: bool,
    },
    CommitChain {
        root: String,
        group: Option<String>,
        #[serde(default)]
        expired_since: bool,
        tree_sha512: bool,
        #[serde(default)]
        allow: Vec<Allowance>,
    },
    SignedHashes {
        threshold: usize,
        group: Option<String>,
        #[serde(default)]
        expired_since: bool,
    },
    ArchiveSignature {
        threshold: usize,
        group: Option<String>,
        #[serde(default)]
        expired_since: bool,
    },
    Digest {
        files: BTreeMap<String, Digest>,
    },
    Unsigned {
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    fingerprint: String,
    name: String,
    reason: String,
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    builders: BTreeSet<String>,
    #[serde(default)]
    addresses: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeakHashTable {
    fingerprint: String,
    hash: String,
    until: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeakCertificateTable {
    fingerprint: String,
    until: String,
    reason: String,
}

impl Policy {
    /// Parses a policy from the text of its file. Its name must be `folder`.
    pub fn parse(folder: &str, text: &str) -> Result<Self, PolicyError> {
        let invalid = |detail: String| PolicyError::Invalid { name: folder.to_owned(), detail };
        if text.len() > LIMIT {
            return Err(invalid(format!("it has more than {LIMIT} bytes")));
        }
        let file: PolicyFile = toml::from_str(text)
            .map_err(|source| PolicyError::Syntax { name: folder.to_owned(), source: Box::new(source) })?;
        if file.name != folder {
            return Err(invalid(format!("its name is {:?}, but it lies in folder {folder}", file.name)));
        }
        read(file, text).map_err(invalid)
    }
}

fn read(file: PolicyFile, text: &str) -> Result<Policy, String> {
    let pins = file.key.into_iter().map(pin).collect::<Result<Vec<_>, _>>()?;
    for (n, pin) in pins.iter().enumerate() {
        if pins[..n].iter().any(|other| other.id == pin.id) {
            return Err(format!("{} is pinned twice", pin.id));
        }
    }
    if file.needs_keys.is_some() && !pins.is_empty() {
        return Err("it says needs-keys, but pins some".to_owned());
    }
    if file.require.is_empty() {
        return Err("it requires nothing".to_owned());
    }
    let mut requirements: BTreeMap<String, Requirement> = BTreeMap::new();
    for (name, table) in file.require {
        let rule = rule(table).map_err(|e| format!("require.{name}: {e}"))?;
        let unmeetable =
            rule.quorum().filter(|_| file.needs_keys.is_none()).and_then(|q| unmeetable(q, &pins));
        if let Some(why) = unmeetable {
            return Err(format!("require.{name}: {why}"));
        }
        let same = |r: &&Requirement| r.rule.kind() == rule.kind();
        if let Some(other) = requirements.values().find(same) {
            // Otherwise their names would decide which of the two applies.
            return Err(format!(
                "require.{name} is of the same kind as require.{}: {}",
                other.name,
                rule.kind()
            ));
        }
        requirements.insert(name.clone(), Requirement { name, rule });
    }
    let all = || Accept::All { all: requirements.keys().cloned().map(Accept::Name).collect() };
    let accept = match (file.accept, requirements.len()) {
        (Some(accept), _) => accept,
        (None, 1) => all(),
        (None, _) => {
            return Err("it has several requirements, so accept must say which a source needs".to_owned());
        }
    };
    if accept.is_hollow() {
        return Err("accept has an empty list".to_owned());
    }
    if let Some(unknown) = accept.names().into_iter().find(|name| !requirements.contains_key(*name)) {
        return Err(format!("accept names {unknown}, which is not among its requirements"));
    }
    let exceptions = file.weak_hash.into_iter().map(weak_hash).collect::<Result<Vec<_>, _>>()?;
    let weak = file.weak_certificate.into_iter().map(weak_certificate).collect::<Result<Vec<_>, _>>()?;
    let named = exceptions.iter().map(|e| ("weak-hash", &e.key));
    let named = named.chain(weak.iter().map(|e| ("weak-certificate", &e.key)));
    if let Some((table, stray)) = named.into_iter().find(|(_, key)| pins.iter().all(|pin| pin.id != **key)) {
        return Err(format!("{table} names {stray}, which is not pinned"));
    }
    file.certificates.iter().try_for_each(CertificateFolder::check)?;
    Ok(Policy {
        name: file.name,
        needs_keys: file.needs_keys,
        pins,
        requirements,
        accept,
        exceptions,
        weak,
        folders: file.certificates,
        text: text.to_owned(),
    })
}

fn rule(table: RequireTable) -> Result<Rule, String> {
    let quorum = |threshold, group, expired_since| match threshold {
        0 => Err("a threshold of 0 would accept anything".to_owned()),
        _ => Ok(Quorum { threshold, group, expired_since }),
    };
    Ok(match table {
        RequireTable::Tag { threshold, group, expired_since } => {
            Rule::Tag(quorum(threshold, group, expired_since)?)
        }
        RequireTable::SignedHashes { threshold, group, expired_since } => {
            Rule::SignedHashes(quorum(threshold, group, expired_since)?)
        }
        RequireTable::ArchiveSignature { threshold, group, expired_since } => {
            Rule::ArchiveSignature(quorum(threshold, group, expired_since)?)
        }
        RequireTable::CommitChain { root, group, expired_since, tree_sha512, allow } => {
            for id in allow.iter().map(|a| &a.commit).chain([&root]) {
                if git2::Oid::from_str(id).is_err() || id.len() != 40 {
                    return Err(format!("{id:?} is not the whole id of a commit"));
                }
            }
            if let Some(undated) = allow.iter().find(|a| date(&a.date).is_err()) {
                return Err(format!("the allowance for {} has date {:?}", undated.commit, undated.date));
            }
            Rule::CommitChain(ChainRule {
                signers: quorum(1, group, expired_since)?,
                root,
                tree_sha512,
                allow,
            })
        }
        RequireTable::Digest { files } if files.is_empty() => return Err("files is empty".to_owned()),
        RequireTable::Digest { files } => Rule::Digest(files),
        RequireTable::Unsigned { reason } => Rule::Unsigned(reason),
    })
}

/// Why a quorum can never be reached; `None` if it can.
fn unmeetable(quorum: &Quorum, pins: &[Pin]) -> Option<String> {
    let count = pins.iter().filter(|pin| pin.counts_for(quorum.group.as_deref())).count();
    let among = quorum.group.as_ref().map_or_else(String::new, |group| format!(" in group {group}"));
    (count < quorum.threshold).then(|| format!("{} of {count} keys{among} can never sign", quorum.threshold))
}

fn pin(table: KeyTable) -> Result<Pin, String> {
    let id: KeyId = table.fingerprint.parse()?;
    let day = |text: Option<String>| text.map(|t| date(&t)).transpose();
    let (since, until) = (day(table.since)?, day(table.until)?);
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(format!("{id} has an until that is not after its since"));
    }
    if table.name.trim().is_empty() || table.reason.trim().is_empty() {
        return Err(format!("{id} needs a name and a reason"));
    }
    if let Some(odd) = table.addresses.iter().find(|address| !is_address(address)) {
        return Err(format!("{odd:?} of {id} is not an address such as name@example.org"));
    }
    Ok(Pin {
        id,
        name: table.name,
        reason: table.reason,
        since,
        until,
        groups: table.groups,
        builders: table.builders,
        addresses: table.addresses,
    })
}

fn weak_hash(table: WeakHashTable) -> Result<WeakHash, String> {
    let hash = match table.hash.as_str() {
        "sha1" => HashAlgorithm::SHA1,
        "ripemd160" => HashAlgorithm::RipeMD,
        other => return Err(format!("weak-hash {other:?} is neither sha1 nor ripemd160")),
    };
    if table.reason.trim().is_empty() {
        return Err(format!("weak-hash for {} needs a reason", table.fingerprint));
    }
    Ok(WeakHash { key: table.fingerprint.parse()?, hash, until: date(&table.until)?, reason: table.reason })
}

fn weak_certificate(table: WeakCertificateTable) -> Result<WeakCertificate, String> {
    let key: KeyId = table.fingerprint.parse()?;
    if matches!(key, KeyId::Ssh(_)) {
        return Err(format!("weak-certificate names {key}, and an SSH key has no certificate"));
    }
    if table.reason.trim().is_empty() {
        return Err(format!("weak-certificate for {key} needs a reason"));
    }
    Ok(WeakCertificate { key, until: date(&table.until)?, reason: table.reason })
}

/// Parses a day such as `2026-01-31`, and returns its beginning in UTC.
fn date(text: &str) -> Result<jiff::Timestamp, String> {
    let day: jiff::civil::Date =
        text.parse().map_err(|_| format!("{text:?} is not a day such as 2026-01-31"))?;
    let zoned = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|e| e.to_string())?;
    Ok(zoned.timestamp())
}
