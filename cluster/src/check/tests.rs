use std::fs;
use std::path::Path;

use super::*;
use crate::Kind;
use crate::write::files;

pub(super) fn registry() -> Registry {
    Registry { url: "http://farm:5000".to_owned(), upstreams: vec!["docker.io".to_owned()], authority: None }
}

pub(super) fn put(root: &Path, path: &str, text: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), text).unwrap();
}

pub(super) fn lay(root: &Path, runtime: Runtime) {
    for (path, text) in files(runtime, &registry()).files {
        put(root, &path, &text);
    }
}

pub(super) fn words(root: &Path, runtime: Runtime) -> String {
    let found = check(runtime, &registry(), root);
    found.iter().map(|f| format!("{} {}", f.path, f.words)).collect::<Vec<_>>().join("\n")
}

#[track_caller]
pub(super) fn says(root: &Path, runtime: Runtime, parts: &[&str]) {
    let said = words(root, runtime);
    for part in parts {
        assert!(said.contains(part), "{part} not in:\n{said}");
    }
    assert_eq!(said.lines().count(), parts.len(), "{said}");
}

pub(super) const CONFIG: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

#[test]
fn a_host_with_our_files_has_no_way_past_the_farm() {
    let runtimes = [Runtime::K3s, Runtime::Rke2, Runtime::Crio, Runtime::Podman, Runtime::Containerd];
    for runtime in runtimes {
        let root = tempfile::tempdir().unwrap();
        assert!(words(root.path(), runtime).contains("docker.io"), "{runtime:?}: nothing is there yet");
        lay(root.path(), runtime);
        put(root.path(), "etc/containerd/config.toml", CONFIG);
        assert_eq!(words(root.path(), runtime), "", "{runtime:?}");
    }
}

#[test]
fn docker_has_a_way_past_whatever_its_file_says() {
    let root = tempfile::tempdir().unwrap();
    says(root.path(), Runtime::Docker, &["cannot keep Docker from Docker Hub"]);
    put(
        root.path(),
        "etc/docker/daemon.json",
        "{\"registry-mirrors\": [\"https://mirror.example\", \"http://farm:5000\"]}",
    );
    says(root.path(), Runtime::Docker, &["has a mirror https://mirror.example", "cannot keep Docker"]);
}

#[test]
fn what_cannot_be_read_is_no_permission() {
    let root = tempfile::tempdir().unwrap();
    let kinds = |runtime| -> Vec<Kind> {
        check(runtime, &registry(), root.path()).into_iter().map(|f| f.kind).collect()
    };
    for (runtime, path) in [
        (Runtime::Containerd, "etc/containerd/config.toml"),
        (Runtime::K3s, "etc/rancher/k3s/registries.yaml"),
        (Runtime::Rke2, "etc/rancher/rke2/config.yaml"),
        (Runtime::Podman, "etc/containers/policy.json"),
        (Runtime::Crio, "etc/containers/registries.conf.d/00.conf"),
        (Runtime::Docker, "etc/docker/daemon.json"),
    ] {
        lay(root.path(), runtime);
        put(root.path(), "etc/containerd/config.toml", CONFIG);
        put(root.path(), path, "{[ not this: nor = that\n");
        assert!(kinds(runtime).contains(&Kind::Unknown), "{path}: {}", words(root.path(), runtime));
        fs::remove_file(root.path().join(path)).unwrap();
        fs::create_dir(root.path().join(path)).unwrap();
        assert!(kinds(runtime).contains(&Kind::Unknown), "{path}: {}", words(root.path(), runtime));
        fs::remove_dir(root.path().join(path)).unwrap();
    }
}

#[test]
fn docker_mirrors_of_its_service_and_of_rootless_daemons_are_told() {
    let root = tempfile::tempdir().unwrap();
    let unit = "[Service]\nExecStart=/usr/bin/dockerd --registry-mirror=https://a.example --config-file /etc/d.json\n";
    put(root.path(), "lib/systemd/system/docker.service", unit);
    put(root.path(), "etc/d.json", "{\"registry-mirrors\": [\"https://b.example\"]}");
    put(root.path(), "home/u/.config/docker/daemon.json", "{\"registry-mirrors\": [\"https://c.example\"]}");
    says(
        root.path(),
        Runtime::Docker,
        &[
            "docker.service has a mirror https://a.example",
            "/etc/d.json has a mirror",
            "/home/u/.config",
            "cannot keep",
        ],
    );
}
