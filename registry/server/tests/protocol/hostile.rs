//! What no client would send, and many clients at once.

use std::io::Write;
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Access, ServiceLimits};
use serde_json::{Value, json};

use crate::harness::{Reply, Server, manifest};

/// Each is answered with an error that says what is wrong; none with 5xx, none with silence.
#[test]
fn malformed_names_digests_and_references_are_told_apart() {
    let server = Server::writable();
    server.push_image("a", "v1", "");
    let long = "a".repeat(300);
    for name in ["A", "a..b", "a//b", "-a", "a_", "%2e%2e", "a/../b", "ä", "a%00b", &long] {
        for (method, end) in [
            ("GET", "manifests/v1"),
            ("PUT", "manifests/v1"),
            ("POST", "blobs/uploads/"),
            ("GET", "tags/list"),
        ] {
            let reply = server.send(method, &format!("/v2/{name}/{end}"), &[], b"");
            assert_eq!(reply.error(), (400, "NAME_INVALID".into()), "{method} {name} {end}");
        }
    }
    let hex = Digest::of(b"x").hex().to_owned();
    let upper = hex.to_uppercase();
    for digest in [
        "sha256:",
        "sha256",
        ":",
        "sha1:00",
        "sha256:%00",
        &format!("sha256:{upper}"),
        &format!("SHA256:{hex}"),
        &format!("sha256:{hex}0"),
        &format!("sha512:{hex}"),
        &format!("sha256:{hex}%20"),
    ] {
        assert_eq!(
            server.get(&format!("/v2/a/blobs/{digest}")).error(),
            (400, "DIGEST_INVALID".into()),
            "{digest}"
        );
        let referrers = server.get(&format!("/v2/a/referrers/{digest}"));
        assert_eq!(referrers.error(), (400, "DIGEST_INVALID".into()), "{digest}");
    }
    for tag in [".v", "-v", "v%2F1", "v%00", "v+1", &"v".repeat(129)] {
        let path = format!("/v2/a/manifests/{tag}");
        assert_eq!(server.get(&path).error(), (404, "MANIFEST_UNKNOWN".into()), "{tag}");
        let put = server.put_manifest("a", tag, media_type::IMAGE_MANIFEST, b"{}");
        assert_eq!(put.error(), (400, "MANIFEST_INVALID".into()), "{tag}");
    }
    for query in ["n=-1", "n=x", "n=1e3", "n=%ff", "n=", "n=1&n=2"] {
        assert_eq!(server.get(&format!("/v2/a/tags/list?{query}")).error().0, 400, "{query}");
    }
    for path in
        ["/v2/a/manifests/", "/v2/a/blobs/", "/v2//manifests/v1", "/v2/manifests/v1", "/v2/_catalog/x"]
    {
        assert!((400..500).contains(&server.get(path).status), "{path}");
    }
}

#[test]
fn manifests_that_are_not_quite_json_are_refused() {
    let server = Server::writable();
    let good = server.push_image("a", "v1", "");
    let text = String::from_utf8(good.clone()).unwrap();
    let size = text.match_indices("\"size\":").last().unwrap().0 + 7;
    let end = size + text[size..].find('}').unwrap();
    let sized = |number: &str| [&text[..size], number, &text[end..]].concat();
    for (what, bytes) in [
        ("a size below zero", sized("-1").into_bytes()),
        ("half a byte", sized("1.5").into_bytes()),
        ("a size that is no 64 bits", sized("18446744073709551616").into_bytes()),
        ("a size in words", sized("\"7\"").into_bytes()),
        ("a size of null", sized("null").into_bytes()),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), &good].concat()),
        ("a control character", text.replace("layers", "lay\u{0}ers").into_bytes()),
        ("Latin 1 where nobody looks", [&good[..good.len() - 1], b",\"x\":\"\xe4\"}"].concat()),
        ("a comma too many", [&good[..good.len() - 1], b",}"].concat()),
        ("a list", [b"[".as_slice(), &good, b"]"].concat()),
        ("a number", b"2".to_vec()),
        ("a key twice", text.replacen('{', "{\"schemaVersion\":2,", 1).into_bytes()),
        ("layers twice", text.replacen('{', "{\"layers\":[],", 1).into_bytes()),
        ("layers of text", text.replacen("\"layers\":[", "\"layers\":[\"x\",", 1).into_bytes()),
        ("annotations of numbers", text.replacen('{', "{\"annotations\":{\"a\":1},", 1).into_bytes()),
    ] {
        let reply = server.put_manifest("a", "v2", media_type::IMAGE_MANIFEST, &bytes);
        assert_eq!(reply.status, 400, "{what}");
        assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()), "{what}");
    }
    for kind in ["application/json", "application/vnd.oci.image.manifest.v2+json", "\u{e4}", ";"] {
        let reply = server.put_manifest("a", "v2", kind, &good);
        assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()), "{kind}");
    }
    let reply = server.send("PUT", "/v2/a/manifests/v2", &[], &good);
    assert_eq!(reply.error(), (400, "MANIFEST_INVALID".into()), "no type at all");
    assert_eq!(server.get("/v2/a/manifests/v2").status, 404);
    // Every level is looked at for names that are there twice, as deep as a thread's stack surely is and no deeper.
    for (depth, status) in [(100, 201), (1000, 400), (100_000, 400)] {
        let deep = format!("{{\"x\":{}{},", "[".repeat(depth), "]".repeat(depth));
        let deep = text.replacen('{', &deep, 1);
        let reply = server.put_manifest("a", "deep", media_type::IMAGE_MANIFEST, deep.as_bytes());
        assert_eq!(reply.status, status, "{depth}");
    }
    let kind = format!("{}; charset=utf-8", media_type::IMAGE_MANIFEST);
    assert_eq!(server.put_manifest("a", "v2", &kind, &good).status, 201);
}

#[test]
fn a_body_that_is_longer_than_it_said_ends_where_it_said() {
    let server = Server::writable();
    let (digest, longer) = (Digest::of(b"abc"), Digest::of(b"abcdef"));
    let push = |head: &str, digest: &Digest, body: &[u8]| {
        let head = format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n");
        server.raw(&[head.as_bytes(), body].concat())
    };
    // What follows is no request, and nothing of it is in the blob.
    assert_eq!(push("Connection: close\r\nContent-Length: 3", &digest, b"abcdef").status, 201);
    assert_eq!(push("Connection: close\r\nContent-Length: 3", &longer, b"abcdef").status, 400);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).body, b"abc");
    // A length said twice is how one request is made to hide another.
    for head in [
        "Content-Length: 3\r\nContent-Length: 6",
        "Content-Length: 3, 6",
        "Content-Length: -3",
        "Content-Length: +3",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip",
    ] {
        let reply = push(&format!("Connection: close\r\n{head}"), &longer, b"abcdef");
        assert!((400..=501).contains(&reply.status), "{head}: {reply:?}");
    }
    let smuggled = push(
        "Connection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        &longer,
        b"6\r\nabcdef\r\n0\r\n\r\n",
    );
    assert!(matches!(smuggled.status, 201 | 400), "{smuggled:?}");
    let chunks =
        push("Connection: close\r\nTransfer-Encoding: chunked", &longer, b"zz\r\nabcdef\r\n0\r\n\r\n");
    assert_eq!(chunks.status, 400);
}

#[test]
fn clients_that_stall_in_uploads_are_told_and_give_up_their_slots() {
    let short = Duration::from_millis(400);
    let limits =
        ServiceLimits { head: short, keep: short, idle: short, connections: 2, ..ServiceLimits::default() };
    let server = Server::with(Access::ReadWrite, limits);
    let start = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    let upload = start.header("location").unwrap();
    let mut stalled: Vec<_> = ["PATCH", "PUT"]
        .map(|method| {
            let mut stream = server.connect();
            let path = if method == "PUT" { format!("/v2/a/manifests/{method}") } else { upload.to_owned() };
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc").unwrap();
            stream
        })
        .into();
    // Both slots are taken; this one is answered when one is free again.
    assert_eq!(server.get("/v2/").status, 200);
    for stream in &mut stalled {
        assert_eq!(Reply::read(stream).unwrap().status, 408);
    }
    // The upload is where it was before the piece that did not come, and goes on.
    let digest = Digest::of(b"abcdef");
    assert_eq!(server.send("PUT", &format!("{upload}?digest={digest}"), &[], b"abcdef").status, 201);
}

#[test]
fn two_uploads_of_one_blob_both_end_and_two_writers_of_one_upload_do_not_mix() {
    let server = Server::writable();
    let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&bytes);
    let start = || {
        let reply = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
        reply.header("location").unwrap().to_owned()
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let upload = start();
                for piece in bytes.chunks(2_500_000) {
                    assert_eq!(server.send("PATCH", &upload, &[], piece).status, 202);
                }
                let path = format!("{upload}?digest={digest}");
                assert_eq!(server.send("PUT", &path, &[], b"").status, 201);
            });
        }
    });
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
    let upload = start();
    let replies: Vec<u16> = std::thread::scope(|scope| {
        let write = || server.send("PATCH", &upload, &[("Content-Range", "0-5999999")], &bytes).status;
        let writers: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(replies.iter().filter(|status| **status == 202).count(), 1, "{replies:?}");
    assert!(replies.iter().all(|status| matches!(status, 202 | 409 | 416)), "{replies:?}");
    assert_eq!(server.send("PUT", &format!("{upload}?digest={digest}"), &[], b"").status, 201);
    let left: Vec<_> = std::fs::read_dir(server.folder().join("blobs/uploads")).unwrap().collect();
    assert!(left.len() <= 1, "only the folder's key: {left:?}");
}

#[test]
fn of_many_writers_of_one_tag_each_was_there_and_the_last_one_is() {
    let server = Server::writable();
    server.push_image("a", "first", "");
    let image =
        |n: usize| manifest(b"{\"of\":\"a\"}", b"a layer", &format!(",\"annotations\":{{\"n\":\"{n}\"}}"));
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (server, image) = (&server, &image);
            scope.spawn(move || {
                let reply = server.put_manifest("a", "v1", media_type::IMAGE_MANIFEST, &image(n));
                assert_eq!(reply.status, 201, "{reply:?}");
            });
        }
        scope.spawn(|| {
            for _ in 0..30 {
                let seen = server.get("/v2/a/manifests/v1");
                assert!(seen.status == 404 || (0..8).any(|n| seen.body == image(n)), "{seen:?}");
            }
        });
    });
    let last = server.get("/v2/a/manifests/v1");
    assert!((0..8).any(|n| last.body == image(n)));
    for n in 0..8 {
        assert_eq!(server.get(&format!("/v2/a/manifests/{}", Digest::of(&image(n)))).status, 200);
    }
}

#[test]
fn indexes_within_each_other_and_long_chains_of_subjects_are_served_like_any_other() {
    let server = Server::writable();
    let mut below = server.push_image("a", "bottom", "");
    let mut kind = media_type::IMAGE_MANIFEST;
    for _ in 0..200 {
        let child = json!({"mediaType": kind, "digest": Digest::of(&below), "size": below.len()});
        below = json!({"schemaVersion": 2, "manifests": [child]}).to_string().into_bytes();
        kind = media_type::IMAGE_INDEX;
        let digest = Digest::of(&below).to_string();
        assert_eq!(server.put_manifest("a", &digest, kind, &below).status, 201);
    }
    assert_eq!(server.put_manifest("a", "top", kind, &below).status, 201);
    // A chain of what is said about what is said; and one that begins with what will never exist.
    let mut subject: Value = json!({"mediaType": kind, "digest": Digest::of(&below), "size": below.len()});
    for _ in 0..100 {
        let extra = format!(",\"subject\":{subject}");
        let about = manifest(b"{\"of\":\"a\"}", b"a layer", &extra);
        let digest = Digest::of(&about);
        let reply = server.put_manifest("a", &digest.to_string(), media_type::IMAGE_MANIFEST, &about);
        assert_eq!(reply.status, 201, "{reply:?}");
        let listed = server.get(&format!("/v2/a/referrers/{}", subject["digest"].as_str().unwrap()));
        assert_eq!(listed.json()["manifests"][0]["digest"], digest.to_string());
        subject = json!({"mediaType": media_type::IMAGE_MANIFEST, "digest": digest, "size": about.len()});
    }
    assert_eq!(server.get("/v2/a/manifests/top").body, below);
}

/// 6 MiB of disk; only root may mount that.
#[test]
fn a_full_disk_is_said_with_507_and_what_is_there_is_served() {
    struct Mount(tempfile::TempDir);
    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=6m", "hab-registry-full"]).arg(folder.path());
    if !mount.output().is_ok_and(|output| output.status.success()) {
        return hab_skip::skip(hab_skip::Lack::Mount, "a small file system to fill");
    }
    let mount = Mount(folder);
    let server = Server::over(mount.0.path());
    let manifest = server.push_image("a", "v1", "");
    let push = |n: u8, size: usize| {
        let bytes = vec![n; size];
        server.send("POST", &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&bytes)), &[], &bytes)
    };
    let full = (0..200).map(|n| push(n, 100_000)).find(|reply| reply.status != 201).unwrap();
    assert_eq!(full.error(), (507, "UNKNOWN".into()));
    let start = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    if let Some(upload) = start.header("location") {
        assert_eq!(server.send("PATCH", upload, &[], &vec![0; 5 << 20]).error().0, 507);
        // Given up, it makes room for others.
        assert_eq!(server.send("DELETE", upload, &[], b"").status, 204);
    } else {
        assert_eq!(start.error().0, 507);
    }
    assert_eq!(server.get("/v2/a/manifests/v1").body, manifest);
    let small = push(201, 10);
    assert!(matches!(small.status, 201 | 507), "{small:?}");
}
