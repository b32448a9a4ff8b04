//! Clients that are many, slow, or go on sending after they were answered.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hab_oci::{Digest, media_type};
use hab_registry::{Access, Rate, ServiceLimits};

use crate::access::guarded;
use crate::harness::secure::{Files, basic, basic_with};
use crate::harness::{Reply, Server, Setup, manifest};

/// How a client sends its body.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    /// Go's net/http: it reads while it writes, and reports it if writing fails.
    Meanwhile,
    /// Simpler ones: they read when all is written.
    Afterwards,
}

/// Sends a request; its status, or why writing or reading failed.
fn push(address: SocketAddr, head: &str, body: &[u8], reads: Reads) -> Result<u16, std::io::Error> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut writing = stream.try_clone()?;
    let request = format!("{head}Host: h\r\nContent-Length: {}\r\n\r\n", body.len());
    std::thread::scope(|scope| {
        let mut writer = Some(scope.spawn(move || {
            writing.write_all(request.as_bytes())?;
            body.chunks(32 << 10).try_for_each(|piece| writing.write_all(piece))
        }));
        if reads == Reads::Afterwards {
            writer.take().unwrap().join().unwrap()?;
        }
        let mut answer = [0; 12];
        let read = (&stream).read_exact(&mut answer);
        writer.map_or(Ok(()), |writer| writer.join().unwrap())?;
        read?;
        Ok(std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap())
    })
}

#[test]
fn a_client_that_sends_its_whole_body_sees_why_it_was_refused() {
    let files = Files::new();
    let access = files.access(&["alice"], &[]);
    let setup =
        Setup { access: Some(access), rate: Some(Rate { requests: 1, burst: 40 }), ..Setup::default() };
    let server =
        Server::set_up(Access::ReadWrite, ServiceLimits { blob: 1 << 20, ..ServiceLimits::default() }, setup);
    let body: Vec<u8> = (0..2_u32 << 20).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&body);
    let (wrong, right) = (basic_with("alice", "wrong"), basic("alice"));
    let mut seen = Vec::new();
    for n in 0..100 {
        let size = (1 + n % 8) << 20;
        let (shown, path) = match n % 4 {
            0 => (String::new(), format!("/v2/a/blobs/uploads/?digest={digest}")),
            1 => (format!("Authorization: {wrong}\r\n"), format!("/v2/a/blobs/uploads/?digest={digest}")),
            // Too large, by a length that is said, and no such endpoint.
            2 => (format!("Authorization: {right}\r\n"), format!("/v2/a/blobs/uploads/?digest={digest}")),
            _ => (format!("Authorization: {right}\r\n"), "/v2/a/manifests/v1".to_owned()),
        };
        let method = if n % 4 == 3 { "PUT" } else { "POST" };
        let head = format!("{method} {path} HTTP/1.1\r\n{shown}");
        let (body, reads) = (&body[..size], if n % 8 < 4 { Reads::Meanwhile } else { Reads::Afterwards });
        let status = push(server.address, &head, body, reads);
        seen.push(status.unwrap_or_else(|error| panic!("{n}: {error}")));
    }
    for status in [401, 413, 429] {
        assert!(seen.contains(&status), "{status} of {seen:?}");
    }
    assert!(seen.iter().all(|status| [400, 401, 413, 429].contains(status)), "{seen:?}");
}

#[test]
fn a_small_rest_of_a_body_is_thrown_away_and_the_connection_kept() {
    let files = Files::new();
    let server = guarded(files.access(&["alice"], &[]));
    let mut stream = server.connect();
    for _ in 0..5 {
        let head = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let answer = one_answer(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("connection: close"), "{answer}");
        stream.write_all(&vec![0; 200_000]).unwrap();
    }
    let large = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n";
    stream.write_all(large.as_bytes()).unwrap();
    let answer = one_answer(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "its end is told before the rest has come");
    stream.write_all(&vec![0; 2_000_000]).unwrap();
}

/// A client that waits for a 100 before it sends gets the answer instead, and need not send.
#[test]
fn who_asks_before_it_sends_is_answered_without_its_body() {
    let files = Files::new();
    let server = guarded(files.access(&["alice"], &[]));
    let expect = |shown: &str| {
        let mut stream = server.connect();
        let head = format!(
            "POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{shown}Content-Length: 3\r\n\r\n",
            Digest::of(b"abc")
        );
        stream.write_all(head.as_bytes()).unwrap();
        (one_answer(&mut stream), stream)
    };
    let (answer, mut stream) = expect("");
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"), "{answer}");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let (answer, mut stream) = expect(&format!("Authorization: {}\r\n", basic("alice")));
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
    stream.write_all(b"abc").unwrap();
    assert!(one_answer(&mut stream).starts_with("HTTP/1.1 201"));
}

/// The head of an answer, in small letters but for its first line, after which its body was read, too.
fn one_answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (status, fields) = head.split_once("\r\n").unwrap();
    let fields = fields.to_lowercase();
    if let Some(length) = fields.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    }
    format!("{status}\r\n{fields}")
}

/// A connection from another address of this machine.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn however_many_requests_one_client_leaves_half_sent_others_are_answered_at_once() {
    let limits = ServiceLimits { connections: 40, ..ServiceLimits::default() };
    let patience = limits.head;
    let server = Server::with(Access::ReadWrite, limits);
    let from = |last: u8| Ipv4Addr::new(127, 0, 0, last);
    let halves = ["", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: h\r\nX: ", "\x16\x03\x01"];
    let begun = Instant::now();
    let held: Vec<_> = (0..200)
        .map(|n| {
            let mut stream = connect_from(from(2), server.address);
            stream.write_all(halves[n % halves.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    // Longer than a new connection is left alone for.
    std::thread::sleep(Duration::from_millis(200));
    for last in [1, 2, 3] {
        let mut stream = connect_from(from(last), server.address);
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(Reply::read(&mut stream).unwrap().status, 200, "{last}");
    }
    assert!(begun.elapsed() < patience, "nobody waited for a half-sent request to be given up");
    drop(held);
}

#[test]
fn a_head_that_comes_byte_by_byte_has_to_end_in_time_and_so_has_one_after_an_answer() {
    let head = Duration::from_millis(400);
    let server = Server::with(Access::ReadWrite, ServiceLimits { head, ..ServiceLimits::default() });
    for before in ["", "GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut stream = server.connect();
        if !before.is_empty() {
            stream.write_all(before.as_bytes()).unwrap();
            assert!(one_answer(&mut stream).starts_with("HTTP/1.1 200"));
        }
        let begun = Instant::now();
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(1000));
        let sent = request.bytes().take_while(|byte| {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(&[*byte]).is_ok()
        });
        assert!(sent.count() < 500, "its connection is closed long before its head ends");
        assert!(begun.elapsed() >= head);
    }
}

#[test]
fn a_body_that_comes_at_a_trickle_is_refused_and_one_that_pauses_is_not() {
    let idle = Duration::from_millis(500);
    let limits = ServiceLimits { idle, pace: 1000, ..ServiceLimits::default() };
    let server = Server::with(Access::ReadWrite, limits);
    let digest = Digest::of(&[7; 4000]);
    let push = |piece: usize| {
        let mut stream = server.connect();
        let head = format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reading = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || Reply::read(&mut reading).unwrap().status);
        for piece in [7; 4000].chunks(piece) {
            if stream.write_all(piece).is_err() || reader.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        reader.join().unwrap()
    };
    assert_eq!(push(10), 408, "a byte now and then is not enough");
    assert_eq!(push(1000), 201);
}

#[test]
fn an_answer_that_is_taken_at_a_trickle_is_cut_and_one_that_is_taken_is_not() {
    let taking = Duration::from_millis(800);
    let limits = ServiceLimits { taking, pace: 1 << 20, ..ServiceLimits::default() };
    let server = Server::with(Access::ReadWrite, limits);
    // More than fits into all buffers between the two.
    let size = 32 << 20;
    let digest = server.push_blob("a", &vec![1; size]);
    // At a trickle for `slow`, and then as fast as it comes: what is left in buffers by then is not all of it.
    let take = |slow: Duration| {
        let mut stream = server.connect();
        write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let (mut taken, mut bytes, begun) = (0, vec![0; 1 << 20], Instant::now());
        loop {
            let trickles = begun.elapsed() < slow;
            let piece = if trickles { 100 } else { bytes.len() };
            match stream.read(&mut bytes[..piece]) {
                Ok(0) | Err(_) => return taken,
                Ok(count) => taken += count,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    assert!(take(Duration::ZERO) >= size);
    assert!(take(taking * 5) < size);
}

#[test]
fn a_client_that_has_too_many_requests_answered_at_once_is_told_so() {
    let limits = ServiceLimits { connections: 8, ..ServiceLimits::default() };
    let server = Server::with(Access::ReadWrite, limits);
    let digest = server.push_blob("a", &vec![1; 32 << 20]);
    let busy: Vec<_> = (0..6)
        .map(|_| {
            let mut stream = server.connect();
            write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            stream
        })
        .collect();
    let mut stream = server.connect();
    let refused = Reply::read(&mut stream).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 9), server.address);
    other.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut other).unwrap().status, 200);
    drop(busy);
}

/// Each byte of a body in a chunk of its own: six times as much to send, and no more work than a few times.
#[test]
fn a_body_of_chunks_of_one_byte_is_put_together_before_it_is_written() {
    let server = Server::writable();
    let body = vec![5; 300_000];
    let digest = Digest::of(&body);
    let mut stream = server.connect();
    write!(
        stream,
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    let chunks: Vec<u8> = body.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).collect();
    stream.write_all(&chunks).unwrap();
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream).unwrap().status, 201);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).body == body);
}

#[test]
fn requests_that_are_sent_before_the_answers_are_read_are_answered_in_order() {
    let server = Server::writable();
    let digest = server.push_blob("a", b"abc");
    let mut stream = server.connect();
    let one = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n");
    let many = one.repeat(500);
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || writing.write_all(many.as_bytes()));
    let count = AtomicUsize::new(0);
    for _ in 0..500 {
        assert!(one_answer(&mut stream).starts_with("HTTP/1.1 200"));
        count.fetch_add(1, Ordering::Relaxed);
    }
    writer.join().unwrap().unwrap();
    assert_eq!(count.into_inner(), 500);
}

#[test]
fn a_head_of_very_many_fields_is_refused() {
    let server = Server::writable();
    let fields = "x: y\r\n".repeat(5000);
    let reply = server.raw(format!("GET /v2/ HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
    assert_eq!(reply.status, 431);
}

#[test]
fn a_list_of_referrers_that_is_longer_than_a_manifest_may_be_comes_in_pages() {
    let server = Server::writable();
    let image = server.push_image("a", "v1", "");
    let subject = Digest::of(&image);
    let mut all = Vec::new();
    for n in 0..5 {
        let note = format!("{n}").repeat(1_500_000);
        let kind = if n == 0 { "test/other" } else { "test/one" };
        let extra = format!(
            ",\"artifactType\":\"{kind}\",\"annotations\":{{\"note\":\"{note}\"}},\"subject\":{{\"mediaType\":\"{}\",\"digest\":\"{subject}\",\"size\":{}}}",
            media_type::IMAGE_MANIFEST,
            image.len()
        );
        let about = manifest(b"{\"of\":\"a\"}", b"a layer", &extra);
        let digest = Digest::of(&about).to_string();
        assert_eq!(server.put_manifest("a", &digest, media_type::IMAGE_MANIFEST, &about).status, 201);
        all.push((digest, kind));
    }
    all.sort();
    for (filter, wanted) in [("", 5), ("?artifactType=test%2Fone", 4), ("?artifactType=test/none", 0)] {
        let mut next = Some(format!("/v2/a/referrers/{subject}{filter}"));
        let (mut seen, mut pages) = (Vec::new(), 0);
        while let Some(path) = next {
            let reply = server.get(&path);
            assert_eq!(reply.status, 200);
            assert!(reply.body.len() <= 4 << 20, "{}", reply.body.len());
            pages += 1;
            let json = reply.json();
            let entries = json["manifests"].as_array().unwrap().iter();
            seen.extend(entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()));
            let link = reply.header("link").map(|link| link.strip_suffix(">; rel=\"next\"").unwrap());
            next = link.map(|link| link.strip_prefix('<').unwrap().to_owned());
        }
        let expected = all.iter().filter(|(_, kind)| filter.is_empty() || *kind == "test/one");
        let expected: Vec<_> = expected.map(|(digest, _)| digest.clone()).take(wanted).collect();
        assert_eq!(seen, expected, "{filter}");
        assert!(pages > 1 || wanted == 0, "{filter}");
    }
}

#[test]
fn a_page_of_referrers_is_never_larger_than_clients_read_whatever_their_descriptors_are_made_of() {
    let server = Server::writable();
    let image = server.push_image("a", "v1", "");
    let subject = Digest::of(&image);
    let mut all = Vec::new();
    for n in 0..60 {
        let kind = format!("test/{n}").repeat(12_000);
        let extra = format!(
            ",\"artifactType\":\"{kind}\",\"subject\":{{\"mediaType\":\"{}\",\"digest\":\"{subject}\",\"size\":{}}}",
            media_type::IMAGE_MANIFEST,
            image.len()
        );
        let about = manifest(b"{\"of\":\"a\"}", b"a layer", &extra);
        let digest = Digest::of(&about).to_string();
        assert_eq!(server.put_manifest("a", &digest, media_type::IMAGE_MANIFEST, &about).status, 201);
        all.push(digest);
    }
    all.sort();
    let mut next = Some(format!("/v2/a/referrers/{subject}"));
    let mut seen = Vec::new();
    while let Some(path) = next {
        let reply = server.get(&path);
        assert!(reply.body.len() <= 4 << 20, "{}", reply.body.len());
        let json = reply.json();
        let entries = json["manifests"].as_array().unwrap().iter();
        seen.extend(entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()));
        let link = reply.header("link").map(|link| link.strip_suffix(">; rel=\"next\"").unwrap());
        next = link.map(|link| link.strip_prefix('<').unwrap().to_owned());
    }
    assert_eq!(seen, all);
}
