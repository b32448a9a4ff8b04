use hab_oci::{Algorithm, Digest};
use hab_registry::Access;

use crate::harness::{Reply, Server};

fn start(server: &Server) -> String {
    let reply = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!(reply.status, 202, "{reply:?}");
    assert!(reply.header("docker-upload-uuid").is_some());
    reply.header("location").unwrap().to_owned()
}

fn patch(server: &Server, upload: &str, range: Option<&str>, bytes: &[u8]) -> Reply {
    let header: Vec<_> = range.map(|range| ("Content-Range", range)).into_iter().collect();
    server.send("PATCH", upload, &header, bytes)
}

fn finish(server: &Server, upload: &str, digest: &Digest, bytes: &[u8]) -> Reply {
    server.send("PUT", &format!("{upload}?digest={digest}"), &[], bytes)
}

#[test]
fn a_blob_is_pushed_in_pieces() {
    let server = Server::writable();
    let upload = start(&server);
    let first = patch(&server, &upload, Some("0-2"), b"abc");
    assert_eq!((first.status, first.header("range")), (202, Some("0-2")));
    let second = patch(&server, first.header("location").unwrap(), Some("3-5"), b"def");
    assert_eq!((second.status, second.header("range")), (202, Some("0-5")));
    let status = server.get(&upload);
    assert_eq!((status.status, status.header("range")), (204, Some("0-5")));
    assert_eq!(status.header("location"), Some(upload.as_str()));
    let digest = Digest::of(b"abcdefg");
    assert_eq!(finish(&server, &upload, &digest, b"g").status, 201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).body, b"abcdefg");
    assert_eq!(server.get(&upload).error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
}

#[test]
fn a_blob_is_pushed_by_a_start_and_a_put_alone() {
    let server = Server::writable();
    let bytes = vec![9; 3_000_000];
    for digest in [Digest::of(&bytes), Digest::of_with(Algorithm::Sha512, &bytes)] {
        let reply = finish(&server, &start(&server), &digest, &bytes);
        assert_eq!(
            (reply.status, reply.header("docker-content-digest")),
            (201, Some(digest.to_string().as_str()))
        );
        assert!(server.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
    }
}

#[test]
fn a_piece_out_of_order_is_refused_with_what_is_there() {
    let server = Server::writable();
    let upload = start(&server);
    assert_eq!(patch(&server, &upload, Some("1-3"), b"abc").status, 416, "the first piece starts at 0");
    patch(&server, &upload, Some("0-2"), b"abc");
    for range in ["0-2", "4-6"] {
        let reply = patch(&server, &upload, Some(range), b"def");
        assert_eq!(reply.error(), (416, "BLOB_UPLOAD_INVALID".into()), "{range}");
        assert_eq!((reply.header("range"), reply.header("location")), (Some("0-2"), Some(upload.as_str())));
    }
    let digest = Digest::of(b"abcdef");
    let last = [("Content-Range", "7-9")];
    let reply = server.send("PUT", &format!("{upload}?digest={digest}"), &last, b"def");
    assert_eq!(reply.status, 416);
    assert_eq!(patch(&server, &upload, Some("3-5"), b"def").status, 202);
    assert_eq!(finish(&server, &upload, &digest, b"").status, 201);
}

#[test]
fn a_piece_of_another_length_than_it_said_is_refused_and_forgotten() {
    let server = Server::writable();
    let upload = start(&server);
    for range in ["0-9", "0-1"] {
        assert_eq!(patch(&server, &upload, Some(range), b"abc").error(), (400, "SIZE_INVALID".into()));
    }
    for range in ["x", "3", "5-1", "bytes 0-2/3"] {
        assert_eq!(patch(&server, &upload, Some(range), b"abc").error(), (400, "BLOB_UPLOAD_INVALID".into()));
    }
    let chunked = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Range: 0-9\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    );
    assert_eq!(server.raw(chunked.as_bytes()).error(), (400, "SIZE_INVALID".into()));
    let digest = Digest::of(b"xyz");
    assert_eq!(finish(&server, &upload, &digest, b"xyz").status, 201, "nothing of all that was kept");
}

#[test]
fn a_piece_that_was_cut_off_is_resumed_from_where_it_broke() {
    let server = Server::writable();
    let upload = start(&server);
    let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    let reply = server.cut(&[head.as_bytes(), &bytes[..600_000]].concat());
    assert!(reply.is_none_or(|reply| reply.error() == (400, "SIZE_INVALID".into())));
    // What came last may still be on its way to the file: then the answer is a refusal, and one asks again.
    let resumed = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let held = server.get(&upload).header("range").unwrap().to_owned();
        let next = held.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        assert!(next <= 600_000, "{held}");
        let range = format!("{next}-{}", bytes.len() - 1);
        next > 1 && patch(&server, &upload, Some(&range), &bytes[next..]).status == 202
    });
    assert!(resumed);
    assert_eq!(finish(&server, &upload, &Digest::of(&bytes), b"").status, 201);
}

#[test]
fn an_upload_goes_on_after_a_restart() {
    let server = Server::writable();
    let upload = start(&server);
    patch(&server, &upload, None, b"abc");
    let server = server.restarted(Access::ReadWrite);
    assert_eq!(server.get(&upload).header("range"), Some("0-2"));
    patch(&server, &upload, None, b"def");
    assert_eq!(finish(&server, &upload, &Digest::of(b"abcdef"), b"").status, 201);
}

#[test]
fn a_cancelled_upload_is_gone() {
    let server = Server::writable();
    let upload = start(&server);
    patch(&server, &upload, None, b"abc");
    assert_eq!(server.send("DELETE", &upload, &[], b"").status, 204);
    assert_eq!(server.send("DELETE", &upload, &[], b"").error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(patch(&server, &upload, None, b"def").error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(std::fs::read_dir(server.folder().join("blobs/uploads")).unwrap().count(), 0);
}

#[test]
fn an_upload_is_over_after_a_wrong_digest_and_needs_a_digest_to_end() {
    let server = Server::writable();
    let upload = start(&server);
    patch(&server, &upload, None, b"abc");
    assert_eq!(server.send("PUT", &upload, &[], b"").error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(server.send("PUT", &format!("{upload}?digest=sha256:zz"), &[], b"").status, 400);
    assert_eq!(finish(&server, &upload, &Digest::of(b"abd"), b"").error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(
        finish(&server, &upload, &Digest::of(b"abc"), b"").error(),
        (404, "BLOB_UPLOAD_UNKNOWN".into())
    );
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(b"abc"))).status, 404);
}

#[test]
fn an_upload_is_reached_through_its_own_repository_alone() {
    let server = Server::writable();
    let upload = start(&server);
    let elsewhere = upload.replace("/v2/a/", "/v2/b/");
    assert_eq!(server.get(&elsewhere).error(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    for id in ["x", "..%2f..%2fcatalog", "00000000000000000000000000000000"] {
        let path = format!("/v2/a/blobs/uploads/{id}");
        assert_eq!(server.get(&path).error(), (404, "BLOB_UPLOAD_UNKNOWN".into()), "{id}");
    }
}
