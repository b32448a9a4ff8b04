//! `[registry.connections]`: how many connections there may be, and whose.

use hab_registry::{Front, Limits, Network};
use serde::Deserialize;

use super::RegistryConfig;

/// How many connections there may be at the same time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsTable {
    /// Of all clients; without, 1024. Fewer where the system lets a process open fewer files.
    pub all: Option<usize>,
    /// Of one client, which is an IPv4 address or a /64 of IPv6; without, 128.
    pub each: Option<usize>,
    /// Networks of proxies, or of many clients behind one address, such as "10.42.0.0/16": an address of them may have three
    /// quarters of all, as an address of this machine may in any case.
    pub trusted: Vec<String>,
    /// Networks of proxies that stand before this service, which are trusted like the ones above, and believed when they say
    /// whose request it is and by which address it came (`X-Forwarded-For`, `-Host`, `-Proto`, `-Prefix`).
    pub proxies: Vec<String>,
}

impl RegistryConfig {
    /// What one client, and all of them, may take.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let ConnectionsTable { all, each, trusted, proxies } = self.connections.clone().unwrap_or_default();
        let mut limits = Limits::default();
        limits.connections = all.unwrap_or(limits.connections);
        limits.connections_each = each.unwrap_or(limits.connections_each);
        if limits.connections < 4 || limits.connections_each == 0 {
            anyhow::bail!("[registry.connections] all has to be at least 4, and each at least 1");
        }
        for network in trusted.into_iter().chain(proxies) {
            limits.trusted.push(network.parse::<Network>()?);
        }
        Ok(limits)
    }

    /// What stands before this service.
    pub fn front(&self) -> anyhow::Result<Front> {
        let proxies = self.connections.iter().flat_map(|table| &table.proxies);
        let proxies = proxies.map(|network| network.parse()).collect::<Result<_, _>>()?;
        Ok(Front::new(self.url.as_deref(), proxies)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<Limits, String> {
        let config: crate::config::Config = toml::from_str(text).unwrap();
        config.registry.limits().map_err(|e| e.to_string())
    }

    #[test]
    fn an_operator_says_how_many_connections_there_are_and_who_is_trusted_with_more() {
        assert_eq!(limits(""), Ok(Limits::default()));
        let said =
            limits("[registry.connections]\nall = 4000\neach = 50\ntrusted = [\"10.42.0.0/16\"]").unwrap();
        assert_eq!((said.connections, said.connections_each, said.trusted.len()), (4000, 50, 1));
        for (bad, word) in
            [("all = 3", "at least 4"), ("each = 0", "at least 1"), ("trusted = [\"x\"]", "not a network")]
        {
            let error = limits(&format!("[registry.connections]\n{bad}")).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let proxies = limits("[registry.connections]\nproxies = [\"192.0.2.1\"]").unwrap();
        assert_eq!(proxies.trusted.len(), 1);
    }

    #[test]
    fn an_address_that_cannot_be_told_to_clients_is_refused() {
        let front = |text: &str| {
            let config: crate::config::Config = toml::from_str(text).unwrap();
            config.registry.front().map_err(|e| e.to_string())
        };
        assert!(front("[registry]\nurl = \"https://farm.example/mirror\"").is_ok());
        for bad in ["url = \"farm.example\"", "connections.proxies = [\"x\"]"] {
            assert!(front(&format!("[registry]\n{bad}")).is_err(), "{bad}");
        }
    }
}
