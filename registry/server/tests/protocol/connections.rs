use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hab_oci::Digest;
use hab_registry::{Access, ServiceLimits};

use crate::harness::{Reply, Server};

fn impatient() -> Server {
    let short = Duration::from_millis(300);
    let limits = ServiceLimits {
        head: short,
        keep: short,
        idle: short,
        taking: short,
        drain: short,
        connections: 2,
        ..ServiceLimits::default()
    };
    Server::with(Access::ReadWrite, limits)
}

#[test]
fn a_client_that_never_sends_a_head_ends_it_or_sends_the_next_is_cut_off() {
    let server = impatient();
    let kept_alive = "GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n";
    for said in ["", "GET /v2/ HT", kept_alive] {
        let mut stream = server.connect();
        stream.write_all(said.as_bytes()).unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < Duration::from_secs(10), "{said:?}");
    }
}

#[test]
fn a_client_that_stalls_in_its_body_is_told_and_leaves_nothing() {
    let server = impatient();
    let mut stream = server.connect();
    let digest = Digest::of(b"abc");
    write!(
        stream,
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"
    )
    .unwrap();
    assert_eq!(Reply::read(&mut stream).unwrap().error(), (408, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(std::fs::read_dir(server.folder().join("blobs/tmp")).unwrap().count(), 0);
}

#[test]
fn a_client_that_does_not_read_loses_its_slot() {
    let server = impatient();
    let bytes = vec![1; 32 << 20];
    let digest = server.push_blob("a", &bytes);
    let stalled: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = server.connect();
            write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            stream
        })
        .collect();
    // Both slots are taken; this answer comes when one of them is given up.
    assert_eq!(server.get("/v2/").status, 200);
    drop(stalled);
}

#[test]
fn a_blob_over_the_limit_is_refused() {
    let limits = ServiceLimits { blob: 1000, ..ServiceLimits::default() };
    let server = Server::with(Access::ReadWrite, limits);
    server.push_blob("a", &[0; 1000]);
    let bytes = [1; 1001];
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&bytes));
    assert_eq!(server.send("POST", &path, &[], &bytes).error(), (413, "SIZE_INVALID".into()));
    let start = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    let upload = start.header("location").unwrap();
    assert_eq!(server.send("PATCH", upload, &[], &[2; 600]).status, 202);
    assert_eq!(server.send("PATCH", upload, &[], &[2; 600]).error(), (413, "SIZE_INVALID".into()));
}

#[test]
fn a_shutdown_lets_an_answer_end_and_cuts_off_who_does_not_take_it() {
    let server = impatient();
    let digest = server.push_blob("a", &vec![1; 32 << 20]);
    let mut stream = server.connect();
    write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).unwrap();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_not_http_is_answered_or_dropped_and_the_next_client_served() {
    let server = impatient();
    for junk in
        [b"\x16\x03\x01\x02\x00".as_slice(), b"GET\r\n\r\n", b"GET /v2/\xff HTTP/1.1\r\n\r\n", &[0; 3000]]
    {
        let mut stream = server.connect();
        let _ = stream.write_all(junk);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(server.get("/v2/").status, 200);
}
