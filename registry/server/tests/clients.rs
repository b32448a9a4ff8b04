//! The programs that people pull with: skopeo, podman and containerd, each with folders of its own. What is not
//! installed is skipped, and says so.
#![allow(clippy::unwrap_used, clippy::format_push_string, missing_docs)]

#[allow(dead_code)] // the programs speak HTTP here, not the harness
mod harness;

#[path = "clients/secure.rs"]
mod secure;

use std::fs;

use hab_oci::Digest;
use hab_registry::{Access, ServiceLimits};
use harness::Server;
use harness::programs::{Containerd, Desk, needs, succeeds, write_layout};

const REPOSITORY: &str = "hab/hello";

/// A server that skopeo has pushed an image of two platforms to, as `hab/hello:v1`; `None` without skopeo.
struct World {
    desk: Desk,
    server: Server,
    index: Digest,
}

impl World {
    fn pushed_by_skopeo() -> Option<Self> {
        needs("skopeo")?;
        let desk = Desk::new();
        let index = write_layout(&desk.path("layout"));
        let world = Self { desk, server: Server::with(Access::ReadWrite, ServiceLimits::default()), index };
        let mut copy = world.desk.command("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:v1", world.desk.path("layout").display()));
        copy.arg(format!("docker://{}:v1", world.name()));
        succeeds(copy);
        Some(world)
    }

    fn name(&self) -> String {
        format!("{}/{REPOSITORY}", self.server.address)
    }

    fn by_digest(&self) -> String {
        format!("{}@{}", self.name(), self.index)
    }
}

#[test]
fn skopeo_pushes_and_pulls_by_tag_and_by_digest() {
    let Some(world) = World::pushed_by_skopeo() else { return };
    let mut inspect = world.desk.command("skopeo");
    inspect.args(["inspect", "--tls-verify=false", "--raw"]).arg(format!("docker://{}:v1", world.name()));
    assert_eq!(Digest::of(succeeds(inspect).as_bytes()), world.index, "the index was kept byte for byte");
    for (folder, reference) in [("by-tag", format!("{}:v1", world.name())), ("by-digest", world.by_digest())]
    {
        let mut copy = world.desk.command("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"]);
        copy.arg(format!("docker://{reference}"))
            .arg(format!("oci:{}:v1", world.desk.path(folder).display()));
        succeeds(copy);
        let blobs = |folder: &str| {
            let names = fs::read_dir(world.desk.path(folder).join("blobs/sha256")).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(blobs(folder), blobs("layout"));
    }
    let mut tags = world.desk.command("skopeo");
    tags.args(["list-tags", "--tls-verify=false"]).arg(format!("docker://{}", world.name()));
    assert!(succeeds(tags).contains("\"v1\""));
}

#[test]
fn podman_pulls_by_tag_and_by_digest() {
    let Some(world) = needs("podman").and_then(|()| World::pushed_by_skopeo()) else { return };
    for reference in [format!("{}:v1", world.name()), world.by_digest()] {
        let mut pull = world.desk.podman("pull");
        pull.arg("--tls-verify=false").arg(&reference);
        succeeds(pull);
    }
    let mut inspect = world.desk.podman("image");
    inspect.args(["inspect", "--format", "{{.Architecture}} {{.RepoTags}}"]).arg(world.by_digest());
    assert!(succeeds(inspect).contains(&format!("{}:v1", world.name())));
}

#[test]
fn podman_finds_a_repository_by_a_part_of_its_name() {
    let Some(world) = needs("podman").and_then(|()| World::pushed_by_skopeo()) else { return };
    let mut search = world.desk.podman("search");
    search.args(["--tls-verify=false", "--format", "{{.Name}}"]).arg(format!("{}/hel", world.server.address));
    assert_eq!(succeeds(search).trim(), world.name());
}

#[test]
fn containerd_pulls_by_tag_and_by_digest() {
    let Some(world) = World::pushed_by_skopeo() else { return };
    let Some(containerd) = Containerd::start(&world.desk) else { return };
    for reference in [format!("{}:v1", world.name()), world.by_digest()] {
        let mut pull = containerd.images("pull");
        pull.args(["--plain-http", "--snapshotter", "native"]).arg(&reference);
        succeeds(pull);
    }
    let images = succeeds(containerd.images("ls"));
    assert!(images.contains(&world.by_digest()) && images.contains(&world.index.to_string()));
}
