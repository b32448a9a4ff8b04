//! `hab.toml`: what an operator may set. Everything has a default, so the file need not exist.
//!
//! In scope: the tables and fields, their defaults, and which values are refused. Out of scope: opening the files that
//! they name, except accounts and certificates, which are refused here with the table's name. Start at [`Config`].

mod access;
mod connections;
mod error;
mod keys;
#[cfg(test)]
mod schema;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hab_store::{Bytes, Retain, Span, Tags};
use serde::Deserialize;

use access::{AccessTable, LimitTable, TlsTable};
use connections::ConnectionsTable;
pub use error::ConfigError;
pub use keys::{Directories, KeysConfig, Server};
pub use upstream::{Revalidation, SignedTable, UpstreamTable};

/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The operator's configuration: plain data; nothing is opened here.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folders of recipes that override the built-in ones; each overrides those before it. A relative path is below the
    /// folder of this file.
    pub recipes: Vec<PathBuf>,
    /// Folders of policies that override the built-in ones in the same way.
    pub trust: Vec<PathBuf>,
    /// Whether to leave out the recipes and policies that are built into the program.
    #[serde(rename = "without-built-in")]
    pub without_built_in: bool,
    /// Debian archives.
    pub debian: DebianConfig,
    /// Crates.
    pub crates: CratesConfig,
    /// Certificates: files, or folders of `.gpg`, `.pgp` and `.asc` files. Only pinned fingerprints are looked up in
    /// them.
    pub certificates: Vec<PathBuf>,
    /// Where to search for certificates that are not here.
    pub keys: KeysConfig,
    /// What may be mirrored, and how.
    pub mirror: MirrorConfig,
    /// Git projects by name.
    pub git: BTreeMap<String, GitConfig>,
    /// Images that are kept and served.
    pub registry: RegistryConfig,
}

/// How images are kept.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Tags that stay where they are once they exist. Nothing moves or deletes them, not even a rollback.
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::Tags>"))]
    pub immutable: Vec<Tags>,
    /// Tags that a collection may delete.
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::Retain>"))]
    pub retain: Vec<Retain>,
    /// How long something stays that nothing needs any more, for pushes in progress and for rollbacks.
    #[cfg_attr(test, schemars(with = "crate::schema::Span"))]
    pub grace: Span,
    /// How often `serve` collects; 0s means never.
    #[cfg_attr(test, schemars(with = "crate::schema::Span"))]
    pub collect: Span,
    /// How many bytes a second `serve` hashes again, to find damage of the disk; 0 means none.
    #[cfg_attr(test, schemars(with = "crate::schema::Bytes"))]
    pub scrub: Bytes,
    /// Other registries that are pulled through this one, by the name in their images' names: `docker.io`.
    pub upstream: BTreeMap<String, UpstreamTable>,
    /// Accounts and what they may do. Without it, there are none.
    pub access: Option<AccessTable>,
    /// TLS. Without it, the service speaks plain http.
    pub tls: Option<TlsTable>,
    /// The rate limit for each client. Without it, there is none.
    pub limit: Option<LimitTable>,
    /// The address that clients know this service by, if it is not the one that they send:
    /// `https://farm.example/mirror`.
    pub url: Option<String>,
    /// How many connections are allowed, in total and for each client.
    pub connections: Option<ConnectionsTable>,
    /// A file that gets a line of JSON for every request except those for `/metrics`, `/healthz` and `/readyz`.
    #[serde(rename = "access-log")]
    pub access_log: Option<PathBuf>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            immutable: Vec::new(),
            retain: Vec::new(),
            grace: Span::hours(24),
            collect: Span::hours(24),
            scrub: Bytes::mebi(8),
            upstream: BTreeMap::new(),
            access: None,
            tls: None,
            limit: None,
            url: None,
            connections: None,
            access_log: None,
        }
    }
}

/// Where Debian packages come from.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DebianConfig {
    /// Base addresses (the folder that holds `dists` and `pool`), asked in order. If the list is empty, those that the
    /// host's apt is configured to use.
    pub bases: Vec<String>,
    /// Keyring files with the archive's certificates, which are found by pinned fingerprint.
    pub keyrings: Vec<PathBuf>,
}

impl Default for DebianConfig {
    fn default() -> Self {
        Self { bases: Vec::new(), keyrings: vec!["/usr/share/keyrings/debian-archive-keyring.gpg".into()] }
    }
}

/// Where crates come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CratesConfig {
    /// The address of a sparse index. Without it, the index that the host's cargo is configured to use.
    pub index: Option<String>,
}

/// What may be mirrored.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MirrorConfig {
    /// Whether repositories may be fetched from this machine, by path or `file://`.
    pub file: bool,
    /// Whether repositories may be fetched by unencrypted http.
    pub http: bool,
    /// Folders of depends sources, such as another farm's `https://…/depends-sources`. They are asked in order, after
    /// the address that the package itself names.
    pub depends: Vec<String>,
    /// A file of PEM certificates of authorities for hosts of files, in addition to the machine's own.
    pub ca: Option<PathBuf>,
    /// Addresses that only this machine or its network can reach and to which redirects and documents may nevertheless
    /// lead: `http://10.0.0.6:9000`.
    pub inner: Vec<String>,
}

/// Where a git project comes from.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct GitConfig {
    /// Upstreams, asked in order, that replace the project's own.
    pub urls: Vec<String>,
    /// A file whose first line is the password of the user whom one of these addresses names:
    /// `https://USER@host/project`.
    #[serde(rename = "password-file")]
    pub password_file: Option<PathBuf>,
}

impl Config {
    /// Reads `file`, or else `hab.toml` in the data folder if that exists.
    pub fn load(file: Option<&Path>, data: &Path) -> Result<Self, ConfigError> {
        let default = data.join("hab.toml");
        let path = match file {
            Some(path) => path,
            None if default.is_file() => &default,
            None => return Ok(Self::default()),
        };
        let text = hab_trusted_file::read_text(path, hab_trusted_file::Readers::Everybody, LARGEST)?;
        let mut config: Self =
            toml::from_str(&text).map_err(|e| ConfigError::Malformed(wrong(path, &text, &e)))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for overlay in config.recipes.iter_mut().chain(&mut config.trust) {
            *overlay = folder.join(&overlay);
        }
        Ok(config)
    }
}

/// What is wrong with a configuration, and where. Repeats neither the line nor any value, because both may hold a
/// password.
fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!(", line {line}, column {column}")
    });
    let message = without_values(error.message()).replace('\n', " ");
    format!("{}{}: {message}", path.display(), place.unwrap_or_default())
}

/// A message of serde's without the text between double quotes, which are values of the file. Names of fields stand
/// between backquotes.
fn without_values(message: &str) -> String {
    let (mut said, mut rest) = (String::new(), message);
    while let Some((before, after)) = rest.split_once('"') {
        said.push_str(before);
        said.push('…');
        let mut escaped = false;
        let end = after.find(|c| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        });
        // A quotation without an end lasts to the end of the text.
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    said + rest
}

/// The platform's data folder for this program.
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("hab-build"))
        .ok_or(ConfigError::NoDataFolder)
}

#[cfg(test)]
mod tests {
    use hab_chain::chain;

    use super::*;

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hab.toml");
        std::fs::write(&file, "[debian]\nbase = [\"http://x.invalid\"]\n").unwrap();
        let error = chain(&Config::load(Some(&file), dir.path()).unwrap_err());
        assert!(error.contains("line 2") && error.contains("`bases`"), "{error}");
    }

    #[test]
    fn a_rule_that_would_let_everything_go_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hab.toml");
        std::fs::write(&file, "[registry]\ngrace = \"2d\"\nretain = [{ tag = \"pr-*\" }]\n").unwrap();
        let error = chain(&Config::load(Some(&file), dir.path()).unwrap_err());
        assert!(error.contains("line 3") && error.contains("all of its tags would go"), "{error}");
        std::fs::write(&file, "[registry]\nretain = [{ tag = \"pr-*\", keep = 3, older = \"30d\" }]\n")
            .unwrap();
        assert_eq!(Config::load(Some(&file), dir.path()).unwrap().registry.retain.len(), 1);
    }

    #[test]
    fn a_mistake_in_the_configuration_never_repeats_a_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hab.toml");
        let upstream = "[registry.upstream.\"a.example\"]\nurl = \"https://a.example\"\n";
        for (line, named) in [
            ("proxy = \"http://me:s3cret@p.example:1\" x", "line 3"),
            ("proxy = [\"http://me:s3cret@p.example:1\"]", "line 3"),
            ("proxi = \"http://me:s3cret@p.example:1\"", "`proxy`"),
            ("sync = \"http://me:s3cret@p.example:1\"", "line 3"),
            ("digest-only = \"a\\\"s3cret\"", "line 3"),
            ("fixed = [\"s3cret\", 3]", "line 3"),
            ("signed = \"s3cret", "line 3"),
        ] {
            std::fs::write(&file, format!("{upstream}{line}\n")).unwrap();
            let error = chain(&Config::load(Some(&file), dir.path()).unwrap_err());
            assert!(!error.contains("s3cret"), "{line}: {error}");
            assert!(error.contains(named) && error.contains("hab.toml"), "{line}: {error}");
        }
    }

    #[test]
    fn a_configuration_that_others_may_write_is_refused_with_the_command_that_mends_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hab.toml");
        std::fs::write(&file, "").unwrap();
        for (mode, good) in [(0o666, false), (0o620, false), (0o644, true), (0o600, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = Config::load(None, dir.path());
            assert_eq!(loaded.is_ok(), good, "{mode:o}");
            if let Err(error) = loaded {
                let error = chain(&error);
                assert!(error.contains("hab.toml") && error.contains("chmod"), "{error}");
            }
        }
    }

    /// The code blocks in docs/OPERATE.md that are parts of hab.toml.
    fn examples() -> Vec<String> {
        let text = include_str!("../../docs/OPERATE.md");
        let code = |line: &str| line.strip_prefix("    ").map(str::to_owned);
        let mut paragraphs = vec![String::new()];
        for line in text.lines() {
            match code(line).filter(|line| !line.trim().is_empty()) {
                Some(line) => paragraphs.last_mut().unwrap().push_str(&(line + "\n")),
                None => paragraphs.push(String::new()),
            }
        }
        let tables = ["debian", "crates", "keys", "mirror", "git", "registry"];
        let ours = |line: &str| {
            let name = line.trim_start_matches('[').split(['.', ']']).next().unwrap_or_default();
            line.starts_with('[') && tables.contains(&name)
        };
        paragraphs.retain(|paragraph| paragraph.lines().any(ours));
        paragraphs
    }

    #[test]
    fn every_example_of_a_configuration_in_the_handbook_is_one() {
        let examples = examples();
        assert!(examples.len() >= 8, "{}: the handbook's examples are not found", examples.len());
        for example in examples {
            // A table below an upstream's table needs an upstream with an address above it.
            let below = example.starts_with("[[registry.upstream.");
            let whole = "[registry.upstream.\"docker.io\"]\nurl = \"https://registry.example\"\n";
            let text = if below { format!("{whole}{example}") } else { example.clone() };
            if let Err(e) = toml::from_str::<Config>(&text) {
                panic!("{e}\n{example}");
            }
        }
    }

    #[test]
    fn rules_of_the_handbook_are_for_repositories_that_builds_make() {
        let recipes = include_dir::include_dir!("$CARGO_MANIFEST_DIR/../recipes");
        let made: Vec<String> = recipes
            .dirs()
            .filter_map(|dir| dir.get_file(dir.path().join("recipe.toml"))?.contents_utf8())
            .filter_map(|text| {
                toml::from_str::<toml::Table>(text).ok()?["image"]["repository"].as_str().map(str::to_owned)
            })
            .collect();
        assert!(made.contains(&"bitcoin".to_owned()), "{made:?}");
        let mut rules = 0;
        for example in examples() {
            let Ok(Config { registry, .. }) = toml::from_str(&example) else { continue };
            let immutable = registry.immutable.iter().map(|tags| &tags.repository);
            for pattern in immutable.chain(registry.retain.iter().map(|rule| &rule.tags.repository)) {
                rules += 1;
                assert!(made.iter().any(|name| pattern.matches(name)), "{pattern} is for none of {made:?}");
            }
        }
        assert!(rules > 0, "no rule was looked at");
    }

    #[test]
    fn folders_that_are_laid_over_are_below_the_configurations_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hab.toml");
        std::fs::write(&file, "recipes = [\"mine\", \"/srv/theirs\"]\ntrust = [\"keys\"]\n").unwrap();
        let config = Config::load(Some(&file), dir.path()).unwrap();
        assert_eq!(config.recipes, [dir.path().join("mine"), PathBuf::from("/srv/theirs")]);
        assert_eq!(config.trust, [dir.path().join("keys")]);
    }

    #[test]
    fn no_file_means_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::load(None, dir.path()).unwrap().debian.bases.is_empty());
    }
}
