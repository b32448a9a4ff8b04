//! Folders of hosts.toml files: which of them containerd reads for a registry, and which servers it then asks.

use std::collections::BTreeSet;

use toml::Value;

use crate::host::{Host, and_others};

const DEFAULT: &str = "_default";

/// Judges folders, in the order in which containerd looks through them. For each registry the first folder decides that
/// has an entry with its name, or `_default`.
pub(super) fn check(host: &mut Host<'_>, folders: &[String]) {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for folder in folders {
        let entries = host.names(folder);
        names.extend(entries.into_iter().filter(|name| host.is_folder(&format!("{folder}/{name}"))));
    }
    let registries: BTreeSet<String> =
        names.iter().filter(|name| *name != DEFAULT).map(|name| registry(name)).collect();
    let mut read = BTreeSet::new();
    for name in registries {
        if let Some(folder) = find(host, folders, &name) {
            read.insert((folder, Some(name)));
        }
    }
    if let Some(folder) = folders.iter().find(|folder| host.is_folder(&format!("{folder}/{DEFAULT}"))) {
        read.insert((format!("{folder}/{DEFAULT}"), None));
    } else {
        let mut open = host.named();
        open.retain(|name| find(host, folders, name).is_none());
        let path = format!("{}/{DEFAULT}/hosts.toml", folders.first().map_or("", String::as_str));
        let all = and_others(&open);
        host.tell(&path, format!("is not there: {all} without a folder of their own are asked directly"));
    }
    for (folder, name) in read {
        // The folder for all others is judged once, not for each registry that has a folder further on.
        if name.is_some() && folder.ends_with(&format!("/{DEFAULT}")) {
            continue;
        }
        one(host, &folder, name.as_deref());
    }
}

/// The folder that decides about a registry.
fn find(host: &Host<'_>, folders: &[String], name: &str) -> Option<String> {
    let with_port = name.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    folders.iter().find_map(|folder| {
        let names = with_port.iter().map(String::as_str).chain([name, DEFAULT]);
        names.map(|name| format!("{folder}/{name}")).find(|path| host.is_folder(path))
    })
}

/// The registry that a folder's name stands for: `farm_5000_` is `farm:5000`.
fn registry(folder: &str) -> String {
    let port = folder.strip_suffix('_').and_then(|rest| rest.rsplit_once('_'));
    match port {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{host}:{port}")
        }
        _ => folder.to_owned(),
    }
}

/// Judges one folder. `name` is its registry, or `None` for all registries without a folder of their own.
fn one(host: &mut Host<'_>, folder: &str, name: Option<&str>) {
    let file = format!("{folder}/hosts.toml");
    let itself = name.map_or_else(|| "every registry itself".to_owned(), |name| format!("{name} itself"));
    let fine = name.is_some_and(|name| host.registry.is_here(name));
    if !host.has(&file) {
        if !fine {
            host.tell(&file, format!("is not there, though its folder is: {itself} is asked"));
        }
        return;
    }
    // containerd goes on without a file that it cannot read.
    let follows = format!(", so {itself} is asked");
    let Some(parsed) = host.toml(&file, &follows) else { return };
    match parsed.get("server") {
        Some(Value::String(server)) if host.registry.is_here(server) => {}
        Some(Value::String(server)) if !server.is_empty() => {
            host.tell(&file, format!("falls back to {server}"));
        }
        Some(other) if !other.is_str() => {
            host.tell(&file, format!("has a server that is not a text{follows}"));
        }
        _ if fine => {}
        _ => host.tell(&file, format!("names no server, so containerd falls back to {itself}")),
    }
    let table = parsed.get("host").and_then(Value::as_table);
    for other in table.into_iter().flat_map(toml::Table::keys) {
        if !host.registry.is_here(other) {
            host.tell(&file, format!("also asks {other}"));
        }
    }
}
