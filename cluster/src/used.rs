//! Which registries a host uses today, as far as its files show: settings, manifests, and names of images that it has.
//!
//! This is for a warning, not a judgement: a registry that is found is certainly named somewhere, but one that is not
//! found may still be used.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use crate::Runtime;
use crate::check::{Conf, Flags, containerd_folders, containerd_sandbox};
use crate::host::{Host, UNNAMED};
use crate::yaml::{self, Yaml};

/// The most bytes of containerd's database that are searched.
const DATABASE: u64 = 64 << 20;
/// The most manifests that are read.
const MANIFESTS: usize = 200;

/// A registry that a host uses today.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Use {
    /// `docker.io`
    pub registry: String,
    /// The file that shows it, as the host names it, and the place in the file.
    pub seen: String,
}

/// The sections of hab.toml that would make these registries upstreams.
pub fn upstream_tables<'a>(registries: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for name in registries {
        // Docker Hub's address differs from the name in its images' names.
        let host = if name == UNNAMED { "registry-1.docker.io" } else { name };
        text.push_str(&format!("[registry.upstream.{name:?}]\nurl = \"https://{host}\"\n\n"));
    }
    text.trim_end().to_owned()
}

/// Each registry, and where it was seen first.
struct SeenRegistries(BTreeMap<String, String>);

impl SeenRegistries {
    fn registry(&mut self, name: &str, seen: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:_".contains(&b);
        if !name.is_empty() && name.bytes().all(plain) && !name.starts_with(['.', '_', '-']) {
            self.0.entry(name.to_owned()).or_insert_with(|| seen.to_owned());
        }
    }

    fn image(&mut self, image: &str, path: &str) {
        self.registry(&registry_of(image), &format!("/{path}: image {image}"));
    }
}

/// The registry of an image's name.
fn registry_of(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first.to_owned(),
        _ => UNNAMED.to_owned(),
    }
}

/// The registries that a host uses, except the farm.
pub(crate) fn registries(host: &mut Host<'_>, runtime: Runtime) -> Vec<Use> {
    let mut seen = SeenRegistries(BTreeMap::new());
    match runtime {
        Runtime::Containerd => containerd(host, &mut seen),
        Runtime::K3s | Runtime::Rke2 => k3s(host, runtime, &mut seen),
        Runtime::Podman | Runtime::Crio => containers(host, runtime, &mut seen),
        Runtime::Docker => docker(host, &mut seen),
    }
    let other = |name: &String| {
        !host.registry.is_here(name) && name != "localhost" && !name.starts_with("localhost:")
    };
    seen.0
        .into_iter()
        .filter(|(name, _)| other(name))
        .map(|(registry, seen)| Use { registry, seen })
        .collect()
}

fn containerd(host: &mut Host<'_>, seen: &mut SeenRegistries) {
    for folder in containerd_folders(host) {
        for name in host.names(&folder) {
            if host.is_folder(&format!("{folder}/{name}")) && name != "_default" {
                seen.registry(&name, &format!("/{folder}/{name}: a folder of its own"));
            }
        }
    }
    if kubelet(host) {
        let sandbox = containerd_sandbox(host).unwrap_or_else(|| "registry.k8s.io/pause".to_owned());
        seen.image(&sandbox, "etc/containerd/config.toml");
    }
    manifests(host, "etc/kubernetes/manifests", seen);
    database(host, "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", seen);
}

fn kubelet(host: &mut Host<'_>) -> bool {
    host.has("var/lib/kubelet") || host.has("etc/kubernetes")
}

fn k3s(host: &mut Host<'_>, runtime: Runtime, seen: &mut SeenRegistries) {
    let flags = Flags::read(host, runtime);
    let path = flags.registries(host);
    let read = host.text(&path).and_then(|text| yaml::parse(&text).ok()).unwrap_or(Yaml::Null);
    let mirrors = read.get("mirrors").and_then(Yaml::entries).unwrap_or_default();
    let configs = read.get("configs").and_then(Yaml::entries).unwrap_or_default();
    // Images come from registries that have mirrors. A registry with settings only is one to push to, or a mirror.
    let endpoints: BTreeSet<String> = mirrors
        .iter()
        .flat_map(|(_, mirror)| mirror.get("endpoint").and_then(Yaml::elements).unwrap_or_default())
        .filter_map(|endpoint| {
            endpoint.text().map(|text| text.rsplit("://").next().unwrap_or(text).to_owned())
        })
        .collect();
    for (name, _) in mirrors.iter().chain(configs.iter().filter(|(name, _)| !endpoints.contains(name))) {
        seen.registry(name, &format!("/{path}: {name}"));
    }
    let program = flags.program();
    let installed = [
        format!("etc/systemd/system/{program}.service"),
        format!("var/lib/rancher/{program}"),
        format!("usr/local/bin/{program}"),
    ];
    if installed.iter().any(|path| host.has(path)) {
        // The program's own images, among them that of every pod's first container.
        match (flags.last(&["pause-image"]), flags.last(&["system-default-registry"])) {
            (Some((image, path)), _) => seen.image(image, path),
            (None, Some((name, path))) => seen.registry(name, &format!("/{path}: system-default-registry")),
            (None, None) => {
                seen.registry(UNNAMED, &format!("{program}'s own images, such as rancher/mirrored-pause"));
            }
        }
    }
    let data = flags.data();
    manifests(host, &format!("{data}/server/manifests"), seen);
    manifests(host, &format!("{data}/agent/pod-manifests"), seen);
    database(host, &format!("{data}/agent/containerd/io.containerd.metadata.v1.bolt/meta.db"), seen);
}

fn containers(host: &mut Host<'_>, runtime: Runtime, seen: &mut SeenRegistries) {
    let conf = Conf::of_host(host);
    let open = conf.entries.iter().filter(|(_, entry)| !entry.blocked);
    for (prefix, entry) in open {
        seen.registry(prefix.split('/').next().unwrap_or(prefix), &format!("/{}: {prefix}", entry.path));
    }
    if let Some((path, names)) = &conf.search {
        for name in names {
            seen.registry(name, &format!("/{path}: where names without a registry are looked for"));
        }
    }
    let mut stores = vec!["var/lib/containers/storage".to_owned()];
    if runtime == Runtime::Podman {
        stores.extend(host.homes().into_iter().map(|home| format!("{home}/.local/share/containers/storage")));
    }
    for store in stores {
        let path = format!("{store}/overlay-images/images.json");
        let images = host.text(&path).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        for image in images.iter().filter_map(serde_json::Value::as_array).flatten() {
            for name in image["names"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str)
            {
                seen.image(name, &path);
            }
        }
    }
    if runtime == Runtime::Crio && (kubelet(host) || host.has("etc/crio")) {
        seen.image("registry.k8s.io/pause", "etc/crio/crio.conf");
    }
    if runtime == Runtime::Crio {
        manifests(host, "etc/kubernetes/manifests", seen);
    }
}

fn docker(host: &mut Host<'_>, seen: &mut SeenRegistries) {
    let path = "var/lib/docker/image/overlay2/repositories.json";
    let read = host.text(path).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let repositories = read.as_ref().and_then(|read| read["Repositories"].as_object());
    for name in repositories.into_iter().flat_map(serde_json::Map::keys) {
        seen.image(name, path);
    }
}

/// Finds images in Kubernetes manifests, line by line, because charts and templates are not plain YAML.
fn manifests(host: &mut Host<'_>, folder: &str, seen: &mut SeenRegistries) {
    let files = host.list(folder);
    let is_manifest = |path: &&String| [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end));
    for path in files.iter().filter(is_manifest).take(MANIFESTS) {
        for line in host.text(path).unwrap_or_default().lines() {
            let line = line.trim().trim_start_matches("- ").trim_end_matches(',');
            let value = ["image:", "\"image\":"].iter().find_map(|key| line.strip_prefix(key));
            let image = value.unwrap_or_default().trim().trim_matches(['"', '\'']);
            if !image.is_empty() && !image.contains(['{', '%', '$']) {
                seen.image(image, path);
            }
        }
    }
}

/// Finds images in containerd's database: any text that is a name with a registry and a tag or digest.
fn database(host: &mut Host<'_>, path: &str, seen: &mut SeenRegistries) {
    let Ok(file) = host.open(path) else { return };
    let mut bytes = Vec::new();
    // An unreadable database shows nothing.
    if file.take(DATABASE).read_to_end(&mut bytes).is_err() {
        return;
    }
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(b);
    for run in bytes.split(|b| !word(b)).filter(|run| (6..512).contains(&run.len())) {
        let Ok(text) = std::str::from_utf8(run) else { continue };
        if is_image(text) {
            seen.image(text, path);
        }
    }
}

fn is_image(text: &str) -> bool {
    let Some((registry, rest)) = text.split_once('/') else { return false };
    let plain = registry.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:".contains(&b));
    let end = registry.split(':').next().unwrap_or_default().rsplit_once('.').map_or("", |(_, end)| end);
    let named = rest.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    plain
        && named
        && end.len() >= 2
        && end.bytes().all(|b| b.is_ascii_lowercase())
        && !rest.starts_with(['/', ':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_registry_is_docker_hubs() {
        for (image, registry) in [
            ("alpine", "docker.io"),
            ("library/alpine:3", "docker.io"),
            ("quay.io/a/b:1", "quay.io"),
            ("farm:5000/a", "farm:5000"),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }

    #[test]
    fn names_of_images_are_told_from_other_words_of_a_database() {
        assert!(is_image("docker.io/library/alpine:3.20") && is_image("registry.k8s.io/pause@sha256:00"));
        for other in [
            "application/vnd.oci.image.layer.v1.tar",
            "docker.io/library/alpine",
            "a/b:c",
            "2.0/x:y",
            "moby/x",
        ] {
            assert!(!is_image(other), "{other}");
        }
    }

    #[test]
    fn the_sections_that_are_offered_are_configuration() {
        let text = upstream_tables(["docker.io", "quay.io"]);
        let read: toml::Table = toml::from_str(&text).unwrap();
        let upstream = &read["registry"]["upstream"];
        assert_eq!(upstream["docker.io"]["url"].as_str(), Some("https://registry-1.docker.io"));
        assert_eq!(upstream["quay.io"]["url"].as_str(), Some("https://quay.io"));
    }
}
