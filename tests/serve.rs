//! What was built is served, and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use hab_oci::Digest;
use harness::World;

struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(world: &World) -> Self {
        let mut child = world.start("data", &["serve", "--listen", "127.0.0.1:0", "--json"]);
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains('}') {
            assert!(reader.read_line(&mut text).unwrap() > 0, "serve ended: {text}");
        }
        let address =
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["listen"].as_str().unwrap().to_owned();
        Self { child, address }
    }

    /// (status, body)
    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let at = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer[at + 4..].to_vec())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
