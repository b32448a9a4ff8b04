//! The service is killed at any point while clients push and a collection runs: nothing acknowledged is lost, and
//! nothing partial is served. HAB_TEST_KILLS is the number of kills (default 6).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::{Serving, World};
use hab_oci::{Descriptor, Digest, media_type};

const NAME: &str = "/v2/test/killed";

/// Where each tag may be, as far as clients know: one place after an acknowledgement, several before it.
type Places = BTreeMap<String, BTreeSet<Option<Digest>>>;

struct Reply {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

/// Sends one request on its own connection; a killed server does not answer.
fn ask(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(cut)?;
    let head = String::from_utf8_lossy(&answer[..at]).into_owned();
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    let body = answer[at + 4..].to_vec();
    if header("content-length").is_some_and(|(_, length)| length.parse() != Ok(body.len())) {
        return Err(cut());
    }
    let location = header("location").map(|(_, location)| location.to_owned());
    Ok(Reply { status: head[9..12].parse().unwrap(), location, body })
}

/// Bytes that depend only on `n`. There are few different layers, so pushers share and lose each other's.
fn layer(n: u64) -> Vec<u8> {
    let length = if n.is_multiple_of(4) { 5 << 20 } else { 40_000 };
    (0..length)
        .map(|i: u32| (u64::from(i.wrapping_mul(2_654_435_761)) >> 13).wrapping_add(n).to_le_bytes()[0])
        .collect()
}

fn push_blob(address: &str, bytes: &[u8], in_pieces: bool) -> io::Result<u16> {
    let digest = Digest::of(bytes);
    if !in_pieces {
        let path = format!("{NAME}/blobs/uploads/?digest={digest}");
        return Ok(ask(address, "POST", &path, "", bytes)?.status);
    }
    let Some(upload) = ask(address, "POST", &format!("{NAME}/blobs/uploads/"), "", b"")?.location else {
        return Ok(500);
    };
    for piece in bytes.chunks(3 << 20) {
        let status = ask(address, "PATCH", &upload, "", piece)?.status;
        if status != 202 {
            return Ok(status);
        }
    }
    Ok(ask(address, "PUT", &format!("{upload}?digest={digest}"), "", b"")?.status)
}

/// Pushes images under its own tags until nobody answers.
fn push(address: &str, who: u64, rounds: &AtomicU64, places: &Mutex<Places>) -> io::Result<()> {
    loop {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        let (config, layer) = (format!("{{\"n\":{}}}", round % 5).into_bytes(), layer(round % 7));
        let describe = |d: Descriptor| {
            format!("{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{}}}", d.media_type, d.digest, d.size)
        };
        let manifest = format!(
            "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}],\"annotations\":{{\"r\":\"{who}-{round}\"}}}}",
            describe(Descriptor::of(media_type::IMAGE_CONFIG, &config)),
            describe(Descriptor::of(media_type::LAYER_GZIP, &layer)),
        );
        let (tag, digest) = (format!("t{who}-{}", round % 3), Digest::of(manifest.as_bytes()));
        // Recorded before the push: from now on the tag may be at the new place or still at the old one.
        let known = places
            .lock()
            .unwrap()
            .entry(tag.clone())
            .or_insert_with(|| [None].into())
            .insert(Some(digest.clone()));
        assert!(known, "every manifest is another one");
        loop {
            for (bytes, in_pieces) in [(&config, false), (&layer, round.is_multiple_of(2))] {
                assert_eq!(push_blob(address, bytes, in_pieces)?, 201);
            }
            let kind = format!("Content-Type: {}\r\n", media_type::IMAGE_MANIFEST);
            let put = ask(address, "PUT", &format!("{NAME}/manifests/{tag}"), &kind, manifest.as_bytes())?;
            match put.status {
                201 => break,
                // A collection removed a blob in between, and the client was told so: it begins again.
                400 if String::from_utf8_lossy(&put.body).contains("MANIFEST_BLOB_UNKNOWN") => {}
                other => panic!("{other}: {}", String::from_utf8_lossy(&put.body)),
            }
        }
        places.lock().unwrap().insert(tag, [Some(digest)].into());
    }
}

/// Every tag is where it was acknowledged to be, and can be pulled with all its parts.
fn all_is_there(serving: &Serving, places: &mut Places, round: u64) {
    for (tag, may_be) in places.iter_mut() {
        let (status, bytes) = serving.get(&format!("{NAME}/manifests/{tag}"));
        let found = (status == 200).then(|| Digest::of(&bytes));
        assert!(
            matches!(status, 200 | 404) && may_be.contains(&found),
            "{tag} after kill {round}: {found:?}, not {may_be:?}"
        );
        *may_be = [found.clone()].into();
        if found.is_none() {
            continue;
        }
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for part in [&manifest["config"], &manifest["layers"][0]] {
            let digest = part["digest"].as_str().unwrap();
            let (status, bytes) = serving.get(&format!("{NAME}/blobs/{digest}"));
            assert_eq!(
                (status, Digest::of(&bytes).to_string().as_str()),
                (200, digest),
                "{tag} after kill {round}"
            );
        }
    }
}

#[test]
fn whenever_the_service_is_killed_everything_acknowledged_is_pulled_whole() {
    let kills = std::env::var("HAB_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6_u64);
    let world = World::new();
    let text = fs::read_to_string(world.path("hab.toml")).unwrap();
    // Without grace, so that everything that no tag holds is removed at once.
    world.file("hab.toml", format!("{text}[registry]\ngrace = \"0s\"\ncollect = \"1s\"\n"));
    let (rounds, places) = (AtomicU64::new(0), Mutex::new(Places::new()));
    let mut acknowledged = 0;
    for kill in 0..kills {
        let serving = Serving::start_with(&world, "data", &["--writable", "--no-sync"]);
        let (address, killed) = (serving.address.clone(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for who in 0..3 {
                let (address, rounds, places) = (&address, &rounds, &places);
                // The thread ends with the service. A panic in it fails the test.
                scope.spawn(move || push(address, who, rounds, places));
            }
            let (world, stop) = (&world, &killed);
            let collector = scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut gc = world.start("data", &["registry", "gc"]);
                    while gc.try_wait().unwrap().is_none() {
                        if stop.load(Ordering::Relaxed) {
                            gc.kill().unwrap();
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(400 + 173 * (kill % 7)));
            drop(serving);
            killed.store(true, Ordering::Relaxed);
            collector.join().unwrap();
        });
        let serving = Serving::start_with(&world, "data", &["--no-sync"]);
        let mut places = places.lock().unwrap();
        acknowledged += places.values().filter(|may_be| may_be.len() == 1 && !may_be.contains(&None)).count();
        all_is_there(&serving, &mut places, kill);
        let collected = world.run("data", &["registry", "gc"]);
        // The service collects too, every second.
        assert!(
            collected.code == Some(0) || collected.stderr.contains("another collection"),
            "{}",
            collected.stderr
        );
        all_is_there(&serving, &mut places, kill);
        drop(serving);
        let scrubbed = world.run("data", &["registry", "scrub", "--json"]).good();
        assert_eq!(
            (&scrubbed.json["damaged"], &scrubbed.json["missing"]),
            (&serde_json::json!([]), &serde_json::json!([]))
        );
    }
    println!("{} pushes begun, {acknowledged} acknowledged places looked at", rounds.load(Ordering::Relaxed));
    assert!(acknowledged > 0, "nothing was ever acknowledged");
}
