//! What a host must be told so that it pulls from this registry and from nowhere else. Pure: files as text.

mod check;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use check::check;

/// What pulls images on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Runtime {
    /// K3s: registries.yaml
    K3s,
    /// containerd: hosts.toml below certs.d
    Containerd,
    /// CRI-O: registries.conf
    Crio,
    /// podman: registries.conf and policy.json
    Podman,
    /// Docker: daemon.json
    Docker,
}

/// Where the registry is, and whose images it has.
#[derive(Clone, Debug)]
pub struct Registry {
    /// `http://farm:5000` or `https://farm`.
    pub url: String,
    /// The names of the upstreams that are pulled through it.
    pub upstreams: Vec<String>,
    /// Who vouches for its certificate, in PEM; without, one whom the host believes already.
    pub authority: Option<String>,
}

/// Files by their paths on the host, and what a person has to know beside them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Files {
    /// Path without a leading slash, and content.
    pub files: BTreeMap<String, String>,
    /// Sentences.
    pub notes: Vec<String>,
}

impl Registry {
    /// `farm:5000`
    fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host).trim_end_matches('/')
    }

    fn insecure(&self) -> bool {
        self.url.starts_with("http://")
    }

    fn address(&self) -> &str {
        self.url.trim_end_matches('/')
    }
}

/// What a host with this runtime needs.
pub fn files(runtime: Runtime, registry: &Registry) -> Files {
    let mut files = BTreeMap::new();
    let mut notes = Vec::new();
    if let Some(authority) = &registry.authority {
        files.insert(authority_path(runtime, registry), authority.clone());
    }
    match runtime {
        Runtime::Containerd => {
            // `_default` stands for every registry that has no folder of its own: nothing falls back to the internet.
            for name in registry.upstreams.iter().map(String::as_str).chain(["_default", registry.host()]) {
                files.insert(format!("etc/containerd/certs.d/{name}/hosts.toml"), hosts_toml(registry));
            }
            notes.push(
                "containerd reads these only with `config_path = \"/etc/containerd/certs.d\"` in its config.toml, and \
                 without a restart"
                    .to_owned(),
            );
        }
        Runtime::K3s => {
            files.insert("etc/rancher/k3s/registries.yaml".to_owned(), registries_yaml(registry));
            // A flag of its own, because every mirror's list would else end with the registry itself.
            files.insert(
                "etc/rancher/k3s/config.yaml.d/hab-build.yaml".to_owned(),
                "disable-default-registry-endpoint: true\n".to_owned(),
            );
            notes.push(
                "k3s reads these when it starts; config.yaml.d needs v1.21, the flag v1.28 or newer"
                    .to_owned(),
            );
        }
        Runtime::Crio | Runtime::Podman => {
            let name = if runtime == Runtime::Crio {
                // The last one of several that speak of a registry is believed.
                "etc/containers/registries.conf.d/zz-hab-build.conf"
            } else {
                "etc/containers/registries.conf"
            };
            files.insert(name.to_owned(), registries_conf(registry));
            files.insert("etc/containers/policy.json".to_owned(), policy_json(registry));
            notes.push(
                "registries that are not named here are blocked by the ends of their names; policy.json refuses those that end \
                 otherwise only after they were asked: block the way out, too"
                    .to_owned(),
            );
        }
        Runtime::Docker => {
            let insecure = if registry.insecure() { format!("{:?}", registry.host()) } else { String::new() };
            files.insert(
                "etc/docker/daemon.json".to_owned(),
                format!("{{\n  \"insecure-registries\": [{insecure}],\n  \"registry-mirrors\": []\n}}\n"),
            );
            notes.push(format!(
                "Docker cannot be kept from asking Docker Hub, which its mirrors fall back to: name images in full, such as \
                 {}/docker.io/library/alpine, and block the way out",
                registry.host()
            ));
        }
    }
    Files { files, notes }
}

/// Where a runtime looks for who vouches for a registry, or is told to look.
fn authority_path(runtime: Runtime, registry: &Registry) -> String {
    let host = registry.host();
    match runtime {
        Runtime::Containerd => format!("etc/containerd/certs.d/{host}/ca.crt"),
        Runtime::K3s => "etc/rancher/k3s/hab-build-ca.crt".to_owned(),
        Runtime::Crio | Runtime::Podman => format!("etc/containers/certs.d/{host}/ca.crt"),
        Runtime::Docker => format!("etc/docker/certs.d/{host}/ca.crt"),
    }
}

/// `server` is what containerd asks when no host below answers: ourselves again, so it is nobody else.
fn hosts_toml(registry: &Registry) -> String {
    let url = registry.address();
    // `server` has settings of its own, which stand at the top.
    let ca = match registry.authority {
        Some(_) => format!("ca = \"/{}\"\n", authority_path(Runtime::Containerd, registry)),
        None => String::new(),
    };
    let indented = if ca.is_empty() { String::new() } else { format!("  {ca}") };
    format!(
        "# Everything is pulled from the farm, and from nowhere else.\nserver = \"{url}\"\n{ca}\n[host.\"{url}\"]\n  \
         capabilities = [\"pull\", \"resolve\"]\n{indented}"
    )
}

fn registries_yaml(registry: &Registry) -> String {
    let mut text = String::from("# Everything is pulled from the farm, and from nowhere else.\nmirrors:\n");
    for name in registry.upstreams.iter().map(String::as_str).chain(["*", registry.host()]) {
        let _ = write!(text, "  \"{name}\":\n    endpoint:\n      - \"{}\"\n", registry.address());
    }
    if registry.authority.is_some() {
        let path = authority_path(Runtime::K3s, registry);
        let _ = write!(text, "configs:\n  \"{}\":\n    tls:\n      ca_file: /{path}\n", registry.host());
    }
    text
}

/// The ends of public registries' names. A prefix cannot stand for every name, and policy.json refuses an image only after its
/// registry was asked for the manifest.
const ENDS: [&str; 24] = [
    "ai", "app", "aws", "ch", "cloud", "cn", "co", "com", "de", "dev", "edu", "eu", "fr", "info", "io", "jp",
    "me", "net", "org", "ru", "run", "sh", "uk", "us",
];

/// A prefix whose location is ourselves has no other place to be pulled from. The longest prefix decides.
fn registries_conf(registry: &Registry) -> String {
    let mut text = String::from(
        "# Everything is pulled from the farm, and from nowhere else.\nunqualified-search-registries = []\nshort-name-mode = \
         \"enforcing\"\n",
    );
    let host = registry.host();
    for name in &registry.upstreams {
        let _ = write!(
            text,
            "\n[[registry]]\nprefix = \"{name}\"\nlocation = \"{host}/{name}\"\ninsecure = {}\n",
            registry.insecure()
        );
    }
    let _ = write!(text, "\n[[registry]]\nlocation = \"{host}\"\ninsecure = {}\n", registry.insecure());
    for end in ENDS {
        let _ = write!(text, "\n[[registry]]\nprefix = \"*.{end}\"\nblocked = true\n");
    }
    text
}

fn policy_json(registry: &Registry) -> String {
    let allowed: serde_json::Map<String, serde_json::Value> = registry
        .upstreams
        .iter()
        .map(String::as_str)
        .chain([registry.host()])
        .map(|name| (name.to_owned(), serde_json::json!([{ "type": "insecureAcceptAnything" }])))
        .collect();
    let anything = serde_json::json!({ "": [{ "type": "insecureAcceptAnything" }] });
    let policy = serde_json::json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": allowed, "containers-storage": anything, "docker-daemon": anything,
                        "oci": anything, "oci-archive": anything, "docker-archive": anything, "dir": anything },
    });
    format!("{policy:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let upstreams = vec!["docker.io".to_owned()];
        Registry { url: "http://farm:5000".to_owned(), upstreams, authority: None }
    }

    #[test]
    fn a_host_is_told_who_vouches_for_the_farm() {
        let secure = Registry {
            url: "https://farm:5000/".to_owned(),
            authority: Some("PEM".to_owned()),
            ..registry()
        };
        for runtime in [Runtime::K3s, Runtime::Crio, Runtime::Podman, Runtime::Docker, Runtime::Containerd] {
            let files = files(runtime, &secure).files;
            assert_eq!(files[&authority_path(runtime, &secure)], "PEM", "{runtime:?}");
            assert!(!files.values().any(|text| text.contains("http://")), "{runtime:?}");
        }
        let containerd = files(Runtime::Containerd, &secure).files;
        let hosts: toml::Value =
            toml::from_str(&containerd["etc/containerd/certs.d/docker.io/hosts.toml"]).unwrap();
        let path = "/etc/containerd/certs.d/farm:5000/ca.crt";
        assert_eq!(hosts["ca"].as_str(), Some(path));
        assert_eq!(hosts["host"]["https://farm:5000"]["ca"].as_str(), Some(path));
        let k3s = &files(Runtime::K3s, &secure).files["etc/rancher/k3s/registries.yaml"];
        assert!(k3s.contains(
            "configs:\n  \"farm:5000\":\n    tls:\n      ca_file: /etc/rancher/k3s/hab-build-ca.crt\n"
        ));
        let podman = &files(Runtime::Podman, &secure).files["etc/containers/registries.conf"];
        assert!(podman.contains("insecure = false") && !podman.contains("insecure = true"));
    }

    #[test]
    fn containerd_asks_nobody_else_for_any_registry() {
        let files = files(Runtime::Containerd, &registry()).files;
        let names: Vec<_> = files.keys().map(|k| k.rsplit('/').nth(1).unwrap()).collect();
        assert_eq!(names, ["_default", "docker.io", "farm:5000"]);
        for text in files.values() {
            let parsed: toml::Value = toml::from_str(text).unwrap();
            assert_eq!(parsed["server"].as_str(), Some("http://farm:5000"));
            assert_eq!(parsed["host"].as_table().unwrap().keys().collect::<Vec<_>>(), ["http://farm:5000"]);
        }
    }

    #[test]
    fn podman_is_pointed_at_the_farm_and_refuses_the_rest() {
        let files = files(Runtime::Podman, &registry()).files;
        let conf: toml::Value = toml::from_str(&files["etc/containers/registries.conf"]).unwrap();
        assert_eq!(conf["registry"][0]["location"].as_str(), Some("farm:5000/docker.io"));
        assert_eq!(conf["registry"][1]["insecure"].as_bool(), Some(true));
        let policy: serde_json::Value = serde_json::from_str(&files["etc/containers/policy.json"]).unwrap();
        assert_eq!(policy["default"][0]["type"], "reject");
        assert!(policy["transports"]["docker"]["docker.io"].is_array());
    }

    #[test]
    fn what_docker_cannot_do_is_said() {
        let docker = files(Runtime::Docker, &registry());
        assert!(docker.notes[0].contains("farm:5000/docker.io/library/alpine"));
        let daemon: serde_json::Value =
            serde_json::from_str(&docker.files["etc/docker/daemon.json"]).unwrap();
        assert_eq!(daemon["insecure-registries"][0], "farm:5000");
    }
}
