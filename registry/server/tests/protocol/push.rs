use std::io::Write;

use hab_oci::{Algorithm, Digest};

use crate::harness::Server;

#[test]
fn a_whole_blob_is_pushed_in_one_request() {
    let server = Server::writable();
    for digest in [Digest::of(b"abc"), Digest::of_with(Algorithm::Sha512, b"abc")] {
        let escaped = digest.to_string().replace(':', "%3A");
        let reply = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={escaped}"), &[], b"abc");
        assert_eq!(reply.status, 201);
        let location = format!("/v2/a/blobs/{digest}");
        assert_eq!(reply.header("location"), Some(location.as_str()));
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
        assert_eq!(server.get(&location).body, b"abc");
    }
}

#[test]
fn bytes_of_another_digest_are_refused_and_not_served() {
    let server = Server::writable();
    let said = Digest::of(b"abc");
    let reply = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={said}"), &[], b"abd");
    assert_eq!(reply.error(), (400, "DIGEST_INVALID".into()));
    for bytes in [b"abc", b"abd"] {
        assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(bytes))).status, 404);
    }
    for bad in ["sha256:zz", "md5:900150983cd24fb0d6963f7d28e17f72", ""] {
        let reply = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={bad}"), &[], b"abc");
        assert_eq!(reply.error(), (400, "DIGEST_INVALID".into()), "{bad}");
    }
    let reply = server.send("POST", "/v2/A/blobs/uploads/", &[], b"");
    assert_eq!(reply.error(), (400, "NAME_INVALID".into()));
}

#[test]
fn a_body_that_is_shorter_than_it_said_is_refused_and_leaves_nothing() {
    let server = Server::writable();
    let digest = Digest::of(b"abc");
    let head = |length: &str| {
        format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{length}\r\n\r\n"
        )
    };
    let short = server.cut(&[head("Content-Length: 10").as_bytes(), b"abc"].concat());
    assert!(short.is_none_or(|reply| reply.error() == (400, "SIZE_INVALID".into())));
    let open = server.cut(&[head("Transfer-Encoding: chunked").as_bytes(), b"3\r\nabc\r\n"].concat());
    assert!(open.is_none_or(|reply| reply.error() == (400, "SIZE_INVALID".into())));
    let bad = server.raw(&[head("Content-Length: x").as_bytes(), b"abc"].concat());
    assert_eq!(bad.status, 400);
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(server.get(&path).status, 404, "all of it came, but its end was not said");
    let whole =
        server.raw(&[head("Transfer-Encoding: chunked").as_bytes(), b"3\r\nabc\r\n0\r\n\r\n"].concat());
    assert_eq!((whole.status, server.get(&path).body), (201, b"abc".to_vec()));
}

#[test]
fn a_client_that_vanishes_leaves_no_file_behind() {
    let server = Server::writable();
    let digest = Digest::of(b"abc");
    let mut stream = server.connect();
    write!(
        stream,
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&vec![7; 600_000]).unwrap();
    let tmp = server.folder().join("blobs/tmp");
    let count = || std::fs::read_dir(&tmp).unwrap().count();
    let becomes = |wanted: usize| {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            count() == wanted
        })
    };
    assert!(becomes(1));
    drop(stream);
    assert!(becomes(0));
}

#[test]
fn a_blob_is_mounted_from_a_repository_that_has_it_and_asked_for_otherwise() {
    let server = Server::writable();
    let digest = server.push_blob("one", b"abc");
    let mount = |from: &str, digest: &Digest| {
        server.send("POST", &format!("/v2/two/blobs/uploads/?mount={digest}&from={from}"), &[], b"")
    };
    let reply = mount("one", &digest);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), Some(format!("/v2/two/blobs/{digest}").as_str()));
    assert_eq!(server.get(&format!("/v2/two/blobs/{digest}")).body, b"abc");
    let absent = mount("one", &Digest::of(b"absent"));
    assert_eq!(absent.status, 202);
    assert!(absent.header("location").unwrap().starts_with("/v2/two/blobs/uploads/"));
    assert_eq!(mount("One", &digest).error(), (400, "NAME_INVALID".into()));
}

#[test]
fn many_clients_push_one_blob_at_once() {
    let server = Server::writable();
    let bytes = vec![3; 1_000_000];
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| server.push_blob("a", &bytes));
        }
    });
    let digest = Digest::of(&bytes);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
    assert_eq!(std::fs::read_dir(server.folder().join("blobs/tmp")).unwrap().count(), 0);
}

#[test]
fn a_blob_is_mounted_without_a_source_where_anybody_has_it() {
    let server = Server::writable();
    let digest = server.push_blob("one", b"shared");
    let mount =
        |digest: &Digest| server.send("POST", &format!("/v2/two/blobs/uploads/?mount={digest}"), &[], b"");
    let reply = mount(&digest);
    assert_eq!(
        (reply.status, reply.header("location")),
        (201, Some(format!("/v2/two/blobs/{digest}").as_str()))
    );
    assert_eq!(server.get(&format!("/v2/two/blobs/{digest}")).body, b"shared");
    assert_eq!(mount(&Digest::of(b"absent")).status, 202);
}
