//! containerd: a hosts.toml for every registry that has a folder, for each upstream, and for all others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Files, HEAD};
use crate::check::{CONTAINERD_FOLDER, containerd_folders};
use crate::host::Host;
use crate::{Registry, Runtime};

pub(super) fn files(host: &mut Host<'_>) -> Files {
    let mut files = BTreeMap::new();
    let folders = containerd_folders(host);
    for (at, folder) in folders.iter().enumerate() {
        // A folder that somebody else made would be a way past the farm.
        let mut names: BTreeSet<String> = host.names(folder).into_iter().collect();
        names.retain(|name| host.is_folder(&format!("{folder}/{name}")));
        if at == 0 {
            // `_default` is for every registry without a folder of its own, so that none is asked directly.
            let registry = host.registry;
            let ours = registry.upstreams.iter().map(String::as_str).chain(["_default", registry.host()]);
            names.extend(ours.map(str::to_owned));
        }
        for name in names {
            files.insert(format!("{folder}/{name}/hosts.toml"), hosts_toml(host.registry));
        }
    }
    let folder = folders.first().map_or("", String::as_str);
    let note = format!(
        "containerd reads these only with `config_path = \"/{folder}\"` in its config.toml, and without a restart"
    );
    Files { files, notes: vec![note] }
}

/// The files that a plan may write, except certificates.
pub(super) fn written(host: &mut Host<'_>) -> Vec<String> {
    let mut folders = containerd_folders(host);
    folders.push(CONTAINERD_FOLDER.to_owned());
    let mut paths = Vec::new();
    for folder in folders {
        paths.extend(host.list(&folder).into_iter().map(|registry| format!("{registry}/hosts.toml")));
    }
    paths
}

/// Writes a hosts.toml. `server` is whom containerd asks when no host below answers: the farm again, so that it asks
/// nobody else.
fn hosts_toml(registry: &Registry) -> String {
    let url = registry.address();
    // The settings of `server` stand at the top of the file.
    let ca = match registry.authority {
        Some(_) => format!("ca = \"/{}\"\n", registry.authority_path(Runtime::Containerd)),
        None => String::new(),
    };
    let indented = if ca.is_empty() { String::new() } else { format!("  {ca}") };
    format!(
        "{HEAD}server = \"{url}\"\n{ca}\n[host.\"{url}\"]\n  \
         capabilities = [\"pull\", \"resolve\"]\n{indented}"
    )
}
