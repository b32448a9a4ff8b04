//! containerd's configuration: a file, its imports, and the section that results when several files have one.
//!
//! Facts are of containerd 1.6 to 2.2. The versions differ in what an import does to a plugin's section: in 1.x and 2.0
//! it replaces the earlier section; later versions merge the two. They also differ in the plugin that pulls:
//! `io.containerd.grpc.v1.cri` in 1.x, `io.containerd.cri.v1.images` in 2.x. In files of version 2 and below, 2.x moves
//! the registry of the first to the second; in files of version 3 and above, it ignores the first. These files do not
//! say which version a host has, so every reading is judged.

use toml::{Table, Value};

use crate::host::Host;

/// The plugin that pulls in containerd 1.x.
const GRPC: &str = "io.containerd.grpc.v1.cri";
/// The plugin that pulls in containerd 2.x.
const IMAGES: &str = "io.containerd.cri.v1.images";
/// The most files of one configuration. More of them are a mistake.
const FILES: usize = 200;

/// One file of the configuration.
pub(super) struct Loaded {
    pub(super) path: String,
    version: i64,
    table: Table,
}

/// The CRI plugin's registries, as some versions of containerd read them.
pub(super) struct Reading {
    /// The names of these versions.
    pub(super) by: &'static str,
    /// The plugin's table `registry`.
    pub(super) registry: Table,
    /// The last file that sets `config_path`, if any does.
    pub(super) path: Option<String>,
}

/// Loads a configuration's files in containerd's order: a file, then its imports. A later file overrides an earlier
/// one.
pub(super) fn load(host: &mut Host<'_>, start: &str) -> Vec<Loaded> {
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut waiting = std::collections::VecDeque::from([start.to_owned()]);
    while let Some(path) = waiting.pop_front() {
        if loaded.iter().any(|file| file.path == path) {
            continue;
        }
        if loaded.len() >= FILES {
            host.wonder(start, format!("imports more than {FILES} files, which are not all read here"));
            break;
        }
        let Some(table) = host.toml(&path, ", so containerd does not start with it") else { continue };
        let version = table.get("version").and_then(Value::as_integer).unwrap_or(0);
        if let Some(first) = loaded.first().filter(|first| version > first.version) {
            let words = format!(
                "has version {version} and is imported by a file of version {}: containerd does not start with that",
                first.version
            );
            host.wonder(&path, words);
        }
        for pattern in strings(table.get("imports")) {
            waiting.extend(resolve(host, &path, &pattern));
        }
        loaded.push(Loaded { path, version, table });
    }
    loaded
}

/// The files that match one entry of `imports`.
fn resolve(host: &mut Host<'_>, parent: &str, pattern: &str) -> Vec<String> {
    let folder = parent.rsplit_once('/').map_or("", |(folder, _)| folder);
    let absolute = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{folder}/{pattern}") };
    let path = clean(&absolute);
    if pattern.contains('*') {
        return host.matching(&path);
    }
    if !host.has(&path) {
        host.wonder(
            parent,
            format!("imports /{path}, which is not there: containerd does not start with it"),
        );
        return Vec::new();
    }
    vec![path]
}

/// A path without `.`, `..` and double slashes, and without a slash at its start.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether a file disables the CRI plugin.
pub(super) fn disabled(loaded: &[Loaded]) -> Option<&str> {
    let names = ["cri", GRPC, IMAGES];
    let disables = |file: &&Loaded| {
        strings(file.table.get("disabled_plugins")).iter().any(|name| names.contains(&name.as_str()))
    };
    loaded.iter().find(disables).map(|file| file.path.as_str())
}

/// Every way in which versions of containerd read these files.
pub(super) fn readings(loaded: &[Loaded]) -> Vec<Reading> {
    let Some(first) = loaded.first() else { return Vec::new() };
    let mut readings = Vec::new();
    if first.version <= 2 {
        readings.push(reading("containerd 1.x", loaded, one, true));
    }
    readings.push(reading("containerd 2.0", loaded, two, true));
    readings.push(reading("containerd 2.1 and later", loaded, two, false));
    readings
}

fn reading(
    by: &'static str,
    loaded: &[Loaded],
    plugin: fn(&Loaded) -> Option<Table>,
    replace: bool,
) -> Reading {
    let (mut section, mut path) = (Table::new(), None);
    for file in loaded {
        let Some(newer) = plugin(file) else { continue };
        if has_path(&newer) {
            path = Some(file.path.clone());
        }
        if replace {
            section = newer;
        } else {
            merge(&mut section, newer);
        }
    }
    let registry = section.get("registry").and_then(Value::as_table).cloned().unwrap_or_default();
    let path = path.filter(|_| registry.get("config_path").is_some());
    Reading { by, registry, path }
}

fn has_path(plugin: &Table) -> bool {
    let named = plugin.get("registry").and_then(|registry| registry.get("config_path"));
    named.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

/// The plugin of containerd 1.x. Files of version 1, which need not state their version, call it `cri`.
fn one(file: &Loaded) -> Option<Table> {
    let plugins = file.table.get("plugins")?.as_table()?;
    let short = plugins.get("cri").filter(|_| file.version < 2);
    plugins.get(GRPC).or(short)?.as_table().cloned()
}

/// The plugin of containerd 2.x, with what a file of an older version says about the older plugin.
fn two(file: &Loaded) -> Option<Table> {
    let plugins = file.table.get("plugins")?.as_table()?;
    let images = plugins.get(IMAGES).and_then(Value::as_table).cloned();
    let older = if file.version < 3 { one(file) } else { None };
    let Some(older) = older else { return images };
    // Even an older section that has no registries becomes a section of the newer plugin, and replaces an earlier one.
    let mut section = images.unwrap_or_default();
    if let Some(registry) = older.get("registry") {
        merge(&mut section, Table::from_iter([("registry".to_owned(), registry.clone())]));
    }
    Some(section)
}

fn merge(into: &mut Table, from: Table) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Table(there)), Value::Table(more)) => merge(there, more),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

/// The image of a pod's first container, as the last file that names it has it.
pub(super) fn sandbox(loaded: &[Loaded]) -> Option<String> {
    loaded.iter().rev().find_map(|file| {
        let plugins = file.table.get("plugins")?;
        let older = || plugins.get(GRPC).or_else(|| plugins.get("cri"))?.get("sandbox_image");
        let newer = || plugins.get(IMAGES)?.get("pinned_images")?.get("sandbox");
        older().or_else(newer)?.as_str().map(str::to_owned)
    })
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
