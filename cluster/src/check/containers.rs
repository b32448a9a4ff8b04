//! podman and CRI-O: registries.conf with its drop-ins (containers-registries.conf(5)), for the host and for each user
//! who has settings of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::policy;
use crate::Runtime;
use crate::host::Host;

const CONF: &str = "etc/containers/registries.conf";
const DROPS: &str = "etc/containers/registries.conf.d";
/// Registries that users chose for short names when podman asked them.
const ALIASES: &str = "var/cache/containers/short-name-aliases.conf";

/// The last parts of public registries' names. No prefix matches every name, and policy.json refuses an image only
/// after its registry was asked for the manifest.
pub(crate) const ENDS: [&str; 24] = [
    "ai", "app", "aws", "ch", "cloud", "cn", "co", "com", "de", "dev", "edu", "eu", "fr", "info", "io", "jp",
    "me", "net", "org", "ru", "run", "sh", "uk", "us",
];

/// One `[[registry]]` table.
pub(crate) struct RegistryTable {
    /// The file that has it.
    pub(crate) path: String,
    pub(crate) location: String,
    pub(crate) blocked: bool,
    mirrors: Vec<String>,
}

/// All files together; a later file overrides an earlier one.
#[derive(Default)]
pub(crate) struct Conf {
    pub(crate) entries: BTreeMap<String, RegistryTable>,
    pub(crate) search: Option<(String, Vec<String>)>,
    /// Each short name, with the file that has it and the image that it leads to.
    aliases: BTreeMap<String, (String, String)>,
}

/// Where an image's name leads.
#[derive(PartialEq, Eq)]
enum ImageRoute {
    Farm,
    Nowhere,
    Elsewhere,
}

pub(super) fn check(host: &mut Host<'_>, runtime: Runtime) {
    // CRI-O's settings are a drop-in, so the host may have no main file.
    if runtime == Runtime::Podman && !host.has(CONF) {
        host.tell(CONF, "is not there");
    }
    let conf = Conf::of_host(host);
    judge(host, &conf, CONF);
    if runtime == Runtime::Podman {
        for home in host.homes() {
            person(host, &home);
        }
    }
    policy::check(host, runtime);
}

/// Judges a user's own settings. A user's registries.conf replaces the host's file and its drop-ins; the user's
/// drop-ins add to either.
fn person(host: &mut Host<'_>, home: &str) {
    let own = format!("{home}/.config/containers/registries.conf");
    let drops = confs(host, &format!("{home}/.config/containers/registries.conf.d"));
    let chosen = format!("{home}/.cache/containers/short-name-aliases.conf");
    let replaced = host.has(&own);
    if !replaced && drops.is_empty() && !host.has(&chosen) {
        return;
    }
    let mut conf = Conf::default();
    let mut files = if replaced {
        vec![own.clone()]
    } else {
        std::iter::once(CONF.to_owned()).chain(confs(host, DROPS)).collect()
    };
    files.extend(drops);
    files.push(chosen);
    for path in files {
        conf.add(host, &path);
    }
    judge(host, &conf, if replaced { &own } else { CONF });
}

fn confs(host: &mut Host<'_>, folder: &str) -> Vec<String> {
    host.list(folder).into_iter().filter(|path| path.ends_with(".conf")).collect()
}

impl Conf {
    /// The host's own settings.
    pub(crate) fn of_host(host: &mut Host<'_>) -> Self {
        Self::of_host_without(host, &[])
    }

    /// The host's own settings, as if some of its files were not there.
    pub(crate) fn of_host_without(host: &mut Host<'_>, without: &[&str]) -> Self {
        let mut conf = Self::default();
        let drops = confs(host, DROPS);
        for path in std::iter::once(CONF.to_owned()).chain(drops).chain([ALIASES.to_owned()]) {
            if !without.contains(&path.as_str()) {
                conf.add(host, &path);
            }
        }
        conf
    }

    fn add(&mut self, host: &mut Host<'_>, path: &str) {
        let Some(table) = host.toml(path, ", so nothing is pulled with it") else { return };
        let text = |entry: &toml::Value, key: &str| {
            entry.get(key).and_then(toml::Value::as_str).unwrap_or_default().trim_end_matches('/').to_owned()
        };
        if table.contains_key("registries") {
            host.tell(
                path,
                "is of the first format, [registries.search], whose registries are asked directly",
            );
        }
        let mut here = BTreeSet::new();
        for entry in table.get("registry").and_then(toml::Value::as_array).into_iter().flatten() {
            let (prefix, location) = (text(entry, "prefix"), text(entry, "location"));
            let prefix = if prefix.is_empty() { location.clone() } else { prefix };
            // Without a location, the registry is at its prefix.
            let location = if location.is_empty() { prefix.clone() } else { location };
            if !here.insert(prefix.clone()) {
                host.wonder(path, format!("has {prefix} twice; the version decides which one counts"));
            }
            let mirrors = entry.get("mirror").and_then(toml::Value::as_array).into_iter().flatten();
            let mirrors = mirrors.map(|mirror| text(mirror, "location")).collect();
            let blocked = entry.get("blocked").and_then(toml::Value::as_bool).unwrap_or_default();
            self.entries.insert(prefix, RegistryTable { path: path.to_owned(), location, blocked, mirrors });
        }
        if let Some(search) = table.get("unqualified-search-registries").and_then(toml::Value::as_array) {
            let names = search.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect();
            self.search = Some((path.to_owned(), names));
        }
        for (name, to) in table.get("aliases").and_then(toml::Value::as_table).into_iter().flatten() {
            match to.as_str().unwrap_or_default() {
                // An empty alias takes back that of an earlier file.
                "" => drop(self.aliases.remove(name)),
                to => drop(self.aliases.insert(name.clone(), (path.to_owned(), to.to_owned()))),
            }
        }
    }

    /// Where a registry, or an image with its registry, is pulled from. The longest prefix decides.
    fn way(&self, host: &Host<'_>, name: &str) -> ImageRoute {
        // Of two prefixes of one length the first in byte order counts, because podman sorts them so.
        let mut longest: Option<(&String, &RegistryTable)> = None;
        for (prefix, entry) in self.entries.iter().filter(|(prefix, _)| begins(name, prefix)) {
            if longest.is_none_or(|(known, _)| prefix.len() > known.len()) {
                longest = Some((prefix, entry));
            }
        }
        match longest {
            None if host.registry.is_here(name) => ImageRoute::Farm,
            None => ImageRoute::Elsewhere,
            Some((_, entry)) if entry.blocked => ImageRoute::Nowhere,
            Some((prefix, entry)) => {
                let location = if entry.location == *prefix { name } else { &entry.location };
                if host.registry.is_here(location) { ImageRoute::Farm } else { ImageRoute::Elsewhere }
            }
        }
    }
}

/// Whether a prefix matches a name: up to the end of a part of the name, or with `*.` up to the end of its host.
fn begins(name: &str, prefix: &str) -> bool {
    let end = |rest: &str| rest.is_empty() || rest.starts_with(['/', ':', '@']);
    match prefix.strip_prefix('*') {
        // Only the first place that matches the rest counts, as in podman: `*.io` does not match `a.io.example`.
        Some(suffix) => {
            name.find(suffix).is_some_and(|at| !name[..at].contains('/') && end(&name[at + suffix.len()..]))
        }
        None => name.strip_prefix(prefix).is_some_and(end),
    }
}

/// Judges the settings. `main` is the file that should have the settings that are missing.
fn judge(host: &mut Host<'_>, conf: &Conf, main: &str) {
    for (prefix, entry) in conf.entries.iter().filter(|(_, entry)| !entry.blocked) {
        if !host.registry.is_here(&entry.location) {
            let ways = if entry.mirrors.is_empty() { "is pulled from" } else { "falls back to" };
            host.tell(&entry.path, format!("{prefix} {ways} {}", entry.location));
        }
        for mirror in &entry.mirrors {
            if !host.registry.is_here(mirror) {
                host.tell(&entry.path, format!("{prefix} has a mirror {mirror}"));
            }
        }
    }
    let mut asked = host.named();
    asked.retain(|name| conf.way(host, name) == ImageRoute::Elsewhere && !conf.entries.contains_key(name));
    if !asked.is_empty() {
        let names = asked.join(", ");
        let words = format!(
            "maps or blocks neither {names}: they are asked directly, even if policy.json then refuses the image"
        );
        host.tell(main, words);
    }
    let open = |end: &&&str| conf.way(host, &format!("any.{end}")) == ImageRoute::Elsewhere;
    let open: Vec<_> = ENDS.iter().filter(open).map(|end| format!(".{end}")).collect();
    if asked.is_empty() && !open.is_empty() {
        let words = "they are asked directly, even if policy.json then refuses the image";
        host.tell(main, format!("blocks no names that end in {}: {words}", open.join(", ")));
    }
    if let Some((path, search)) = &conf.search {
        for name in search {
            if conf.way(host, name) == ImageRoute::Elsewhere {
                host.tell(path, format!("looks for names without a registry at {name}"));
            }
        }
    }
    let mut leads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, to) in conf.aliases.values().filter(|(_, to)| conf.way(host, to) == ImageRoute::Elsewhere) {
        leads.entry(path).or_default().insert(to.split('/').next().unwrap_or_default());
    }
    for (path, hosts) in leads {
        let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
        host.tell(path, format!("has short names that lead to {hosts}"));
    }
}

#[cfg(test)]
mod tests {
    use super::begins;

    #[test]
    fn a_prefix_begins_a_name_where_podman_says_so() {
        for (name, prefix, begun) in [
            ("docker.io/library/a", "docker.io", true),
            ("docker.io/library/a", "docker.io/lib", false),
            ("docker.io:5000/a", "docker.io", true),
            ("x.docker.io/a", "docker.io", false),
            ("x.docker.io/a", "*.docker.io", true),
            ("docker.io/a", "*.docker.io", false),
            ("docker.io/a", "*.io", true),
            ("a.io.example.io/a", "*.io", false),
            ("example.com/x.io", "*.io", false),
        ] {
            assert_eq!(begins(name, prefix), begun, "{name} {prefix}");
        }
    }
}
