use std::fs;

use super::tests::{CONFIG, lay, put, says};
use crate::Runtime;

#[test]
fn what_containerd_writes_by_default_is_read_as_containerd_reads_it() {
    let root = tempfile::tempdir().unwrap();
    // As `containerd config default` writes it, in version 1 and in version 2.
    for (plugin, version) in [("io.containerd.grpc.v1.cri", 2), ("io.containerd.cri.v1.images", 3)] {
        let text = format!(
            "version = {version}\n[plugins]\n  [plugins.\"{plugin}\"]\n    [plugins.\"{plugin}\".registry]\n      config_path = \"\"\n      [plugins.\"{plugin}\".registry.mirrors]\n"
        );
        put(root.path(), "etc/containerd/config.toml", &text);
        says(
            root.path(),
            Runtime::Containerd,
            &[
                "config.toml has no config_path for the CRI plugin, so no hosts.toml is read: docker.io",
                "_default/hosts.toml is not there",
            ],
        );
    }
    // A config_path in a comment, or in another plugin, does not count.
    put(
        root.path(),
        "etc/containerd/config.toml",
        "version = 2\n# config_path = \"/etc/containerd/certs.d\"\n[plugins.\"io.containerd.other\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
    );
    lay(root.path(), Runtime::Containerd);
    says(root.path(), Runtime::Containerd, &["has no config_path for the CRI plugin"]);
    // A config_path in an import counts.
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
    // In older versions the later file replaces the section; in newer ones it is merged.
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
            "one.example/hosts.toml names no server, so containerd falls back to one.example itself",
            "one.example/hosts.toml also asks https://one.example",
            "three.example/hosts.toml is not valid TOML, so three.example itself is asked",
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
    // The import has no registries, so older versions have none.
    let sandbox =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"farm:5000/pause\"\n";
    put(root.path(), "etc/containerd/conf.d/b.toml", sandbox);
    says(
        root.path(),
        Runtime::Containerd,
        &[
            "no config_path for the CRI plugin, so no hosts.toml is read: docker.io and all others are asked directly \
           (as containerd 1.x and containerd 2.0 reads it)",
        ],
    );
    // Relative to the file that imports, also within an import.
    put(root.path(), "etc/containerd/conf.d/b.toml", "imports = [\"more/*.toml\"]\n");
    let evil = config(2, "io.containerd.grpc.v1.cri", "").replace("/etc/containerd/certs.d", "/opt/certs.d");
    put(root.path(), "etc/containerd/conf.d/more/x.toml", &evil);
    says(root.path(), Runtime::Containerd, &["/opt/certs.d/_default/hosts.toml is not there"]);
    // An absent import is reported.
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
        // Since version 3 the older plugin's section is ignored.
        (3, "io.containerd.grpc.v1.cri", &["no config_path"]),
        // containerd 1.x does not know the newer plugin.
        (
            2,
            "io.containerd.cri.v1.images",
            &[
                "no config_path for the CRI plugin, so no hosts.toml is read: docker.io and all others are asked \
                 directly (as containerd 1.x",
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
    // `_default` in the first folder comes before every folder in the second.
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
