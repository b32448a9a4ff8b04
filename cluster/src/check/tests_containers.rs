use std::fs;

use super::tests::{lay, put, says, words};
use crate::Runtime;

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
    // The farm's files beside the host's short names: these lead to the farm, or nowhere.
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
fn settings_of_each_person_are_judged_as_theirs() {
    let root = tempfile::tempdir().unwrap();
    lay(root.path(), Runtime::Podman);
    // In addition to the host's settings.
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
    // Instead of the host's settings, and just as good.
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
