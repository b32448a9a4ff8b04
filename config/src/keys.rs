//! `[keys]`: where to search for certificates that are not here. No place is trusted, because fingerprints are pinned.

use std::collections::BTreeMap;

use hab_keys::KeyDirectory;
use hab_mirror::Address;
use hab_oci::shown;
use serde::Deserialize;

/// Key servers that answer anybody. The first shows user ids only if their owner agreed; the second shows all of them.
const SERVERS: [&str; 2] = ["https://keys.openpgp.org", "https://keyserver.ubuntu.com"];
/// How many bytes of a wrong value an error shows.
const SHOWN: usize = 100;

/// Where to search for certificates that are not here.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Whether to search for missing certificates unasked, once a day. `keys refresh` always searches.
    pub search: bool,
    /// Key servers, asked in order by fingerprint (HKP): `https://…` or `hkps://…`. If the list is empty, none is
    /// asked.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub servers: Vec<Server>,
    /// Whether to ask the Web Key Directories of email addresses: those in policies, and those in certificates.
    pub directories: bool,
    /// The addresses of Web Key Directories that are not where their domain says: `"example.org" = "http://10.0.0.7"`.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub domains: Directories,
}

impl Default for KeysConfig {
    fn default() -> Self {
        let shipped = |address: &&str| Server { address: (*address).to_owned(), shipped: true };
        Self {
            search: true,
            servers: SERVERS.iter().map(shipped).collect(),
            directories: true,
            domains: Directories::default(),
        }
    }
}

/// A key server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Server {
    /// Its address, without a slash at the end.
    pub address: String,
    /// Whether the program named it, and not the operator. Then it must not be at an inner address.
    pub shipped: bool,
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || {
            let said = told(&text);
            format!("[keys] servers: {said} is not like https://keys.example.org or hkps://keys.example.org")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // The part after the brackets of an IPv6 address, or after a name.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let address = match scheme {
            "https" | "http" => text.clone(),
            "hkps" => format!("https://{rest}"),
            "hkp" if has_port => format!("http://{rest}"),
            // The default port of the protocol (draft-gallagher-openpgp-hkp).
            "hkp" => format!("http://{host}:11371{path}"),
            _ => return Err(bad()),
        };
        let address = Address::base(&address).ok_or_else(bad)?;
        Ok(Self { address, shipped: false })
    }
}

/// The addresses of the Web Key Directories of some domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Directories(BTreeMap<String, String>);

impl Directories {
    /// The beginning of all addresses in a domain's directory, without a slash at the end. `domain` is in lower case.
    pub fn of(&self, domain: &str) -> Option<&str> {
        self.0.get(domain).map(String::as_str)
    }
}

impl TryFrom<BTreeMap<String, String>> for Directories {
    type Error = String;

    fn try_from(table: BTreeMap<String, String>) -> Result<Self, String> {
        let mut directories = BTreeMap::new();
        for (domain, address) in table {
            let said = told(&domain);
            // Read the domain as that of an email address is read later.
            let known = KeyDirectory::of(&format!("someone@{domain}"));
            let known = known.filter(|_| !domain.contains('@')).ok_or_else(|| {
                format!("[keys] domains: {said} is not the name of a domain such as example.org")
            })?;
            let base = Address::base(&address).ok_or_else(|| {
                let address = told(&address);
                format!("[keys] domains: {address}, for {said}, is not like https://keys.example.org")
            })?;
            if directories.insert(known.domain, base).is_some() {
                return Err(format!("[keys] domains: {said} is there twice, but for case"));
            }
        }
        Ok(Self(directories))
    }
}

/// A wrong value, quoted for a sentence, without a possible user, password or query. An error of the configuration
/// leaves out everything between double quotes, so it uses others.
fn told(value: &str) -> String {
    let host = value.rsplit_once('@');
    let (mark, rest) = host.map_or(("", value), |(_, rest)| ("…@", rest));
    let end = rest.find(['?', '#']);
    let (rest, query) = end.map_or((rest, ""), |end| (&rest[..end], "?…"));
    format!("`{mark}{}{query}`", shown(&rest.replace(['"', '`'], "'")).at_most(SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_server_is_named_in_the_ways_that_people_know() {
        for (text, address) in [
            ("hkps://keys.example.org/", "https://keys.example.org"),
            ("hkp://keys.example.org", "http://keys.example.org:11371"),
            ("hkp://keys.example.org/sks", "http://keys.example.org:11371/sks"),
            ("hkp://keys.example.org:80", "http://keys.example.org"),
            ("hkp://[::1]", "http://[::1]:11371"),
            ("http://127.0.0.1:8080/sks", "http://127.0.0.1:8080/sks"),
        ] {
            let server = Server::try_from(text.to_owned());
            assert_eq!(server.map(|server| server.address).as_deref(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_the_program_names_itself_is_told_from_what_the_operator_names() {
        let config: KeysConfig = toml::from_str("").unwrap();
        assert!(config.search && config.directories && config.servers.iter().all(|server| server.shipped));
        let config: KeysConfig = toml::from_str("servers = [\"https://keys.openpgp.org\"]").unwrap();
        assert!(!config.servers[0].shipped);
        assert!(toml::from_str::<KeysConfig>("servers = []\nserver = 1").is_err());
    }

    #[test]
    fn a_directory_is_found_by_its_domain_in_any_case() {
        let text =
            "domains = { \"Example.ORG\" = \"http://10.0.0.7/\", \"a.example\" = \"https://k.example/w\" }";
        let KeysConfig { domains, .. } = toml::from_str(text).unwrap();
        assert_eq!(domains.of("example.org"), Some("http://10.0.0.7"));
        assert_eq!(domains.of("a.example"), Some("https://k.example/w"));
        assert_eq!(domains.of("b.example"), None);
    }

    #[test]
    fn an_address_that_cannot_be_asked_is_refused_with_its_name_and_value_and_without_a_password() {
        let quoted = |value: &str| toml::Value::from(value).to_string();
        let server = |value: &str| format!("servers = [{}]", quoted(value));
        let domain = |name: &str, value: &str| format!("domains = {{ {name:?} = {} }}", quoted(value));
        for (text, sentence) in [
            (server("keys.example.org"), "[keys] servers: `keys.example.org` is not like https://"),
            (server("ldap://keys.example.org"), "`ldap://keys.example.org` is not like"),
            (server("file:///etc"), "`file:///etc` is not like"),
            (server("https://"), "`https://` is not like"),
            (server("https://k:99999"), "`https://k:99999` is not like"),
            (server("https://[::1"), "`https://[::1` is not like"),
            (server("https://k\u{202e}\"/a b"), r"`https://k\u{202e}'/a b` is not like"),
            (server("https://u:s3cret@k.example"), "`…@k.example` is not like"),
            (server("https://k.example/?s3cret"), "`https://k.example/?…` is not like"),
            (
                domain("a.example", "file:///etc"),
                "[keys] domains: `file:///etc`, for `a.example`, is not like",
            ),
            (domain("a.example", "10.0.0.7"), "`10.0.0.7`, for `a.example`, is not like"),
            (domain("file:///etc", "https://k.example"), "`file:///etc` is not the name of a domain"),
            (domain("a", "https://k.example"), "`a` is not the name of a domain"),
            (domain("a.example:80", "https://k.example"), "`a.example:80` is not the name of a domain"),
            (domain("x@a.example", "https://k.example"), "`…@a.example` is not the name of a domain"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("hab.toml");
            std::fs::write(&file, format!("[keys]\n{text}\n")).unwrap();
            let error = crate::Config::load(Some(&file), dir.path()).unwrap_err().to_string();
            assert!(error.contains(sentence) && error.contains("line 2"), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let twice =
            "domains = { \"a.example\" = \"https://k.example\", \"A.example\" = \"https://l.example\" }";
        assert!(toml::from_str::<KeysConfig>(twice).unwrap_err().to_string().contains("twice, but for case"));
        // The error does not repeat a value that is no table, because nobody checked that it has no password.
        let error = toml::from_str::<KeysConfig>("domains = \"file:///etc\"").unwrap_err();
        assert!(error.message().contains("expected a map"), "{error}");
    }
}
