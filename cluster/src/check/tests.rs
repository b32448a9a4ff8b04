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

const CONFIG: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

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
            "/root/.config/containers/registries.conf maps or blocks neither docker.io",
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
    // The later file takes the section's place in older versions, and is laid over it in newer ones.
    says(
        root.path(),
        Runtime::Containerd,
        &[
            "has, or imports, a mirror https://mirror.example of docker.io (as containerd 2.1 and later reads it)",
            "mirrors beside config_path, which containerd refuses to start with (as containerd 2.1 and later",
        ],
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
            "three.example/hosts.toml is not valid TOML, so that three.example itself is asked",
            "two.example/hosts.toml falls back to https://two.example",
        ],
    );
}

fn config(version: i32, plugin: &str, rest: &str) -> String {
    format!(
        "version = {version}\n{rest}\n[plugins.\"{plugin}\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"
    )
}

#[test]
fn an_import_that_replaces_the_section_takes_config_path_away() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Containerd);
    let imports = "imports = [\"conf.d/a.toml\", \"../containerd/conf.d/b.toml\"]";
    put(root.path(), "etc/containerd/config.toml", &config(2, "io.containerd.grpc.v1.cri", imports));
    put(root.path(), "etc/containerd/conf.d/a.toml", "version = 2\noom_score = 1\n");
    put(root.path(), "etc/containerd/conf.d/b.toml", "version = 2\n[plugins.\"io.containerd.runtime\"]\n");
    says(root.path(), Runtime::Containerd, &[]);
    // It says nothing of registries, and so older versions have none.
    let sandbox =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"farm:5000/pause\"\n";
    put(root.path(), "etc/containerd/conf.d/b.toml", sandbox);
    says(
        root.path(),
        Runtime::Containerd,
        &[
            "no config_path for the CRI plugin, so that no hosts.toml is read: docker.io and all others are asked themselves \
           (as containerd 1.x and containerd 2.0 reads it)",
        ],
    );
    // Relative to the file that imports, also within an import.
    put(root.path(), "etc/containerd/conf.d/b.toml", "imports = [\"more/*.toml\"]\n");
    let evil = config(2, "io.containerd.grpc.v1.cri", "").replace("/etc/containerd/certs.d", "/opt/certs.d");
    put(root.path(), "etc/containerd/conf.d/more/x.toml", &evil);
    says(root.path(), Runtime::Containerd, &["/opt/certs.d/_default/hosts.toml is not there"]);
    // What is not there is not passed over.
    put(root.path(), "etc/containerd/conf.d/b.toml", "imports = [\"none.toml\"]\n");
    says(
        root.path(),
        Runtime::Containerd,
        &["conf.d/b.toml imports /etc/containerd/conf.d/none.toml, which is not there"],
    );
}

#[test]
fn a_plugin_counts_only_by_the_name_that_its_version_knows() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Containerd);
    for (version, plugin, parts) in [
        (2, "io.containerd.grpc.v1.cri", &[][..]),
        (3, "io.containerd.cri.v1.images", &[]),
        (4, "io.containerd.cri.v1.images", &[]),
        (1, "cri", &[]),
        // Since version 3 the older plugin's section is passed over.
        (3, "io.containerd.grpc.v1.cri", &["no config_path"]),
        // containerd 1.x does not know the newer plugin.
        (
            2,
            "io.containerd.cri.v1.images",
            &[
                "no config_path for the CRI plugin, so that no hosts.toml is read: docker.io and all others are asked themselves (as containerd 1.x",
            ],
        ),
        (2, "cri", &["no config_path"]),
    ] {
        put(root.path(), "etc/containerd/config.toml", &config(version, plugin, ""));
        says(root.path(), Runtime::Containerd, parts);
    }
    put(
        root.path(),
        "etc/containerd/config.toml",
        &config(2, "io.containerd.grpc.v1.cri", "disabled_plugins = [\"cri\"]"),
    );
    says(root.path(), Runtime::Containerd, &["disables the CRI plugin"]);
}

#[test]
fn of_several_folders_the_first_that_has_a_registry_counts() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Containerd);
    let two = config(2, "io.containerd.grpc.v1.cri", "").replace("/certs.d", "/certs.d:/etc/docker/certs.d");
    put(root.path(), "etc/containerd/config.toml", &two);
    // `_default` of the first folder stands before every folder of the second.
    put(root.path(), "etc/docker/certs.d/quay.io/hosts.toml", "server = \"https://quay.io\"\n");
    says(root.path(), Runtime::Containerd, &[]);
    let reversed = two.replace(
        "/etc/containerd/certs.d:/etc/docker/certs.d",
        "/etc/docker/certs.d:/etc/containerd/certs.d",
    );
    put(root.path(), "etc/containerd/config.toml", &reversed);
    says(
        root.path(),
        Runtime::Containerd,
        &["/etc/docker/certs.d/quay.io/hosts.toml falls back to https://quay.io"],
    );
    put(root.path(), "etc/docker/certs.d/docker.io/hosts.toml", "");
    put(root.path(), "etc/docker/certs.d/farm_5000_/hosts.toml", "server = \"https://other.example\"\n");
    says(
        root.path(),
        Runtime::Containerd,
        &[
            "docker.io/hosts.toml names no server",
            "farm_5000_/hosts.toml falls back to https://other.example",
            "quay.io",
        ],
    );
}

#[test]
fn the_configuration_that_the_service_names_is_the_one_that_counts() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Containerd);
    put(root.path(), "etc/containerd/config.toml", CONFIG);
    put(
        root.path(),
        "usr/lib/systemd/system/containerd.service",
        "[Service]\nExecStart=/usr/bin/containerd\n",
    );
    says(root.path(), Runtime::Containerd, &[]);
    let drop = "etc/systemd/system/containerd.service.d/x.conf";
    put(root.path(), drop, "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /etc/other.toml\n");
    says(root.path(), Runtime::Containerd, &["/etc/other.toml is not there"]);
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
fn settings_of_each_person_are_judged_as_theirs() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Podman);
    // Beside the host's.
    put(
        root.path(),
        "home/a/.config/containers/registries.conf.d/x.conf",
        "[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"mirror.example/library\"\n",
    );
    put(
        root.path(),
        "home/b/.cache/containers/short-name-aliases.conf",
        "[aliases]\n\"x\" = \"images.invalid/x\"\n",
    );
    // Instead of the host's, and as good.
    let ours = fs::read_to_string(root.path().join("etc/containers/registries.conf")).unwrap();
    put(root.path(), "home/c/.config/containers/registries.conf", &ours);
    put(
        root.path(),
        "home/d/.config/containers/policy.json",
        "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}",
    );
    says(
        root.path(),
        Runtime::Podman,
        &[
            "/home/a/.config/containers/registries.conf.d/x.conf docker.io/library is pulled from mirror.example",
            "/home/b/.cache/containers/short-name-aliases.conf has short names that lead to images.invalid",
            "/home/d/.config/containers/policy.json accepts images of every registry",
        ],
    );
}

#[test]
fn crio_is_judged_by_the_policy_that_its_settings_name() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Crio);
    put(
        root.path(),
        "etc/crio/crio.conf.d/10.conf",
        "[crio.image]\nsignature_policy = \"/etc/crio/policy.json\"\n",
    );
    put(root.path(), "etc/crio/policy.json", "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}");
    let policies = "etc/crio/policies/space.json";
    put(root.path(), policies, "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}");
    says(
        root.path(),
        Runtime::Crio,
        &["/etc/crio/policies/space.json accepts", "/etc/crio/policy.json accepts"],
    );
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
