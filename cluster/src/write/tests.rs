use std::fs;

use super::*;

fn registry() -> Registry {
    let upstreams = vec!["docker.io".to_owned()];
    Registry { url: "http://farm:5000".to_owned(), upstreams, authority: None }
}

pub(super) fn put(root: &Path, path: &str, text: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), text).unwrap();
}

fn plan(runtime: Runtime, root: &Path) -> Plan {
    Plan::new(runtime, &registry(), root).unwrap()
}

fn lay(runtime: Runtime, root: &Path) -> Plan {
    lay_for(runtime, &registry(), root)
}

pub(super) fn lay_for(runtime: Runtime, registry: &Registry, root: &Path) -> Plan {
    let plan = Plan::new(runtime, registry, root).unwrap();
    crate::place::apply(root, &plan.changes).unwrap();
    plan
}

#[test]
fn a_host_is_told_who_vouches_for_the_farm() {
    let secure =
        Registry { url: "https://farm:5000/".to_owned(), authority: Some("PEM".to_owned()), ..registry() };
    for runtime in Runtime::ALL {
        let files = files(runtime, &secure).files;
        assert_eq!(files[&secure.authority_path(runtime)], "PEM", "{runtime:?}");
        assert!(!files.values().any(|text| text.contains("http://")), "{runtime:?}");
    }
    let containerd = files(Runtime::Containerd, &secure).files;
    let hosts: toml::Value =
        toml::from_str(&containerd["etc/containerd/certs.d/docker.io/hosts.toml"]).unwrap();
    let path = "/etc/containerd/certs.d/farm:5000/ca.crt";
    assert_eq!(hosts["ca"].as_str(), Some(path));
    assert_eq!(hosts["host"]["https://farm:5000"]["ca"].as_str(), Some(path));
    let k3s = &files(Runtime::K3s, &secure).files["etc/rancher/k3s/registries.yaml"];
    assert!(
        k3s.contains(
            "configs:\n  \"farm:5000\":\n    tls:\n      ca_file: \"/etc/rancher/k3s/hab-build-ca.crt\"\n"
        ),
        "{k3s}"
    );
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
    let daemon: serde_json::Value = serde_json::from_str(&docker.files["etc/docker/daemon.json"]).unwrap();
    assert_eq!(daemon["insecure-registries"][0], "farm:5000");
}

#[test]
fn dockers_other_settings_stay() {
    let root = tempfile::tempdir().unwrap();
    let theirs = "{\"log-driver\": \"journald\", \"data-root\": \"/srv\", \"insecure-registries\": [\"old:1\"], \"registry-mirrors\": [\"https://m.example\", \"http://farm:5000\"]}";
    put(root.path(), "etc/docker/daemon.json", theirs);
    let plan = plan(Runtime::Docker, root.path());
    let after: serde_json::Value = serde_json::from_str(plan.changes[0].after.as_deref().unwrap()).unwrap();
    assert_eq!(after["log-driver"], "journald");
    assert_eq!(after["data-root"], "/srv");
    assert_eq!(after["insecure-registries"], serde_json::json!(["old:1", "farm:5000"]));
    assert_eq!(after["registry-mirrors"], serde_json::json!(["http://farm:5000"]));
    assert!(plan.notes.iter().any(|note| note.contains("https://m.example") && note.contains("left out")));
    // A file that cannot be merged is not written over.
    for bad in ["{", "[]", "{\"registry-mirrors\": \"x\"}"] {
        put(root.path(), "etc/docker/daemon.json", bad);
        let error = Plan::new(Runtime::Docker, &registry(), root.path()).unwrap_err().to_string();
        assert!(error.contains("/etc/docker/daemon.json"), "{error}");
    }
}

#[test]
fn containers_files_of_others_stay_and_lead_to_the_farm_or_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let theirs = "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"m.example/library\"\n[[registry]]\nlocation = \"corp.internal\"\n[aliases]\n\"x\" = \"docker.io/library/x\"\n";
    put(root.path(), "etc/containers/registries.conf", theirs);
    let policy = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}], \"transports\": {\"docker\": {\"docker.io\": [{\"type\": \"signedBy\", \"keyType\": \"GPGKeys\", \"keyPath\": \"/k\"}], \"corp.internal\": [{\"type\": \"insecureAcceptAnything\"}], \"bad.example\": [{\"type\": \"reject\"}]}, \"tarball\": {\"\": [{\"type\": \"reject\"}]}}}";
    put(root.path(), "etc/containers/policy.json", policy);
    for runtime in [Runtime::Podman, Runtime::Crio, Runtime::Podman] {
        let plan = lay(runtime, root.path());
        assert_eq!(plan.left, [], "{runtime:?}");
        assert_eq!(crate::check(runtime, &registry(), root.path()), [], "{runtime:?}");
    }
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!(read("etc/containers/registries.conf"), theirs);
    let ours: toml::Table =
        toml::from_str(&read("etc/containers/registries.conf.d/zz-hab-build.conf")).unwrap();
    let entries = ours["registry"].as_array().unwrap();
    let find = |prefix: &str| {
        entries.iter().find(|e| e.get("prefix").and_then(toml::Value::as_str) == Some(prefix)).unwrap()
    };
    assert_eq!(find("docker.io/library")["location"].as_str(), Some("farm:5000/docker.io/library"));
    assert_eq!(find("corp.internal")["blocked"].as_bool(), Some(true));
    let policy: serde_json::Value = serde_json::from_str(&read("etc/containers/policy.json")).unwrap();
    let docker = &policy["transports"]["docker"];
    assert_eq!(docker["docker.io"][0]["type"], "signedBy", "a demand for signatures stays");
    assert_eq!(docker["bad.example"][0]["type"], "reject");
    assert!(docker.get("corp.internal").is_none());
    assert_eq!(policy["transports"]["tarball"][""][0]["type"], "reject");
}

#[test]
fn a_second_writing_with_the_same_address_changes_nothing() {
    for runtime in Runtime::ALL {
        let root = tempfile::tempdir().unwrap();
        assert!(!lay(runtime, root.path()).changes.is_empty(), "{runtime:?}");
        assert_eq!(plan(runtime, root.path()).changes, [], "{runtime:?}");
    }
}

#[test]
fn k3s_settings_of_the_farm_itself_stay_and_passwords_are_not_shown() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/rancher/k3s/config.yaml", "private-registry: /etc/mine.yaml\n");
    let theirs = "mirrors:\n  quay.io:\n    endpoint: [\"https://quay.example\"]\nconfigs:\n  farm:5000: {auth: {username: me, password: s3cret}}\n  quay.example: {auth: {username: me, password: s3cret}}\n";
    put(root.path(), "etc/mine.yaml", theirs);
    let plan = lay(Runtime::K3s, root.path());
    assert_eq!(plan.left, []);
    let text = fs::read_to_string(root.path().join("etc/mine.yaml")).unwrap();
    let read = crate::yaml::parse(&text).unwrap();
    let auth = read.get("configs").unwrap().get("farm:5000").unwrap().get("auth").unwrap();
    assert_eq!(auth.get("password").unwrap().text(), Some("s3cret"));
    assert!(read.get("configs").unwrap().get("quay.example").is_none());
    assert!(plan.notes.iter().any(|note| note.contains("quay.example") && note.contains("left out")));
    assert!(!plan.diff().contains("s3cret"), "{}", plan.diff());
    assert!(plan.diff().contains("+++ /etc/mine.yaml"), "{}", plan.diff());
}

#[test]
fn what_would_stop_working_is_known_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let lost = |runtime| -> Vec<String> {
        plan(runtime, root.path()).lost.into_iter().map(|used| used.registry).collect()
    };
    assert_eq!(lost(Runtime::Containerd), [""; 0]);
    put(
        root.path(),
        "etc/kubernetes/manifests/etcd.yaml",
        "spec:\n  containers:\n  - image: images.example/etcd:3\n  - image: docker.io/library/x\n",
    );
    put(
        root.path(),
        "etc/containerd/certs.d/corp.internal:5000/hosts.toml",
        "server = \"https://corp.internal:5000\"\n",
    );
    put(
        root.path(),
        "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
        "\0\u{1}quay.example/a/b:v1\0\0farm:5000/x:1\0",
    );
    assert_eq!(
        lost(Runtime::Containerd),
        ["corp.internal:5000", "images.example", "quay.example", "registry.k8s.io"]
    );
    put(
        root.path(),
        "etc/rancher/k3s/registries.yaml",
        "mirrors:\n  ghcr.example: {endpoint: [\"https://cache.example\"]}\nconfigs:\n  cache.example: {}\n  push.example: {}\n",
    );
    put(
        root.path(),
        "etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s server --pause-image pause.example/pause:3\n",
    );
    assert_eq!(lost(Runtime::K3s), ["ghcr.example", "pause.example", "push.example"]);
    put(
        root.path(),
        "var/lib/docker/image/overlay2/repositories.json",
        "{\"Repositories\": {\"alpine\": {}, \"quay.example/x\": {}}}",
    );
    assert_eq!(lost(Runtime::Docker), ["quay.example"]);
    put(
        root.path(),
        "var/lib/containers/storage/overlay-images/images.json",
        "[{\"names\": [\"localhost/mine:1\", \"quay.example/x:1\"]}, {\"names\": null}]",
    );
    put(
        root.path(),
        "etc/containers/registries.conf",
        "unqualified-search-registries = [\"search.example\"]\n",
    );
    assert_eq!(lost(Runtime::Podman), ["quay.example", "search.example"]);
}

#[test]
fn secrets_are_hidden_in_every_style() {
    for (line, shown) in [
        ("  password: \"x y\"\n", "  password: …\n"),
        ("\"auth\": \"eA==\",", "\"auth\": …"),
        ("proxy = \"http://me:pw@p.example:1\"", "proxy = \"http://…@p.example:1\""),
        ("    auth:\n", "    auth:\n"),
        (
            "farm:5000: {auth: {username: me, password: s3cret}}",
            "farm:5000: {auth: {username: me, password: …",
        ),
        ("- http://farm:5000\n", "- http://farm:5000\n"),
    ] {
        assert_eq!(without_secrets(line), shown);
    }
}
