//! podman and CRI-O: registries.conf with its drop-ins, and policy.json (containers-registries.conf(5) and
//! containers-policy.json(5)).

use std::collections::{BTreeMap, BTreeSet};

use super::{Host, Runtime};
use crate::cluster::ENDS;

const CONF: &str = "etc/containers/registries.conf";
const DROPS: &str = "etc/containers/registries.conf.d";
const POLICY: &str = "etc/containers/policy.json";

/// One `[[registry]]`.
struct Entry {
    /// The file that says it.
    path: String,
    location: String,
    blocked: bool,
    mirrors: Vec<String>,
}

/// All files together: later ones go before earlier ones.
#[derive(Default)]
struct Conf {
    entries: BTreeMap<String, Entry>,
    search: Option<(String, Vec<String>)>,
    /// Where short names lead to.
    aliases: BTreeMap<String, (String, String)>,
}

/// Where a name leads to.
#[derive(PartialEq, Eq)]
enum Way {
    Farm,
    Nowhere,
    Elsewhere,
}

pub(super) fn check(host: &mut Host<'_>, runtime: Runtime) {
    let mut conf = Conf::default();
    // CRI-O's file is a drop-in, so the host may have no main one.
    if !host.has(CONF) && runtime == Runtime::Podman {
        host.tell(CONF, "is not there");
    }
    let drops = host.list(DROPS).into_iter().filter(|path| path.ends_with(".conf"));
    for path in std::iter::once(CONF.to_owned()).chain(drops.collect::<Vec<_>>()) {
        if host.has(&path) {
            conf.add(host, &path);
        }
    }
    judge(host, &conf);
    if runtime == Runtime::Podman {
        for home in host.homes() {
            for (file, instead) in [("registries.conf", CONF), ("policy.json", POLICY)] {
                let path = format!("{home}/.config/containers/{file}");
                if host.has(&path) {
                    host.tell(&path, format!("is read instead of /{instead} by the one whose it is"));
                }
            }
        }
    }
    policy(host);
}

impl Conf {
    fn add(&mut self, host: &mut Host<'_>, path: &str) {
        let Some(table) = host.toml(path) else { return };
        let text = |entry: &toml::Value, key: &str| {
            entry.get(key).and_then(toml::Value::as_str).unwrap_or_default().trim_end_matches('/').to_owned()
        };
        if table.contains_key("registries") {
            host.tell(
                path,
                "is of the first format, [registries.search], whose registries are asked themselves",
            );
        }
        for entry in table.get("registry").and_then(toml::Value::as_array).into_iter().flatten() {
            let (prefix, location) = (text(entry, "prefix"), text(entry, "location"));
            let prefix = if prefix.is_empty() { location.clone() } else { prefix };
            // Without a location the prefix is where it is.
            let location = if location.is_empty() { prefix.clone() } else { location };
            let mirrors = entry.get("mirror").and_then(toml::Value::as_array).into_iter().flatten();
            let mirrors = mirrors.map(|mirror| text(mirror, "location")).collect();
            let blocked = entry.get("blocked").and_then(toml::Value::as_bool).unwrap_or_default();
            self.entries.insert(prefix, Entry { path: path.to_owned(), location, blocked, mirrors });
        }
        if let Some(search) = table.get("unqualified-search-registries").and_then(toml::Value::as_array) {
            let names = search.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect();
            self.search = Some((path.to_owned(), names));
        }
        for (name, to) in table.get("aliases").and_then(toml::Value::as_table).into_iter().flatten() {
            let to = to.as_str().unwrap_or_default().to_owned();
            self.aliases.insert(name.clone(), (path.to_owned(), to));
        }
    }

    /// Where a registry, or an image with its registry, is pulled from: the longest prefix decides.
    fn way(&self, host: &Host<'_>, name: &str) -> Way {
        let longest =
            self.entries.iter().filter(|(prefix, _)| begins(name, prefix)).max_by_key(|(p, _)| p.len());
        match longest {
            None if host.is_farm(name) => Way::Farm,
            None => Way::Elsewhere,
            Some((_, entry)) if entry.blocked => Way::Nowhere,
            Some((prefix, entry)) => {
                let location = if entry.location == *prefix { name } else { &entry.location };
                if host.is_farm(location) { Way::Farm } else { Way::Elsewhere }
            }
        }
    }
}

/// Whether a prefix is one of a name: at the end of a part, or `*.` and the end of its host.
fn begins(name: &str, prefix: &str) -> bool {
    let end = |rest: &str| rest.is_empty() || rest.starts_with(['/', ':', '@']);
    match prefix.strip_prefix('*') {
        Some(suffix) => {
            let host = name.split('/').next().unwrap_or_default();
            host.strip_suffix(suffix).is_some_and(|sub| !sub.is_empty())
                || name
                    .find(suffix)
                    .is_some_and(|at| at > 0 && !name[..at].contains('/') && end(&name[at + suffix.len()..]))
        }
        None => name.strip_prefix(prefix).is_some_and(end),
    }
}

fn judge(host: &mut Host<'_>, conf: &Conf) {
    for (prefix, entry) in conf.entries.iter().filter(|(_, entry)| !entry.blocked) {
        if !host.is_farm(&entry.location) {
            let ways = if entry.mirrors.is_empty() { "is pulled from" } else { "falls back to" };
            host.tell(&entry.path, format!("{prefix} {ways} {}", entry.location));
        }
        for mirror in &entry.mirrors {
            if !host.is_farm(mirror) {
                host.tell(&entry.path, format!("{prefix} has a mirror {mirror}"));
            }
        }
    }
    let mut asked = host.named();
    asked.retain(|name| conf.way(host, name) == Way::Elsewhere && !conf.entries.contains_key(name));
    if !asked.is_empty() {
        let names = asked.join(", ");
        let words = format!(
            "maps or blocks neither {names}: they are asked themselves, even where policy.json refuses the image then"
        );
        host.tell(CONF, words);
    }
    let open = |end: &&&str| conf.way(host, &format!("any.{end}")) == Way::Elsewhere;
    let open: Vec<_> = ENDS.iter().filter(open).map(|end| format!(".{end}")).collect();
    if asked.is_empty() && !open.is_empty() {
        let words = "they are asked themselves, even where policy.json refuses the image then";
        host.tell(CONF, format!("blocks no names that end in {}: {words}", open.join(", ")));
    }
    if let Some((path, search)) = &conf.search {
        for name in search {
            if conf.way(host, name) == Way::Elsewhere {
                host.tell(path, format!("looks for names without a registry at {name}"));
            }
        }
    }
    let mut leads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, to) in conf.aliases.values().filter(|(_, to)| conf.way(host, to) == Way::Elsewhere) {
        leads.entry(path).or_default().insert(to.split('/').next().unwrap_or_default());
    }
    for (path, hosts) in leads {
        let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
        host.tell(path, format!("has short names that lead to {hosts}"));
    }
}

fn policy(host: &mut Host<'_>) {
    if !host.has(POLICY) {
        host.tell(POLICY, "is not there");
        return;
    }
    let Some(text) = host.text(POLICY) else { return };
    let policy: serde_json::Value = match serde_json::from_str(&text) {
        Ok(policy) => policy,
        Err(e) => return host.tell(POLICY, format!("does not read: {e}")),
    };
    let rejects = |rules: &serde_json::Value| {
        rules.as_array().is_some_and(|rules| rules.iter().any(|rule| rule["type"] == "reject"))
    };
    let docker = policy["transports"]["docker"].as_object().cloned().unwrap_or_default();
    // What stands for all of a transport goes before what stands for all transports.
    let default = docker.get("").unwrap_or(&policy["default"]);
    if !rejects(default) {
        host.tell(POLICY, "accepts images of every registry that it does not name");
    }
    for (name, _) in docker.iter().filter(|(name, rules)| !name.is_empty() && !rejects(rules)) {
        let known = |scope: &String| name == scope || name.starts_with(&format!("{scope}/"));
        if !host.is_farm(name) && !host.registry.upstreams.iter().any(known) {
            host.tell(POLICY, format!("accepts images of {name}, which is no upstream of the farm"));
        }
    }
}
