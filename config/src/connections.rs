//! `[registry.connections]`: how many connections are allowed, in total and for each client.

use hab_registry::{Front, Network, ServiceLimits};
use serde::Deserialize;

use super::{ConfigError, RegistryConfig};

/// The name of this table.
const TABLE: &str = "registry.connections";

/// How many connections there may be at the same time.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsTable {
    /// Connections of all clients together, 4 to 65,536; 1024 by default. The service allows fewer, and says so, if the
    /// system lets a process open fewer files.
    pub all: Option<usize>,
    /// Connections of one client, which is an IPv4 address or an IPv6 /64: 1 to `all`; 128 by default.
    pub each: Option<usize>,
    /// Networks of proxies, or of many clients behind one address, such as "10.42.0.0/16". One address of these may
    /// have three quarters of `all`, and so may any address of this machine.
    pub trusted: Vec<String>,
    /// Networks of proxies in front of this service. They are trusted like the ones above, and believed when they say
    /// whose request it is and by which address it came (`X-Forwarded-For`, `-Host`, `-Proto`, `-Prefix`).
    pub proxies: Vec<String>,
}

impl RegistryConfig {
    /// The limits for one client, and for all clients together.
    pub fn limits(&self) -> Result<ServiceLimits, ConfigError> {
        let ConnectionsTable { all, each, trusted, proxies } = self.connections.clone().unwrap_or_default();
        let mut limits = ServiceLimits::default();
        limits.connections = all.unwrap_or(limits.connections);
        let (all, most) = (limits.connections, ServiceLimits::MOST_CONNECTIONS);
        if !(4..=most).contains(&all) {
            return Err(ConfigError::setting(TABLE, format!("all is {all}: it has to be 4 to {most}")));
        }
        if let Some(each) = each.filter(|each| !(1..=all).contains(each)) {
            let problem = format!("each is {each}: it has to be 1 to {all}, which is what all may have");
            return Err(ConfigError::setting(TABLE, problem));
        }
        limits.connections_each = each.unwrap_or(limits.connections_each);
        for network in trusted.into_iter().chain(proxies) {
            limits.trusted.push(network.parse::<Network>()?);
        }
        Ok(limits)
    }

    /// The proxies in front of this service, and the address that clients know.
    pub fn front(&self) -> Result<Front, ConfigError> {
        let proxies = self.connections.iter().flat_map(|table| &table.proxies);
        let proxies = proxies.map(|network| network.parse()).collect::<Result<_, _>>()?;
        Ok(Front::new(self.url.as_deref(), proxies)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<ServiceLimits, String> {
        let config: crate::Config = toml::from_str(text).unwrap();
        config.registry.limits().map_err(|e| e.to_string())
    }

    #[test]
    fn an_operator_says_how_many_connections_there_are_and_who_is_trusted_with_more() {
        assert_eq!(limits(""), Ok(ServiceLimits::default()));
        let said =
            limits("[registry.connections]\nall = 4000\neach = 50\ntrusted = [\"10.42.0.0/16\"]").unwrap();
        assert_eq!((said.connections, said.connections_each, said.trusted.len()), (4000, 50, 1));
        for (bad, sentence) in [
            ("all = 3", "all is 3: it has to be 4 to 65536"),
            ("all = 65537", "all is 65537: it has to be 4 to 65536"),
            ("all = 9223372036854775807", "it has to be 4 to 65536"),
            ("each = 0", "each is 0: it has to be 1 to 1024"),
            ("each = 1025", "each is 1025: it has to be 1 to 1024"),
            ("all = 8\neach = 9", "each is 9: it has to be 1 to 8"),
            ("trusted = [\"x\"]", "not a network"),
        ] {
            let error = limits(&format!("[registry.connections]\n{bad}")).unwrap_err();
            assert!(error.contains(sentence), "{error}");
        }
        // If only `all` is set, one client's share follows from it.
        assert_eq!(limits("[registry.connections]\nall = 8").unwrap().connections, 8);
        let proxies = limits("[registry.connections]\nproxies = [\"192.0.2.1\"]").unwrap();
        assert_eq!(proxies.trusted.len(), 1);
    }

    #[test]
    fn an_address_that_cannot_be_told_to_clients_is_refused() {
        let front = |text: &str| {
            let config: crate::Config = toml::from_str(text).unwrap();
            config.registry.front().map_err(|e| e.to_string())
        };
        assert!(front("[registry]\nurl = \"https://farm.example/mirror\"").is_ok());
        for bad in ["url = \"farm.example\"", "connections.proxies = [\"x\"]"] {
            assert!(front(&format!("[registry]\n{bad}")).is_err(), "{bad}");
        }
    }
}
