//! Layouts that skopeo and podman write and read.

use std::fs;
use std::process::{Command, Stdio};

use super::layout::{imported, layer, path, registry};
use crate::harness::{Serving, World};
use hab_oci::Digest;
use serde_json::{Value, json};

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        hab_skip::skip(hab_skip::Lack::Program, format_args!("no {program}"));
    }
    found
}

/// Runs a program that finds no settings of the user who runs the test.
fn client(world: &World, words: &[&str]) -> String {
    let home = world.path("home");
    fs::create_dir_all(&home).unwrap();
    let mut command = Command::new("timeout");
    command
        .arg("120")
        .args(words)
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &home)
        .env("XDG_DATA_HOME", &home);
    let output = command.env("TMPDIR", &home).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_reads_what_is_exported_and_writes_what_is_imported() {
    if !has("skopeo") {
        return;
    }
    let (world, _) = imported();
    // skopeo copies all platforms or one of them; this image has one.
    let out = |name: &str| path(&world, name);
    registry(&world, "data", &["export", "test/all:v1", &out("out")]).good();
    registry(&world, "data", &["export", "test/all:v1", &out("out.tar")]).good();
    let amd64 = ["skopeo", "--insecure-policy", "--override-arch", "amd64", "--override-os", "linux", "copy"];
    for (n, from) in
        [format!("oci:{}:v1", out("out")), format!("oci-archive:{}:v1", out("out.tar"))].iter().enumerate()
    {
        for (kind, name) in [("oci", format!("back{n}")), ("oci-archive", format!("back{n}.tar"))] {
            let to = format!("{kind}:{}:v7", out(&name));
            client(&world, &[&amd64[..], &[from, &to]].concat());
            let data = format!("again-{name}");
            let said = registry(&world, &data, &["import", &out(&name), "from/skopeo"]).good().json;
            assert_eq!((said["tags"].as_object().unwrap().len(), &said["blobs"]), (1, &json!(2)));
            assert!(said["tags"]["v7"].is_string());
        }
    }
}

/// The image's layer: its descriptor in the manifest, and the configuration.
fn layer_of(world: &World, data: &str, repository: &str) -> (Value, Value) {
    let serving = Serving::start_with(world, data, &[]);
    let json = |path: &str| -> Value { serde_json::from_slice(&serving.get(path).1).unwrap() };
    let manifest = json(&format!("/v2/{repository}/manifests/v1"));
    let digest = manifest["config"]["digest"].as_str().unwrap();
    let config = json(&format!("/v2/{repository}/blobs/{digest}"));
    (manifest["layers"][0]["digest"].clone(), config["rootfs"]["diff_ids"][0].clone())
}

#[test]
fn what_skopeo_writes_for_docker_is_imported() {
    if !has("skopeo") {
        return;
    }
    let (world, _) = imported();
    registry(&world, "data", &["export", "test/all:v1", &path(&world, "out")]).good();
    let from = format!("oci:{}:v1", path(&world, "out"));
    let to = format!("docker-archive:{}:localhost/saved/by:v1", path(&world, "saved.tar"));
    let amd64 = ["skopeo", "--insecure-policy", "--override-arch", "amd64", "--override-os", "linux", "copy"];
    client(&world, &[&amd64[..], &[&from, &to]].concat());
    let said = registry(&world, "second", &["import", &path(&world, "saved.tar"), "from/skopeo"]).good().json;
    assert_eq!((&said["blobs"], &said["manifests"]), (&json!(2), &json!(1)));
    let plain = json!(Digest::of(&layer().0));
    assert_eq!(layer_of(&world, "second", "from/skopeo"), (plain.clone(), plain));
    // Another import makes the same manifest, in another farm and under another name.
    let again = registry(&world, "third", &["import", &path(&world, "saved.tar"), "mine:v1"]).good().json;
    assert_eq!(again["tags"]["v1"], said["tags"]["v1"]);
    // And skopeo reads it back.
    registry(&world, "second", &["export", "from/skopeo:v1", &path(&world, "back.tar")]).good();
    let back = format!("oci-archive:{}:v1", path(&world, "back.tar"));
    client(&world, &[&amd64[..], &[&back, &format!("dir:{}", path(&world, "back"))]].concat());
}

#[test]
fn podman_loads_what_is_exported_and_saves_what_is_imported() {
    if !has("podman") {
        return;
    }
    let (world, _) = imported();
    registry(&world, "data", &["export", "test/all:v1", &path(&world, "out.tar"), "--no-referrers"]).good();
    let policy = world.file("policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}");
    let (root, run) = (path(&world, "root"), path(&world, "run"));
    let podman = ["podman", "--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
    let file = path(&world, "out.tar");
    let loaded =
        client(&world, &[&podman[..], &["load", "--signature-policy", &policy, "-q", "-i", &file]].concat());
    let name = loaded.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(name, "localhost/test/all:v1", "an archive loads under its repository's name");
    let saved = path(&world, "saved.tar");
    client(&world, &[&podman[..], &["save", "-q", "--format", "oci-archive", "-o", &saved, &name]].concat());
    let said = registry(&world, "second", &["import", &saved, "from/podman:v1"]).good().json;
    assert_eq!(said["blobs"], 2);
    let serving = Serving::start_with(&world, "second", &[]);
    let json = |path: &str| -> Value { serde_json::from_slice(&serving.get(path).1).unwrap() };
    let manifest = json("/v2/from/podman/manifests/v1");
    let config = json(&format!("/v2/from/podman/blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    // podman compresses the layer again, so only its uncompressed content is the same.
    assert_eq!(config["rootfs"]["diff_ids"][0], Digest::of(&layer().0).to_string());
    // An archive as docker saves it: with several names, and links to layers.
    let saved = path(&world, "docker.tar");
    client(&world, &[&podman[..], &["tag", &name, "localhost/other/name:v2"]].concat());
    let names = [name.as_str(), "localhost/other/name:v2"];
    client(
        &world,
        &[&podman[..], &["save", "-q", "-m", "--format", "docker-archive", "-o", &saved], &names].concat(),
    );
    let said = registry(&world, "third", &["import", &saved, "from/podman"]).good().json;
    assert_eq!((&said["blobs"], said["tags"].as_object().unwrap().len()), (&json!(2), 2));
}
