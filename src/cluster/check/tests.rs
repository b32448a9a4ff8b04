use std::fs;
use std::path::Path;

use super::*;
use crate::cluster::files;

fn registry() -> Registry {
    Registry { url: "http://farm:5000".to_owned(), upstreams: vec!["docker.io".to_owned()], authority: None }
}

fn put(root: &Path, path: &str, text: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), text).unwrap();
}

fn lay(root: &Path, runtime: Runtime) {
    for (path, text) in files(runtime, &registry()).files {
        put(root, &path, &text);
    }
}

fn words(root: &Path, runtime: Runtime) -> String {
    let found = check(runtime, &registry(), root);
    found.iter().map(|f| format!("{} {}", f.path, f.words)).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn says(root: &Path, runtime: Runtime, parts: &[&str]) {
    let said = words(root, runtime);
    for part in parts {
        assert!(said.contains(part), "{part} not in:\n{said}");
    }
    assert_eq!(said.lines().count(), parts.len(), "{said}");
}

const CONFIG: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

#[test]
fn a_host_with_our_files_has_no_way_past_the_farm() {
    let runtimes = [Runtime::K3s, Runtime::Crio, Runtime::Podman, Runtime::Containerd];
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
fn what_debian_puts_there_for_podman_is_read_as_podman_reads_it() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "etc/containers/registries.conf",
        "# unqualified-search-registries = [\"example.com\"]\n",
    );
    put(
        root.path(),
        "etc/containers/registries.conf.d/shortnames.conf",
        "[aliases]\n\"alpine\" = \"docker.io/library/alpine\"\n\"centos\" = \"images.example.com/centos/centos\"\n",
    );
    put(root.path(), "etc/containers/policy.json", "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}");
    says(
        root.path(),
        Runtime::Podman,
        &[
            "/etc/containers/registries.conf maps or blocks neither docker.io: they",
            "shortnames.conf has short names that lead to docker.io, images.example.com",
            "/etc/containers/policy.json accepts images of every registry",
        ],
    );
    // Our files beside its short names: these lead to the farm, or nowhere.
    lay(root.path(), Runtime::Podman);
    says(root.path(), Runtime::Podman, &[]);
    let ours = fs::read_to_string(root.path().join("etc/containers/registries.conf")).unwrap();
    put(root.path(), "etc/containers/registries.conf", &ours.replace("*.com", "*.invalid"));
    says(
        root.path(),
        Runtime::Podman,
        &["blocks no names that end in .com: they", "short names that lead to images.example.com"],
    );
    put(
        root.path(),
        "etc/containers/registries.conf",
        "unqualified-search-registries = [\"docker.io\", \"quay.example\"]\n[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"farm:5000/docker.io\"\n[[registry.mirror]]\nlocation = \"mirror.example\"\n",
    );
    let said = words(root.path(), Runtime::Podman);
    for part in [
        "docker.io falls back to docker.io",
        "docker.io has a mirror mirror.example",
        "at docker.io",
        "at quay.example",
    ] {
        assert!(said.contains(part), "{part} not in:\n{said}");
    }
    lay(root.path(), Runtime::Podman);
    put(
        root.path(),
        "etc/containers/registries.conf.d/99-mine.conf",
        "[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"mirror.example/library\"\n",
    );
    put(root.path(), "root/.config/containers/registries.conf", "");
    says(
        root.path(),
        Runtime::Podman,
        &[
            "docker.io/library is pulled from mirror.example/library",
            "shortnames.conf has short names that lead to docker.io",
            "/root/.config/containers/registries.conf is read instead",
        ],
    );
}

#[test]
fn a_drop_in_of_somebody_else_is_not_before_ours_for_crio() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "etc/containers/registries.conf.d/01-mine.conf",
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"mirror.example\"\n",
    );
    lay(root.path(), Runtime::Crio);
    says(root.path(), Runtime::Crio, &[]);
    put(
        root.path(),
        "etc/containers/policy.json",
        "{\"default\": [{\"type\": \"reject\"}], \"transports\": {\"docker\": {\"images.example.com\": [{\"type\": \"insecureAcceptAnything\"}], \"docker.io\": [], \"\": [{\"type\": \"signedBy\"}]}}}",
    );
    says(
        root.path(),
        Runtime::Crio,
        &["accepts images of every registry", "accepts images of images.example.com, which is no upstream"],
    );
}

#[test]
fn what_containerd_writes_by_default_is_read_as_containerd_reads_it() {
    let root = tempfile::tempdir().unwrap();
    // As `containerd config default` says it, of version 1 and of version 2.
    for (plugin, version) in [("io.containerd.grpc.v1.cri", 2), ("io.containerd.cri.v1.images", 3)] {
        let text = format!(
            "version = {version}\n[plugins]\n  [plugins.\"{plugin}\"]\n    [plugins.\"{plugin}\".registry]\n      config_path = \"\"\n      [plugins.\"{plugin}\".registry.mirrors]\n"
        );
        put(root.path(), "etc/containerd/config.toml", &text);
        says(
            root.path(),
            Runtime::Containerd,
            &[
                "config.toml has no config_path for the CRI plugin, so that no hosts.toml is read: docker.io",
                "_default/hosts.toml is not there",
            ],
        );
    }
    // A path that only stands in a comment, or in another plugin, is none.
    put(
        root.path(),
        "etc/containerd/config.toml",
        "version = 2\n# config_path = \"/etc/containerd/certs.d\"\n[plugins.\"io.containerd.other\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
    );
    lay(root.path(), Runtime::Containerd);
    says(root.path(), Runtime::Containerd, &["has no config_path for the CRI plugin"]);
    // One that an import says is one.
    put(
        root.path(),
        "etc/containerd/config.toml",
        "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
    );
    put(root.path(), "etc/containerd/conf.d/registry.toml", CONFIG);
    says(root.path(), Runtime::Containerd, &[]);
    put(
        root.path(),
        "etc/containerd/conf.d/old.toml",
        "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://mirror.example\", \"http://farm:5000\"]\n",
    );
    says(
        root.path(),
        Runtime::Containerd,
        &["conf.d/old.toml has a mirror https://mirror.example of docker.io"],
    );
}

#[test]
fn every_way_past_the_farm_is_told_of_containerd() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Containerd);
    put(root.path(), "etc/containerd/config.toml", CONFIG);
    let file =
        |name: &str, text: &str| put(root.path(), &format!("etc/containerd/certs.d/{name}/hosts.toml"), text);
    file("one.example", "[host.\"https://one.example\"]\n");
    file("two.example", "server = \"https://two.example\"\n[host.\"http://farm:5000\"]\n");
    file("three.example", "server = [\n");
    fs::create_dir(root.path().join("etc/containerd/certs.d/four.example")).unwrap();
    says(
        root.path(),
        Runtime::Containerd,
        &[
            "four.example/hosts.toml is not there, though its folder is",
            "one.example/hosts.toml names no server, so that one.example itself",
            "one.example/hosts.toml also asks https://one.example",
            "three.example/hosts.toml does not read",
            "two.example/hosts.toml falls back to https://two.example",
        ],
    );
}

#[test]
fn what_k3s_writes_by_default_is_read_as_k3s_reads_it() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s \\\n    server \\\n",
    );
    says(
        root.path(),
        Runtime::K3s,
        &[
            "registries.yaml is not there: docker.io and all others",
            "after its mirrors, each registry itself is asked",
        ],
    );
    put(
        root.path(),
        "etc/rancher/k3s/registries.yaml",
        "mirrors:\n  docker.io:\n    endpoint:\n      - \"https://mirror.example\"  # mine\n      - http://farm:5000\nconfigs:\n  \"mirror.example\":\n    auth:\n      username: me\n",
    );
    says(
        root.path(),
        Runtime::K3s,
        &[
            "has a mirror https://mirror.example of docker.io",
            "has no mirror of \"*\": all others",
            "after its mirrors",
        ],
    );
    put(
        root.path(),
        "etc/systemd/system/k3s.service",
        "ExecStart=/usr/local/bin/k3s server --disable-default-registry-endpoint\n",
    );
    lay(root.path(), Runtime::K3s);
    says(root.path(), Runtime::K3s, &[]);
    fs::remove_file(root.path().join("etc/systemd/system/k3s.service")).unwrap();
    says(root.path(), Runtime::K3s, &[]);
    // Until it is started again, k3s does what it wrote before.
    put(
        root.path(),
        "var/lib/rancher/k3s/agent/etc/containerd/certs.d/docker.io/hosts.toml",
        "server = \"https://upstream.example/v2\"\n[host.\"https://mirror.example/v2\"]\n",
    );
    says(
        root.path(),
        Runtime::K3s,
        &[
            "_default/hosts.toml is not there",
            "falls back to https://upstream.example/v2 (k3s wrote",
            "also asks https://mirror.example/v2 (k3s",
        ],
    );
}
