//! Many, slow or large requests against the whole program.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hab_oci::{Digest, media_type};

use crate::harness::{Serving, World};

fn serve(words: &str) -> (World, Serving) {
    let world = World::new();
    let config = std::fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{config}\n{words}\n"));
    let serving = Serving::start_with(&world, "data", &["--writable", "--no-sync"]);
    (world, serving)
}

fn connect(serving: &Serving) -> TcpStream {
    let stream = TcpStream::connect(&serving.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The status, if an answer came before the connection broke, and how writing the body ended.
fn send(serving: &Serving, head: &str, body: &[u8]) -> (Option<u16>, std::io::Result<()>) {
    let stream = connect(serving);
    let mut writing = stream.try_clone().unwrap();
    let request = format!("{head}Host: h\r\nContent-Length: {}\r\n\r\n", body.len());
    let written = writing.write_all(request.as_bytes());
    let written = written.and_then(|()| body.chunks(32 << 10).try_for_each(|piece| writing.write_all(piece)));
    let mut answer = [0; 12];
    let read = (&stream).read_exact(&mut answer);
    (read.ok().map(|()| std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()), written)
}

#[test]
fn thousands_of_half_sent_requests_of_one_address_stop_nobody() {
    let (_world, serving) = serve("");
    let held: Vec<_> = (0..1030)
        .map(|n| {
            let mut stream = connect(&serving);
            let _ = stream.write_all(&b"GET /v2/ HTTP/1.1\r\nHost: h\r\n"[..n % 29]);
            stream
        })
        .collect();
    // For a tenth of a second a new connection is not ended for another one.
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    assert_eq!(serving.get("/v2/").0, 200);
    assert_eq!(serving.get("/healthz").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(held);
}

#[test]
fn every_client_that_sends_its_whole_body_sees_why_it_was_refused() {
    let (_world, serving) = serve("[registry.access]\n[registry.limit]\nrequests = 2\nburst = 60\n");
    let body = vec![7; 8 << 20];
    let mut seen = Vec::new();
    for n in 0..200 {
        let shown = if n % 2 == 0 { "" } else { "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n" };
        let head = format!("POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\n{shown}", Digest::of(b""));
        let (status, written) = send(&serving, &head, &body[..(1 + n % 8) << 20]);
        written.unwrap_or_else(|error| panic!("{n}: {error}"));
        seen.push(status.unwrap());
    }
    assert!(seen.contains(&401) && seen.contains(&429), "{seen:?}");
    assert!(seen.iter().all(|status| [401, 429].contains(status)), "{seen:?}");
}

#[test]
fn whoever_pushes_while_indexes_of_tens_of_thousands_of_entries_come_is_not_held_up() {
    let (_world, serving) = serve("");
    let index = |seed: usize| {
        let entry = |n: usize| {
            let digest = Digest::of(format!("{seed} {n}").as_bytes());
            format!("{{\"mediaType\":\"{}\",\"digest\":\"{digest}\",\"size\":1}}", media_type::IMAGE_MANIFEST)
        };
        let entries: Vec<_> = (0..20_000).map(entry).collect();
        format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", entries.join(","))
    };
    let indexes: Vec<_> = (0..9).map(index).collect();
    let put = |seed: usize| {
        let kind = media_type::IMAGE_INDEX;
        let head = format!("PUT /v2/large/manifests/v{seed} HTTP/1.1\r\nContent-Type: {kind}\r\n");
        assert_eq!(send(&serving, &head, indexes[seed].as_bytes()).0, Some(201));
    };
    let alone = Instant::now();
    put(8);
    let alone = alone.elapsed();
    let longest = std::thread::scope(|scope| {
        let large: Vec<_> = (0..8).map(|seed| scope.spawn(move || put(seed))).collect();
        let mut longest = Duration::ZERO;
        for n in 0.. {
            let begun = Instant::now();
            let bytes = format!("small {n}");
            let digest = Digest::of(bytes.as_bytes());
            let head = format!("POST /v2/small/blobs/uploads/?digest={digest} HTTP/1.1\r\n");
            assert_eq!(send(&serving, &head, bytes.as_bytes()).0, Some(201));
            longest = longest.max(begun.elapsed());
            if large.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        longest
    });
    assert!(longest < alone * 5, "one index takes {alone:?}, and somebody else waited {longest:?}");
}
