//! `[keys]`: where certificates are looked for that are not here. A place is never trusted: fingerprints are pinned.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Key servers that answer anybody. The first gives user ids only where their owner agreed, the second all of them.
const SERVERS: [&str; 2] = ["https://keys.openpgp.org", "https://keyserver.ubuntu.com"];

/// Where certificates are looked for that are not here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Whether certificates that are missing are looked for without being asked, once a day. `keys refresh` looks
    /// always.
    pub search: bool,
    /// Key servers, asked in order by fingerprint (HKP): `https://…` or `hkps://…`; empty: none is asked.
    pub servers: Vec<Server>,
    /// Whether the Web Key Directories of addresses are asked: those that policies name, and those in certificates.
    pub directories: bool,
    /// Where the Web Key Directory of a domain is, where that is not what its name says: `"example.org" =
    /// "http://10.0.0.7"`.
    pub domains: BTreeMap<String, String>,
}

impl Default for KeysConfig {
    fn default() -> Self {
        let shipped = |address: &&str| Server { address: (*address).to_owned(), shipped: true };
        Self {
            search: true,
            servers: SERVERS.iter().map(shipped).collect(),
            directories: true,
            domains: BTreeMap::new(),
        }
    }
}

/// A key server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Server {
    /// Its address, without a slash at the end.
    pub address: String,
    /// Whether the program named it, and not the operator: then it must not be at an inner address.
    pub shipped: bool,
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || "a key server is like https://keys.example.org or hkps://keys.example.org".to_owned();
        let (scheme, host) = text.split_once("://").ok_or_else(bad)?;
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(['?', '#', '@']) || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        let address = match scheme {
            "https" | "http" => format!("{scheme}://{host}"),
            "hkps" => format!("https://{host}"),
            // The port of the protocol's own (draft-gallagher-openpgp-hkp).
            "hkp" if host.contains(':') => format!("http://{host}"),
            "hkp" => format!("http://{host}:11371"),
            _ => return Err(bad()),
        };
        Ok(Self { address, shipped: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_server_is_named_in_the_ways_that_people_know() {
        let read = |text: &str| Server::try_from(text.to_owned()).map(|server| server.address);
        assert_eq!(read("hkps://keys.example.org/").unwrap(), "https://keys.example.org");
        assert_eq!(read("hkp://keys.example.org").unwrap(), "http://keys.example.org:11371");
        assert_eq!(read("http://127.0.0.1:8080/sks").unwrap(), "http://127.0.0.1:8080/sks");
        for bad in [
            "keys.example.org",
            "ldap://keys.example.org",
            "https://",
            "https://u:p@keys.example.org",
            "https://k/?a",
        ] {
            assert!(read(bad).is_err(), "{bad}");
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
}
