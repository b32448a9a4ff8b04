//! The upstream registries of the operator's configuration. The registry knows no keys, so here it gets the judge of
//! images' signatures.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hab_keys::{ImageKey, ImagePolicy, ImageSignature};
use hab_oci::Digest;
use hab_registry::{ImageJudge, Patience, Revalidate, Signature, Signed, UpstreamConfig, Upstreams};
use hab_store::{Pattern, Span};
use hab_trusted_file::Readers;

use hab_config::{RegistryConfig, Revalidation, SignedTable, UpstreamTable};

use crate::error::FarmError;

/// Most bytes of the file of a password or a key.
const LARGEST: u64 = 1 << 20;

/// Opens the upstreams of a configuration. With `offline` they are never asked. `pins` is the folder that records which
/// token service each upstream named first.
pub fn open(config: &RegistryConfig, offline: bool, pins: &Path) -> Result<Upstreams, FarmError> {
    read(config, offline, pins).map_err(FarmError::Usage)
}

fn read(config: &RegistryConfig, offline: bool, pins: &Path) -> Result<Upstreams, String> {
    let all = config.upstream.iter().map(|(name, table)| {
        upstream(name, table, offline, pins).map_err(|sentence| format!("upstream {name}: {sentence}"))
    });
    Upstreams::new(all.collect::<Result<_, String>>()?)
}

fn upstream(name: &str, table: &UpstreamTable, offline: bool, pins: &Path) -> Result<UpstreamConfig, String> {
    let password = table.password_file.as_deref().map(|path| text(path, Readers::GroupOfRoot)).transpose()?;
    login(table)?;
    let revalidate = match table.revalidate {
        Revalidation::Behind => Revalidate::Behind,
        Revalidation::Before => Revalidate::Before(time("revalidate-within", &table.revalidate_within)?),
    };
    for rule in &table.sync {
        let name = &rule.repository;
        if !table.repositories.is_empty() && !table.repositories.iter().any(|p| p.matches(name.as_str())) {
            return Err(format!("cannot sync {name}: it is not one of the repositories that may be pulled"));
        }
        if rule.every < Span::MINUTE {
            return Err(format!("{name} is to be synced more often than once a minute"));
        }
    }
    Ok(UpstreamConfig {
        name: name.to_owned(),
        url: table.url.clone(),
        username: table.username.clone(),
        password: password.and_then(|text| text.lines().next().map(str::to_owned)),
        proxy: table.proxy.clone(),
        ca: table
            .ca
            .as_deref()
            .map(|path| text(path, Readers::Everybody))
            .transpose()?
            .map(String::into_bytes),
        token_service: table.token_service.clone(),
        inner: table.inner.clone(),
        pins: Some(pins.to_owned()),
        repositories: table.repositories.clone(),
        digest_only: table.digest_only,
        ttl: time("ttl", &table.ttl)?,
        revalidate,
        absent: time("absent", &table.absent)?,
        fixed: table.fixed.clone(),
        signed: table.signed.iter().map(signed).collect::<Result<_, String>>()?,
        offline,
        patience: Patience::default(),
    })
}

/// Checks the user's name. It is sent together with the password, separated by the first colon (RFC 7617, section 2).
fn login(table: &UpstreamTable) -> Result<(), String> {
    match (table.username.as_deref(), &table.password_file) {
        (Some(name), _) if name.contains(':') || name.chars().any(char::is_control) => {
            Err("its username has a colon or a control character".to_owned())
        }
        (Some(_), None) => Err("it has a username and no password-file".to_owned()),
        (None, Some(_)) => Err("it has a password-file and no username".to_owned()),
        _ => Ok(()),
    }
}

fn time(key: &str, text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| time.try_into().ok());
    time.ok_or_else(|| format!("{key} {text:?} is not a span of time, such as 5m"))
}

fn signed(table: &SignedTable) -> Result<Signed, String> {
    let key = |path: &std::path::PathBuf| {
        ImageKey::read(&path.display().to_string(), text(path, Readers::Everybody)?.as_bytes())
            .map_err(|e| e.to_string())
    };
    let keys = table.keys.iter().map(key).collect::<Result<Vec<_>, String>>()?;
    let policy = ImagePolicy::new(keys, table.threshold).map_err(|e| e.to_string())?;
    let judge = Arc::new(Cosigned { policy, identity: table.identity.clone() });
    Ok(Signed { repositories: table.repositories.clone(), judge })
}

/// Reads a file with a password or a key. Whoever can write it decides what is served, so it must be a trusted file.
fn text(path: &Path, readers: Readers) -> Result<String, String> {
    hab_trusted_file::read_text(path, readers, LARGEST).map_err(|e| match e.source() {
        Some(cause) => format!("{e}: {cause}"),
        None => e.to_string(),
    })
}

/// An operator's signature policy for images of other registries.
#[derive(Debug)]
struct Cosigned {
    policy: ImagePolicy,
    /// The names that a signature may give the image; empty allows any name.
    identity: Vec<Pattern>,
}

fn borrowed(signature: &Signature) -> ImageSignature<'_> {
    match signature {
        Signature::Document { payload, signature } => ImageSignature::Document { payload, signature },
        Signature::Bundle(bytes) => ImageSignature::Bundle(bytes),
    }
}

impl ImageJudge for Cosigned {
    fn approve(&self, manifest: &Digest, signatures: &[Signature]) -> Result<(), String> {
        let named = |name: &str| self.identity.is_empty() || self.identity.iter().any(|p| p.matches(name));
        self.policy.weigh(manifest, signatures.iter().map(borrowed), named)
    }

    fn made(&self, signature: &Signature) -> bool {
        self.policy.made(borrowed(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hab_config::Config;

    /// The error for a table of an upstream. FOLDER in the table stands for a folder that contains a key.
    fn refusal(table: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        std::fs::write(folder.path().join("k.pub"), key).unwrap();
        std::fs::write(folder.path().join("no.pub"), "no key").unwrap();
        std::fs::write(folder.path().join("password"), "secret").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.path().join("password"), mode).unwrap();
        let table = table.replace("FOLDER", &folder.path().display().to_string());
        let text = format!("[registry.upstream.\"up.example\"]\nurl = \"https://up.example\"\n{table}\n");
        let file = folder.path().join("hab.toml");
        std::fs::write(&file, text).unwrap();
        let config = match Config::load(Some(&file), folder.path()) {
            Ok(config) => config,
            Err(e) => return format!("{e:#}"),
        };
        read(&config.registry, false, folder.path()).map_or_else(|e| e, |_| String::new())
    }

    #[test]
    fn what_cannot_be_is_refused_in_a_sentence_that_names_the_upstream() {
        let sync = "[[registry.upstream.\"up.example\".sync]]\nrepository = \"a/b\"\ntags =";
        for (table, words) in [
            (format!("{sync} \"v*\"\nevery = \"6h\"\nplatforms = [\"linux/amd64\"]\nreferrers = false"), ""),
            (format!("{sync} {{ semver = \">=1\", newest = 3 }}"), ""),
            (format!("{sync} {{ regex = \"(\" }}"), "is not a regular expression"),
            (format!("{sync} \"v*\"\nevery = \"1s\""), "up.example: a/b is to be synced more often"),
            (format!("repositories = [\"c/*\"]\n{sync} \"v*\""), "not one of the repositories"),
            (format!("{sync} \"v*\"\nplatforms = [\"amd64\"]"), "is not a platform"),
            (format!("{sync} \"v*\"\nevry = \"1h\""), "unknown field `evry`"),
            ("signed = [{ keys = [\"FOLDER/k.pub\"] }]".to_owned(), ""),
            ("signed = [{ keys = [] }]".to_owned(), "1 of 0 keys"),
            ("signed = [{ keys = [\"FOLDER/k.pub\"], threshold = 2 }]".to_owned(), "2 of 1 keys"),
            (
                "signed = [{ keys = [\"FOLDER/k.pub\", \"FOLDER/k.pub\"], threshold = 2 }]".to_owned(),
                "2 of 1",
            ),
            ("signed = [{ keys = [\"FOLDER/no.pub\"] }]".to_owned(), "no.pub is not a public key in PEM"),
            ("signed = [{ keys = [\"FOLDER/none.pub\"] }]".to_owned(), "cannot read"),
            ("signed = [\"FOLDER/k.pub\"]".to_owned(), "expected struct SignedTable"),
            ("username = \"me\"\npassword-file = \"FOLDER/password\"".to_owned(), ""),
            ("username = \"me\"".to_owned(), "up.example: it has a username and no password-file"),
            ("password-file = \"FOLDER/password\"".to_owned(), "it has a password-file and no username"),
            ("username = \"me:too\"\npassword-file = \"FOLDER/password\"".to_owned(), "a colon or a control"),
            ("username = \"me\\n\"\npassword-file = \"FOLDER/password\"".to_owned(), "a colon or a control"),
            ("proxy = \"socks5://p.example:1\"".to_owned(), "its proxy is not like http://"),
            ("token-service = \"https://auth.example\"\ninner = [\"http://10.0.0.6:9000\"]".to_owned(), ""),
            (
                "token-service = \"auth.example\"".to_owned(),
                "token-service: \"auth.example\" is not like https://",
            ),
            ("inner = [\"10.0.0.6\"]".to_owned(), "inner: \"10.0.0.6\" is not like https://"),
            ("ca = \"FOLDER/none.pem\"".to_owned(), "none.pem"),
            (
                "ca = \"FOLDER/no.pub\"".to_owned(),
                "upstream up.example: there is no certificate in PEM in its ca file",
            ),
            ("ttl = \"soon\"".to_owned(), "upstream up.example: ttl \"soon\" is not a span"),
            ("revalidate = \"before\"\nrevalidate-within = \"500ms\"\nabsent = \"0s\"".to_owned(), ""),
            ("revalidate = \"always\"".to_owned(), "unknown variant `always`"),
            (
                "revalidate = \"before\"\nrevalidate-within = \"-1s\"".to_owned(),
                "revalidate-within \"-1s\" is not a span",
            ),
            ("absent = \"10\"".to_owned(), "absent \"10\" is not a span"),
        ] {
            let said = refusal(&table);
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{table}: {said}");
        }
    }
}
