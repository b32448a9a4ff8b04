use std::fs;

use super::tests::{lay, put, registry, says, words};
use super::*;
use crate::Kind;

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
            "after its mirrors, each registry is asked directly",
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
            "has settings of mirror.example below configs",
            "has no mirror of \"*\": all others",
            "after its mirrors",
        ],
    );
    put(
        root.path(),
        "etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s server --disable-default-registry-endpoint\n",
    );
    lay(root.path(), Runtime::K3s);
    says(root.path(), Runtime::K3s, &[]);
    fs::remove_file(root.path().join("etc/systemd/system/k3s.service")).unwrap();
    says(root.path(), Runtime::K3s, &[]);
    // Until k3s is started again, it uses what it wrote before.
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

const OURS: &str = "mirrors:\n  \"*\":\n    endpoint: [\"http://farm:5000\"]\n";

#[test]
fn registries_yaml_means_the_same_in_every_style() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::K3s);
    for good in [
        OURS,
        "mirrors: {\"*\": {endpoint: [\"http://farm:5000\"]}}\n",
        "{\"mirrors\": {\"*\": {\"endpoint\": [\"http://farm:5000\"]}}}",
        "farm: &farm\n  endpoint:\n  - http://farm:5000\nmirrors:\n  docker.io: *farm\n  '*': *farm\n",
        "mirrors:\n  \"*\":\n    endpoint: [\n      \"http://farm:5000\",\n    ]\n",
    ] {
        put(root.path(), "etc/rancher/k3s/registries.yaml", good);
        says(root.path(), Runtime::K3s, &[]);
    }
    for evil in [
        "mirrors: {\"*\": {endpoint: [\"http://farm:5000\"]}, docker.io: {endpoint: [\"https://evil.example\"]}}\n",
        "{\"mirrors\": {\"*\": {\"endpoint\": [\"http://farm:5000\"]}, \"docker.io\": {\"endpoint\": [\"https://evil.example\"]}}}",
        "evil: &evil {endpoint: [\"https://evil.example\"]}\nmirrors:\n  \"*\": {endpoint: [\"http://farm:5000\"]}\n  docker.io: *evil\n",
        "base: &base\n  docker.io: {endpoint: [\"https://evil.example\"]}\nmirrors:\n  <<: *base\n  \"*\": {endpoint: [\"http://farm:5000\"]}\n",
        "mirrors:\n  \"*\":\n    endpoint: [\"http://farm:5000\"]\n  docker.io:\n    endpoint:\n      [\n        https://evil.example\n      ]\n",
    ] {
        put(root.path(), "etc/rancher/k3s/registries.yaml", evil);
        says(root.path(), Runtime::K3s, &["has a mirror https://evil.example of docker.io"]);
    }
    for (unknown, words) in [
        ("mirrors:\n  \"*\": {endpoint: [\"http://farm:5000\"]}\nmirrors: {}\n", "stands twice"),
        ("mirrors: {\"*\": {endpoint: [\"http://farm:5000\"]}}\n---\nmirrors: {}\n", "several documents"),
    ] {
        put(root.path(), "etc/rancher/k3s/registries.yaml", unknown);
        says(root.path(), Runtime::K3s, &[words]);
        assert_eq!(check(Runtime::K3s, &registry(), root.path())[0].kind, Kind::Unknown);
    }
    // A key in another case does not count, and a mirror without endpoints is dropped.
    for open in [
        "Mirrors: {\"*\": {endpoint: [\"http://farm:5000\"]}}\n",
        "mirrors: {\"*\": {}}\n",
        "mirrors:\n  \"*\":\n",
        "",
    ] {
        put(root.path(), "etc/rancher/k3s/registries.yaml", open);
        says(
            root.path(),
            Runtime::K3s,
            &["has no mirror of \"*\": docker.io and all others are asked directly"],
        );
    }
}

#[test]
fn a_registry_with_settings_of_its_own_stays_the_last_to_be_asked() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::K3s);
    let configs = format!(
        "{OURS}configs:\n  farm:5000: {{auth: {{username: a}}}}\n  quay.io: {{auth: {{username: b}}}}\n"
    );
    put(root.path(), "etc/rancher/k3s/registries.yaml", &configs);
    says(
        root.path(),
        Runtime::K3s,
        &["has settings of quay.io below configs: with these, quay.io itself is still asked last"],
    );
}

#[test]
fn k3s_is_judged_by_the_files_that_its_settings_name() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::K3s);
    let evil = "mirrors: {\"*\": {endpoint: [\"https://evil.example\"]}}\n";
    put(root.path(), "etc/other.yaml", evil);
    put(root.path(), "etc/rancher/k3s/config.yaml", "private-registry: /etc/other.yaml\n");
    says(root.path(), Runtime::K3s, &["/etc/other.yaml has a mirror https://evil.example of *"]);
    // A drop-in overrides the file, and the command line overrides both.
    put(
        root.path(),
        "etc/rancher/k3s/config.yaml.d/50.yml",
        "\"private-registry\": /etc/rancher/k3s/registries.yaml\n",
    );
    says(root.path(), Runtime::K3s, &[]);
    let unit =
        "[Service]\nExecStart=/usr/local/bin/k3s \\\n  agent \\\n  '--private-registry' /etc/other.yaml\n";
    put(root.path(), "etc/systemd/system/k3s-agent.service", unit);
    says(root.path(), Runtime::K3s, &["/etc/other.yaml has a mirror"]);
    // If the configuration lies elsewhere, none of the written files count.
    let unit = "[Service]\nEnvironmentFile=-/etc/systemd/system/%N.service.env\nExecStart=/usr/local/bin/k3s agent\n";
    put(root.path(), "etc/systemd/system/k3s-agent.service", unit);
    put(root.path(), "etc/systemd/system/k3s-agent.service.env", "K3S_CONFIG_FILE=/etc/elsewhere.yaml\n");
    says(root.path(), Runtime::K3s, &["no file says `disable-default-registry-endpoint: true`"]);
    put(root.path(), "etc/elsewhere.yaml.d/a.yaml", "{disable-default-registry-endpoint: yes}\n");
    says(root.path(), Runtime::K3s, &[]);
}

#[test]
fn the_last_word_about_the_default_endpoint_counts() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::K3s);
    let flag = "disable-default-registry-endpoint";
    for (value, parts) in [
        ("\"true\"", &[][..]),
        ("on", &[]),
        ("1", &[]),
        ("[false, true]", &[]),
        ("false", &["zz.yaml no file says"]),
        ("maybe", &["neither true nor false"]),
        ("", &["neither true nor false"]),
        ("{a: b}", &["not a word"]),
    ] {
        put(root.path(), "etc/rancher/k3s/config.yaml.d/zz.yaml", &format!("{flag}: {value}\n"));
        says(root.path(), Runtime::K3s, parts);
    }
    // Text that only looks like the setting does not count.
    put(
        root.path(),
        "etc/rancher/k3s/config.yaml.d/hab-build.yaml",
        &format!("node-label: |\n  {flag}: true\n"),
    );
    put(root.path(), "etc/rancher/k3s/config.yaml.d/zz.yaml", "");
    says(root.path(), Runtime::K3s, &["no file says"]);
    let unit = |value: &str| format!("[Service]\nExecStart=/usr/local/bin/k3s server --{flag}{value}\n");
    put(root.path(), "etc/systemd/system/k3s.service", &unit(""));
    says(root.path(), Runtime::K3s, &[]);
    lay(root.path(), Runtime::K3s);
    put(root.path(), "etc/systemd/system/k3s.service", &unit("=false"));
    says(root.path(), Runtime::K3s, &["k3s.service no file says"]);
}

#[test]
fn what_pulls_instead_of_its_own_containerd_is_not_judged_by_its_files() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::K3s);
    for (setting, part) in [
        ("docker: true", "check docker instead"),
        ("container-runtime-endpoint: unix:///run/crio/crio.sock", "check that one instead"),
        ("embedded-registry: true", "images come from other nodes"),
    ] {
        put(root.path(), "etc/rancher/k3s/config.yaml", &format!("{setting}\n"));
        says(root.path(), Runtime::K3s, &[part]);
    }
}

#[test]
fn a_template_is_judged_by_what_was_made_of_it_and_only_by_that() {
    let root = tempfile::tempdir().unwrap();
    for (runtime, program) in [(Runtime::K3s, "k3s"), (Runtime::Rke2, "rke2")] {
        let folder = format!("var/lib/rancher/{program}/agent/etc/containerd");
        for name in ["config.toml.tmpl", "config-v3.toml.tmpl"] {
            lay(root.path(), runtime);
            put(root.path(), &format!("{folder}/{name}"), "{{ template \"base\" . }}\n");
            says(root.path(), runtime, &[&format!("{name} is a template")]);
            // The template was rendered since then, with its hosts.toml files.
            let certs = format!("/{folder}/certs.d");
            let made = format!(
                "version = 3\nimports = [\"/{folder}/config-v3.toml.d/*.toml\"]\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = {certs:?}\n"
            );
            put(root.path(), &format!("{folder}/config.toml"), &made);
            put(
                root.path(),
                &format!("{folder}/certs.d/_default/hosts.toml"),
                "server = \"http://farm:5000/v2\"\n",
            );
            says(root.path(), runtime, &[]);
            put(
                root.path(),
                &format!("{folder}/config-v3.toml.d/x.toml"),
                "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/opt/certs.d\"\n",
            );
            assert!(words(root.path(), runtime).contains("/opt/certs.d/_default/hosts.toml is not there"));
            fs::remove_dir_all(root.path().join("var")).unwrap();
        }
    }
}
