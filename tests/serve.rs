//! What was built is served, and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use hab_oci::Digest;
use harness::{Serving, World};

#[test]
fn the_index_its_manifest_and_layers_are_served_by_tag_and_by_digest() {
    let world = World::new();
    let built = world.build("data", "hello").good();
    let serving = Serving::start(&world);
    let (status, by_tag) = serving.get("/v2/test/hello/manifests/1.0-1");
    assert_eq!(status, 200);
    assert_eq!(Digest::of(&by_tag).to_string(), built.index());
    let (_, by_digest) = serving.get(&format!("/v2/test/hello/manifests/{}", built.index()));
    assert_eq!(by_tag, by_digest);
    let platform = &built.json["platforms"][0];
    let layers = platform["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap());
    for blob in layers.chain([platform["config"].as_str().unwrap()]) {
        let (status, bytes) = serving.get(&format!("/v2/test/hello/blobs/{blob}"));
        assert_eq!((status, Digest::of(&bytes).to_string().as_str()), (200, blob));
    }
}

#[test]
fn other_bytes_of_the_store_are_not_served() {
    let world = World::new();
    world.build("data", "hello").good();
    let serving = Serving::start(&world);
    let package = Digest::of(&world.server.get("pool/tools.deb").unwrap());
    assert_eq!(serving.get(&format!("/v2/test/hello/blobs/{package}")).0, 404);
    assert_eq!(serving.get("/v2/other/manifests/1.0-1").0, 404);
}

#[test]
fn a_build_appears_in_a_registry_that_is_already_serving() {
    let world = World::new();
    let serving = Serving::start(&world);
    assert_eq!(serving.get("/v2/test/hello/manifests/1.0-1").0, 404);
    world.build("data", "hello").good();
    assert_eq!(serving.get("/v2/test/hello/manifests/1.0-1").0, 200);
}

#[test]
fn writes_beyond_loopback_are_refused_at_start() {
    let world = World::new();
    world
        .run("data", &["serve", "--listen", "0.0.0.0:0", "--writable"])
        .refused(2, &["--writable", "loopback"]);
}
