//! Built images are served, and nothing else.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use crate::harness::{Serving, World};
use hab_oci::Digest;

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
fn a_service_with_nothing_to_do_reads_nothing() {
    let world = World::new();
    let serving = Serving::start(&world);
    let began = Instant::now();
    loop {
        let before = serving.has_read();
        std::thread::sleep(Duration::from_secs(3));
        if serving.has_read() == before {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it reads again and again");
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
fn fewer_connections_than_were_wanted_are_said_at_start_and_too_many_are_refused() {
    let world = World::new();
    let log = world.path("log");
    let serving = Serving::start_limited(&world, "-n 300", File::create(&log).unwrap().into());
    assert_eq!(serving.get("/v2/").0, 200);
    let said = fs::read_to_string(&log).unwrap();
    let sentence = "warning: the system lets this process open 300 files, so there are at most 86 connections, and not \
                    the 1024 that [registry.connections] allows; raise the limit";
    assert!(said.contains(sentence), "{said}");
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{config}\n[registry.connections]\nall = 100000\n"));
    let refused = world.run("data", &["serve", "--listen", "127.0.0.1:0"]);
    refused.refused(2, &["[registry.connections] all is 100000: it has to be 4 to 65536"]);
}

#[test]
fn writes_beyond_loopback_are_refused_at_start() {
    let world = World::new();
    world
        .run("data", &["serve", "--listen", "0.0.0.0:0", "--writable"])
        .refused(2, &["--writable", "loopback"]);
}

#[test]
fn one_farm_pulls_another_through_and_tells_a_host_how_to_ask_it() {
    let world = World::new();
    let built = world.build("data", "hello").good();
    let first = Serving::start(&world);
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    let more = format!(
        "{config}\n[registry.upstream.\"first.example\"]\nurl = \"http://{}\"\nttl = \"1h\"\n",
        first.address
    );
    world.file("hab.toml", more);
    let second = Serving::start_with(&world, "other", &["--no-sync"]);
    let path = "/v2/first.example/test/hello/manifests/1.0-1";
    let (status, index) = second.get(path);
    assert_eq!((status, Digest::of(&index).to_string()), (200, built.index()));
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let image = index["manifests"][0]["digest"].as_str().unwrap();
    let (status, manifest) = second.get(&format!("/v2/test/hello/manifests/{image}?ns=first.example"));
    assert_eq!((status, Digest::of(&manifest).to_string().as_str()), (200, image));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let (status, bytes) = second.get(&format!("/v2/first.example/test/hello/blobs/{layer}"));
    assert_eq!((status, Digest::of(&bytes).to_string().as_str()), (200, layer));
    drop(first);
    assert_eq!(second.get(path).0, 200);

    let host = world.path("host").display().to_string();
    let cluster = |more: &[&str]| {
        let words = ["cluster", "config", "containerd", "--registry", "http://farm:5000", "--json"];
        world.run("other", &[&words, more].concat())
    };
    let words =
        ["cluster", "config", "containerd", "--registry", "http://farm:5000", "--check", "--root", &host];
    world.run("other", &words).refused(3, &["ways lead past http://farm:5000"]);
    cluster(&["--write", &host]).good();
    let hosts = world.path("host/etc/containerd/certs.d/first.example/hosts.toml");
    assert!(fs::read_to_string(hosts).unwrap().contains("server = \"http://farm:5000\""));
    world
        .run("other", &["cluster", "config", "podman", "--registry", "farm", "--json"])
        .refused(2, &["is not an address such as"]);
    world.file("hab.toml", format!("{config}\n[registry.upstream.\"a/b\"]\nurl = \"http://h.invalid\"\n"));
    world
        .run("other", &["serve", "--listen", "127.0.0.1:0", "--json"])
        .refused(2, &["one part of a repository's name"]);
}
