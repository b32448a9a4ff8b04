//! containerd: config.toml, what it imports, and a folder of hosts.toml files.

use super::Host;

const CONFIG: &str = "etc/containerd/config.toml";
/// Where the CRI plugin's registries are in a configuration of version 2, and since version 3.
const PLUGINS: [&[&str]; 2] =
    [&["io.containerd.grpc.v1.cri", "registry"], &["io.containerd.cri.v1.images", "registry"]];

pub(super) fn check(host: &mut Host<'_>) {
    let mut folders = Vec::new();
    let mut waiting = vec![CONFIG.to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        // An import may import, but nobody in a circle.
        if seen.contains(&path) || seen.len() > 100 {
            continue;
        }
        seen.push(path.clone());
        let Some(config) = host.toml(&path) else { continue };
        let imports = config.get("imports").and_then(toml::Value::as_array).into_iter().flatten();
        let imports: Vec<_> = imports.filter_map(toml::Value::as_str).map(str::to_owned).collect();
        waiting.extend(imports.iter().flat_map(|pattern| host.matching(pattern)));
        folders.extend(registries(host, &path, &config));
    }
    if folders.is_empty() {
        let all = Host::and_others(&host.named());
        let state = if host.has(CONFIG) { "has no config_path for the CRI plugin" } else { "is not there" };
        host.tell(CONFIG, format!("{state}, so that no hosts.toml is read: {all} are asked themselves"));
        // What would be read is still worth a look.
        folders.push("etc/containerd/certs.d".to_owned());
    }
    for folder in folders {
        hosts(host, &folder);
    }
}

/// The folders of hosts.toml files that a configuration names; several are divided by colons.
fn registries(host: &mut Host<'_>, path: &str, config: &toml::Table) -> Vec<String> {
    let mut folders = Vec::new();
    for names in PLUGINS {
        let mut registry = config.get("plugins");
        for name in names {
            registry = registry.and_then(|table| table.get(name));
        }
        let Some(registry) = registry else { continue };
        let named = registry.get("config_path").and_then(toml::Value::as_str).unwrap_or_default();
        let named = named.split(':').map(|folder| folder.trim_matches('/'));
        folders.extend(named.filter(|folder| !folder.is_empty()).map(str::to_owned));
        let mirrors = registry.get("mirrors").and_then(toml::Value::as_table);
        for (name, mirror) in mirrors.into_iter().flatten() {
            let endpoints = mirror.get("endpoint").and_then(toml::Value::as_array).into_iter().flatten();
            for endpoint in endpoints.filter_map(toml::Value::as_str) {
                if !host.is_farm(endpoint) {
                    host.tell(path, format!("has a mirror {endpoint} of {name}"));
                }
            }
        }
    }
    folders
}

/// A folder of a hosts.toml for each registry, and one for all others, `_default`.
pub(super) fn hosts(host: &mut Host<'_>, folder: &str) {
    if !host.has(&format!("{folder}/_default/hosts.toml")) {
        let mut names = host.named();
        names.retain(|name| !host.has(&format!("{folder}/{name}/hosts.toml")));
        let names = Host::and_others(&names);
        let words = format!("is not there: {names} without a folder of their own are asked themselves");
        host.tell(&format!("{folder}/_default/hosts.toml"), words);
    }
    for path in host.list(folder) {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let file = format!("{path}/hosts.toml");
        if !host.has(&file) {
            host.tell(&file, format!("is not there, though its folder is: {name} itself is asked"));
            continue;
        }
        let Some(parsed) = host.toml(&file) else { continue };
        match parsed.get("server").and_then(toml::Value::as_str) {
            Some(server) if host.is_farm(server) => {}
            Some(server) => host.tell(&file, format!("falls back to {server}")),
            None if name == "_default" => {
                host.tell(&file, "names no server, so that every registry itself is fallen back to");
            }
            None if host.is_farm(&name) => {}
            None => host.tell(&file, format!("names no server, so that {name} itself is fallen back to")),
        }
        let table = parsed.get("host").and_then(toml::Value::as_table);
        for other in table.into_iter().flat_map(toml::Table::keys) {
            if !host.is_farm(other) {
                host.tell(&file, format!("also asks {other}"));
            }
        }
    }
}
