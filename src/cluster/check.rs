//! Whether a host still would pull from somewhere else.

use std::fs;
use std::path::Path;

use super::{Files, Registry, Runtime, files};

/// A way past the farm.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The file, as the host names it.
    pub path: String,
    /// What is wrong with it, and what follows.
    pub words: String,
}

/// Looks at the host's files below `root`, usually `/`. Nothing found means that it pulls from the farm alone, as far as its
/// files say.
pub fn check(runtime: Runtime, registry: &Registry, root: &Path) -> Vec<Finding> {
    let wanted = files(runtime, registry);
    match runtime {
        Runtime::Containerd => containerd(registry, &wanted, root),
        Runtime::K3s | Runtime::Crio | Runtime::Podman | Runtime::Docker => compared(&wanted, root),
    }
}

/// Every file has to be the one that is written here.
fn compared(wanted: &Files, root: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in &wanted.files {
        let words = match fs::read_to_string(root.join(path)) {
            Ok(there) if there == *text => continue,
            Ok(_) => "is not the file that `cluster config` writes: compare them".to_owned(),
            Err(e) => format!("does not read ({e}): the defaults lead to the internet"),
        };
        found.push(Finding { path: format!("/{path}"), words });
    }
    found
}

fn containerd(registry: &Registry, wanted: &Files, root: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |path: String, words: String| found.push(Finding { path, words });
    let config = "etc/containerd/config.toml";
    let text = fs::read_to_string(root.join(config)).unwrap_or_default();
    let reads = text.lines().any(|line| {
        let line = line.trim();
        line.starts_with("config_path") && line.contains("certs.d")
    });
    if !reads {
        tell(format!("/{config}"), "has no config_path, so that no hosts.toml is read".to_owned());
    }
    for path in wanted.files.keys() {
        if !root.join(path).exists() {
            tell(format!("/{path}"), "is not there: that registry is asked itself".to_owned());
        }
    }
    let folder = "etc/containerd/certs.d";
    for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("/{folder}/{name}/hosts.toml");
        let Ok(text) = fs::read_to_string(entry.path().join("hosts.toml")) else { continue };
        let parsed: toml::Table = match toml::from_str(&text) {
            Ok(parsed) => parsed,
            Err(e) => {
                tell(path, format!("does not read: {}", e.message()));
                continue;
            }
        };
        match parsed.get("server").and_then(toml::Value::as_str) {
            Some(server) if server == registry.address() => {}
            Some(server) => tell(path.clone(), format!("falls back to {server}")),
            None => tell(path.clone(), format!("names no server, so that {name} itself is fallen back to")),
        }
        let hosts = parsed.get("host").and_then(toml::Value::as_table);
        for host in hosts.into_iter().flat_map(toml::Table::keys).filter(|host| *host != registry.address()) {
            tell(path.clone(), format!("also asks {host}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry { url: "http://farm:5000".to_owned(), upstreams: vec!["docker.io".to_owned()] }
    }

    fn lay(root: &Path, runtime: Runtime) {
        for (path, text) in files(runtime, &registry()).files {
            fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
            fs::write(root.join(&path), text).unwrap();
        }
    }

    fn words(root: &Path, runtime: Runtime) -> String {
        let found = check(runtime, &registry(), root);
        found.iter().map(|f| format!("{} {}", f.path, f.words)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_host_with_our_files_has_no_way_past_the_farm() {
        let root = tempfile::tempdir().unwrap();
        for runtime in [Runtime::K3s, Runtime::Crio, Runtime::Podman, Runtime::Docker, Runtime::Containerd] {
            assert!(!words(root.path(), runtime).is_empty(), "{runtime:?}: nothing is there yet");
            lay(root.path(), runtime);
        }
        let config =
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";
        fs::write(root.path().join("etc/containerd/config.toml"), config).unwrap();
        for runtime in [Runtime::K3s, Runtime::Crio, Runtime::Podman, Runtime::Docker, Runtime::Containerd] {
            assert_eq!(words(root.path(), runtime), "", "{runtime:?}");
        }
    }

    #[test]
    fn every_way_past_the_farm_is_told() {
        let root = tempfile::tempdir().unwrap();
        lay(root.path(), Runtime::Containerd);
        let file = |name: &str, text: &str| {
            let folder = root.path().join("etc/containerd/certs.d").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("hosts.toml"), text).unwrap();
        };
        file("one.example", "[host.\"https://one.example\"]\n");
        file("two.example", "server = \"https://two.example\"\n[host.\"http://farm:5000\"]\n");
        file("three.example", "server = [\n");
        let said = words(root.path(), Runtime::Containerd);
        for part in [
            "config.toml has no config_path",
            "one.example/hosts.toml names no server, so that one.example itself",
            "one.example/hosts.toml also asks https://one.example",
            "two.example/hosts.toml falls back to https://two.example",
            "three.example/hosts.toml does not read",
        ] {
            assert!(said.contains(part), "{part} not in:\n{said}");
        }
    }
}
