//! Another registry as an upstream: pulled through with a policy of signatures, synced, and used to mend blobs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Outcome, Serving, World};
use hab_oci::{Descriptor, Digest, media_type};

/// An Ed25519 public key whose private key nobody has.
const OTHER: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

/// A world with a farm that has built an image and serves it to those who may push as well.
fn world() -> (World, Serving, String) {
    let world = World::new();
    let built = world.build("data", "hello").good();
    let first = Serving::start_with(&world, "data", &["--writable", "--no-sync"]);
    (world, first, built.index())
}

/// Configures another farm with the first one as its upstream; `more` is further text of the upstream's table.
fn configure(world: &World, first: &Serving, more: &str) {
    let path = world.path("hab.toml");
    let plain = world.path("plain.toml");
    if !plain.exists() {
        fs::copy(&path, &plain).unwrap();
    }
    let table = format!(
        "[registry.upstream.\"first.example\"]\nurl = \"http://{}\"\nttl = \"1s\"\n{more}\n",
        first.address
    );
    world.file("hab.toml", format!("{}\n{table}", fs::read_to_string(plain).unwrap()));
}

/// Runs openssl and returns what it prints; `None` where it is not installed.
fn openssl(words: &[&str]) -> Option<Vec<u8>> {
    let Ok(output) = Command::new("openssl").args(words).output() else {
        hab_skip::skip(hab_skip::Lack::Program, "no openssl");
        return None;
    };
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// Makes `cosign.key` and `cosign.pub`.
fn make_key(world: &World) -> Option<()> {
    let (key, public) = (world.path("cosign.key"), world.path("cosign.pub"));
    let [key, public] = [&key, &public].map(|path| path.to_str().unwrap());
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])?;
    openssl(&["pkey", "-in", key, "-pubout", "-out", public])?;
    Some(())
}

/// Signs an image as cosign does, but with openssl, and pushes the signature to where cosign pushes it.
fn sign(world: &World, first: &Serving, index: &str) {
    let payload = format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{}/test/hello\"}},\"image\":{{\"docker-manifest-digest\":\
         \"{index}\"}},\"type\":\"cosign container image signature\"}},\"optional\":null}}",
        first.address
    );
    world.file("payload", &payload);
    let (key, file) = (world.path("cosign.key"), world.path("payload"));
    let [key, file] = [&key, &file].map(|path| path.to_str().unwrap());
    let signature = base64(&openssl(&["dgst", "-sha256", "-sign", key, file]).unwrap());
    let config = b"{}";
    for blob in [payload.as_bytes(), config] {
        let digest = Digest::of(blob);
        let path = format!("/v2/test/hello/blobs/uploads/?digest={digest}");
        assert_eq!(send(first, "POST", &path, "application/octet-stream", blob), 201);
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "config": Descriptor::of(media_type::IMAGE_CONFIG, config),
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": Digest::of(payload.as_bytes()),
            "size": payload.len(),
            "annotations": { "dev.cosignproject.cosign/signature": signature },
        }],
    });
    let path = format!("/v2/test/hello/manifests/{}.sig", index.replace(':', "-"));
    let bytes = manifest.to_string().into_bytes();
    assert_eq!(send(first, "PUT", &path, media_type::IMAGE_MANIFEST, &bytes), 201);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { letter.into() } else { '=' });
        }
    }
    text
}

/// Sends a request and returns the status of the answer.
fn send(farm: &Serving, method: &str, path: &str, kind: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(&farm.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}

/// The status of a GET, and the digest of the body, or its text after an error.
fn get(farm: &Serving, path: &str) -> (u16, String) {
    let (status, body) = farm.get(path);
    (status, if status == 200 { Digest::of(&body).to_string() } else { String::from_utf8(body).unwrap() })
}

fn manifest(reference: &str) -> String {
    format!("/v2/first.example/test/hello/manifests/{reference}")
}

fn sync(world: &World, words: &[&str]) -> Outcome {
    world.run("other", &[&["registry", "sync"], words, &["--json"]].concat())
}

#[test]
fn an_image_is_served_when_it_is_signed_as_the_policy_wants_and_not_before() {
    let (world, first, index) = world();
    if make_key(&world).is_none() {
        return;
    }
    world.file("other.pub", OTHER);
    let key = |name: &str| world.path(name).display().to_string();
    let signed = |keys: &[&str], more: &str| {
        let keys: Vec<String> = keys.iter().map(|name| format!("{:?}", key(name))).collect();
        configure(&world, &first, &format!("signed = [{{ keys = [{}]{more} }}]", keys.join(", ")));
    };
    signed(&["cosign.pub"], "");
    let second = Serving::start_with(&world, "other", &["--no-sync"]);
    let (status, said) = get(&second, &manifest("1.0-1"));
    assert_eq!(status, 403);
    for words in ["DENIED", &index, "0 of 1 keys signed it and 1 have to", "none is by", "cosign.pub"] {
        assert!(said.contains(words), "{said}");
    }
    sign(&world, &first, &index);
    let path = format!("/v2/first.example/test/hello/manifests/{index}");
    let start = Instant::now();
    while get(&second, &path).0 != 200 {
        assert!(start.elapsed() < Duration::from_secs(20), "it is signed, and refused");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(get(&second, &manifest("1.0-1")), (200, index.clone()));
    drop(second);
    // Without the upstream the decision is the same; with another policy it differs.
    let second = Serving::start_with(&world, "other", &["--offline"]);
    assert_eq!(get(&second, &manifest("1.0-1")), (200, index.clone()));
    drop(second);
    let mine = format!("{}/test/hello", first.address).replace(':', "*");
    for (keys, more, status, words) in [
        (vec!["other.pub"], String::new(), 403, "none is by"),
        (vec!["cosign.pub", "other.pub"], String::new(), 200, ""),
        (
            vec!["cosign.pub", "other.pub"],
            ", threshold = 2".to_owned(),
            403,
            "1 of 2 keys signed it and 2 have to",
        ),
        (vec!["cosign.pub"], format!(", identity = [\"{mine}\"]"), 200, ""),
        (
            vec!["cosign.pub"],
            ", identity = [\"elsewhere/*\"]".to_owned(),
            403,
            "for this repository (one is for",
        ),
        (vec!["other.pub"], ", repositories = [\"other/*\"]".to_owned(), 200, ""),
    ] {
        signed(&keys, &more);
        let second = Serving::start_with(&world, "other", &["--offline"]);
        let said = get(&second, &manifest("1.0-1"));
        assert!(said.0 == status && said.1.contains(words), "{keys:?} {more}: {said:?}");
    }
}

#[test]
fn a_repository_is_synced_by_hand_and_on_schedule_and_served_without_upstream() {
    let (world, first, index) = world();
    configure(
        &world,
        &first,
        "[[registry.upstream.\"first.example\".sync]]\nrepository = \"test/hello\"\ntags = { regex = \"[0-9.]+-1\", newest = 2 }",
    );
    let row = |outcome: &Outcome| outcome.json[0]["tags"][0].clone();
    let would = sync(&world, &["--dry-run", "first.example/test/hello"]).good();
    assert_eq!(
        (row(&would)["change"].as_str(), row(&would)["digest"].as_str()),
        (Some("new"), Some(index.as_str()))
    );
    assert!(
        would.stderr.contains(&format!("first.example/test/hello:1.0-1 would be {index}, new")),
        "{}",
        would.stderr
    );
    let done = sync(&world, &["first.example"]).good();
    assert_eq!((row(&done)["change"].as_str(), done.json[0]["listed"].as_u64()), (Some("new"), Some(1)));
    assert!(done.json[0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(row(&sync(&world, &[]).good())["change"], "same");
    // The environment's proxies lead nowhere, and are not used.
    let mut alone = world.command("alone", &["registry", "sync"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        alone.env(name, "http://127.0.0.1:9");
    }
    Outcome::of(&alone.output().unwrap()).good();
    sync(&world, &["other.example"]).refused(2, &["there is no sync rule for other.example", "hab.toml"]);
    sync(&world, &["--offline"]).refused(2, &["--offline syncs nothing"]);
    // Another farm, which nobody told to sync.
    let third = Serving::start_with(&world, "third", &[]);
    let start = Instant::now();
    while !world
        .run("third", &["registry", "list", "first.example/test/hello", "--json"])
        .stderr
        .contains(&index)
    {
        assert!(start.elapsed() < Duration::from_secs(30), "it is not synced by itself");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(third);
    drop(first);
    let outcome = sync(&world, &[]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 of 1 images are not synced"), "{}", outcome.stderr);
    for data in ["other", "third"] {
        let farm = Serving::start_with(&world, data, &["--offline"]);
        assert_eq!(get(&farm, &manifest("1.0-1")), (200, index.clone()));
        let (_, bytes) = farm.get(&manifest("1.0-1"));
        let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let image = list["manifests"][0]["digest"].as_str().unwrap();
        let (status, bytes) = farm.get(&manifest(image));
        assert_eq!(status, 200);
        let image: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for layer in image["layers"].as_array().unwrap() {
            let digest = layer["digest"].as_str().unwrap();
            let (status, got) = get(&farm, &format!("/v2/first.example/test/hello/blobs/{digest}"));
            assert_eq!((status, got.as_str()), (200, digest));
        }
    }
}

#[test]
fn a_sync_waits_for_another_one_of_the_same_upstream() {
    let (world, first, _) = world();
    configure(
        &world,
        &first,
        "[[registry.upstream.\"first.example\".sync]]\nrepository = \"test/hello\"\ntags = \"*\"",
    );
    fs::create_dir_all(world.path("other/work")).unwrap();
    let lock = fs::File::create(world.path("other/work/sync-first.example.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = world.start("other", &["registry", "sync"]);
    let files = format!("/proc/{}/fd", child.id());
    let has_open = |path: &Path| {
        let open = fs::read_dir(&files).into_iter().flatten().flatten();
        open.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == path)
    };
    let begun = Instant::now();
    while !has_open(&world.path("other/work/sync-first.example.lock")) {
        assert_eq!(child.try_wait().unwrap(), None, "it did not wait");
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not ask for the lock");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.try_wait().unwrap(), None, "it did not wait");
    drop(lock);
    Outcome::of(&child.wait_with_output().unwrap()).good();
}

#[test]
fn a_damaged_blob_is_fetched_again_by_a_scrub() {
    let (world, first, _) = world();
    configure(
        &world,
        &first,
        "[[registry.upstream.\"first.example\".sync]]\nrepository = \"test/hello\"\ntags = \"*\"",
    );
    sync(&world, &[]).good();
    let blobs = crate::harness::files_below(&world.path("other/blobs/sha256"));
    let (path, bytes) = blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    damage(path, b"something else");
    let scrub = |words: &[&str]| world.run("other", &[&["registry", "scrub", "--json"], words].concat());
    let digest = Digest::of(bytes).to_string();
    let found = scrub(&[]).good();
    assert_eq!(found.json["damaged"][0].as_str(), Some(digest.as_str()));
    assert_eq!(found.json["mended"][0].as_str(), Some(digest.as_str()));
    assert!(found.stderr.contains("damaged, set aside; fetched again"), "{}", found.stderr);
    assert_eq!(&fs::read(path).unwrap(), bytes);
    damage(path, b"again");
    let found = scrub(&["--offline"]);
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    assert_eq!(found.json["mended"].as_array().map(Vec::len), Some(0));
    // While the upstream is there, a request for the blob mends it.
    let second = Serving::start_with(&world, "other", &["--no-sync"]);
    assert_eq!(get(&second, &format!("/v2/first.example/test/hello/blobs/{digest}")), (200, digest));
}

fn damage(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_upstream_that_cannot_be_is_refused_at_start() {
    let (world, first, _) = world();
    configure(&world, &first, "signed = [{ keys = [\"/nowhere/cosign.pub\"] }]");
    world
        .run("other", &["serve", "--listen", "127.0.0.1:0", "--json"])
        .refused(2, &["upstream first.example", "cannot read /nowhere/cosign.pub"]);
    configure(&world, &first, "proxy = \"proxy.example\"");
    world
        .run("other", &["serve", "--listen", "127.0.0.1:0", "--json"])
        .refused(2, &["its proxy is not like http://proxy.example:3128"]);
}
