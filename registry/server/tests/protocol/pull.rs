use hab_oci::Digest;
use hab_registry::{Access, ServiceLimits};

use crate::harness::Server;

#[test]
fn the_base_says_that_this_is_a_registry() {
    let server = Server::writable();
    for path in ["/v2/", "/v2"] {
        assert_eq!(server.get(path).status, 200);
    }
    assert_eq!(server.send("POST", "/v2/", &[], b"").error(), (405, "UNSUPPORTED".into()));
    assert_eq!(server.get("/v2/nothing").error(), (404, "UNSUPPORTED".into()));
}

#[test]
fn a_blob_is_served_whole_with_its_digest_and_length() {
    let server = Server::writable();
    // More than two batches, so that their order shows.
    let bytes: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    let digest = server.push_blob("a/b", &bytes);
    let path = format!("/v2/a/b/blobs/{digest}");
    let reply = server.get(&path);
    assert_eq!((reply.status, reply.body == bytes), (200, true));
    assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    let head = server.head(&path);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("2800000"));
}

#[test]
fn an_empty_blob_is_a_blob() {
    let server = Server::writable();
    let digest = server.push_blob("a", b"");
    let reply = server.get(&format!("/v2/a/blobs/{digest}"));
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("0")));
}

#[test]
fn a_range_of_a_blob_is_served_and_one_outside_is_refused() {
    let server = Server::writable();
    let bytes: Vec<u8> = (0..600_000u32).flat_map(u32::to_le_bytes).collect();
    let size = bytes.len();
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=262143-262144", 262_143, 262_145),
        ("bytes=1000000-", 1_000_000, size),
        ("bytes=-7", size - 7, size),
        ("bytes=5-99999999999", 5, size),
    ] {
        let reply = server.send("GET", &path, &[("Range", range)], b"");
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.body == bytes[from..to], "{range}");
        let content_range = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(reply.header("content-range"), Some(content_range.as_str()));
    }
    let outside = server.send("GET", &path, &[("Range", &format!("bytes={size}-"))], b"");
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{size}").as_str()));
    for ignored in ["lines=1-2", "bytes=x"] {
        assert_eq!(server.send("GET", &path, &[("Range", ignored)], b"").status, 200, "{ignored}");
    }
    let changed = [("Range", "bytes=0-0"), ("If-Range", "\"other\"")];
    assert_eq!(server.send("GET", &path, &changed, b"").status, 200);
}

#[test]
fn what_is_not_there_is_unknown_and_what_is_no_name_is_invalid() {
    let server = Server::writable();
    let digest = Digest::of(b"x");
    server.push_image("a", "v1", "");
    for (path, status, code) in [
        (format!("/v2/a/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("/v2/a/blobs/sha256:zz".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/v2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/.no-tag".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/md5:00".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/nobody/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/A/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a/../b/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a/blobs/uploads/../../x".to_owned(), 404, "UNSUPPORTED"),
    ] {
        assert_eq!(server.get(&path).error(), (status, code.to_owned()), "{path}");
    }
}

#[test]
fn a_blob_is_served_only_from_repositories_that_hold_it() {
    let server = Server::writable();
    let digest = server.push_blob("one", b"abc");
    assert_eq!(server.get(&format!("/v2/two/blobs/{digest}")).error().1, "BLOB_UNKNOWN");
    // Bytes that the store has, but that no repository was ever given.
    let blobs = hab_store::Blobs::open(server.folder()).unwrap();
    let hidden = blobs.put(b"a mirrored archive").unwrap();
    assert_eq!(server.get(&format!("/v2/one/blobs/{hidden}")).error().1, "BLOB_UNKNOWN");
}

#[test]
fn a_blob_whose_file_was_cut_is_not_served_and_can_be_pushed_again() {
    let server = Server::writable();
    let digest = server.push_blob("a", b"abcdef");
    let path = format!("/v2/a/blobs/{digest}");
    let file = hab_store::Blobs::open(server.folder()).unwrap().path(&digest);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, b"abc").unwrap();
    assert_eq!(server.get(&path).error().1, "BLOB_UNKNOWN");
    assert_eq!(server.head(&path).status, 404);
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(server.send("POST", &mount, &[], b"").status, 202);
    server.push_blob("a", b"abcdef");
    assert_eq!(server.get(&path).body, b"abcdef");
}

#[test]
fn a_manifest_whose_bytes_were_changed_is_not_served_until_it_is_pushed_again() {
    let server = Server::writable();
    let manifest = server.push_image("a", "v1", "");
    let file = hab_store::Blobs::open(server.folder()).unwrap().path(&Digest::of(&manifest));
    let mut flipped = manifest;
    flipped[5] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, flipped).unwrap();
    assert_eq!(server.get("/v2/a/manifests/v1").error(), (500, "UNKNOWN".into()));
    let manifest = server.push_image("a", "v1", "");
    assert_eq!(server.get("/v2/a/manifests/v1").body, manifest);
}

#[test]
fn a_read_only_registry_serves_and_refuses_every_write() {
    let server = Server::writable();
    let manifest = server.push_image("a", "v1", "");
    let server = server.restarted(Access::ReadOnly);
    assert_eq!(server.get("/v2/a/manifests/v1").body, manifest);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PUT", "/v2/a/manifests/v1"),
        ("DELETE", "/v2/a/manifests/v1"),
        ("PATCH", "/v2/a/blobs/uploads/x"),
    ] {
        assert_eq!(server.send(method, path, &[], b"x").error(), (405, "DENIED".into()), "{method} {path}");
    }
    assert_eq!(server.get("/v2/a/manifests/v1").status, 200);
}

#[test]
fn tags_are_listed_in_order_and_in_pages() {
    let server = Server::writable();
    for tag in ["v2", "v1", "latest"] {
        server.push_image("a", tag, "");
    }
    let all = server.get("/v2/a/tags/list");
    assert_eq!(all.json(), serde_json::json!({"name": "a", "tags": ["latest", "v1", "v2"]}));
    assert_eq!(all.header("link"), None);
    let first = server.get("/v2/a/tags/list?n=2");
    assert_eq!(first.json()["tags"], serde_json::json!(["latest", "v1"]));
    assert_eq!(first.header("link"), Some("</v2/a/tags/list?n=2&last=v1>; rel=\"next\""));
    let second = server.get("/v2/a/tags/list?n=2&last=v1");
    assert_eq!((second.json()["tags"].clone(), second.header("link")), (serde_json::json!(["v2"]), None));
    let none = server.get("/v2/a/tags/list?n=0");
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (serde_json::json!([]), None));
    assert_eq!(server.get("/v2/a/tags/list?n=99999999999").json(), all.json());
    for bad in ["-1", "x", "1e3"] {
        assert_eq!(server.get(&format!("/v2/a/tags/list?n={bad}")).status, 400, "{bad}");
    }
}

#[test]
fn limits_are_what_the_specification_asks_for() {
    assert!(ServiceLimits::default().manifest >= 4 << 20);
}

#[test]
fn several_ranges_come_as_parts_that_say_where_they_are_from() {
    let server = Server::writable();
    let bytes: Vec<u8> = (0..600_000u32).flat_map(u32::to_le_bytes).collect();
    let size = bytes.len();
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
    let reply = server.send("GET", &path, &[("Range", "bytes=0-3, 300000-899999, -5")], b"");
    assert_eq!(reply.status, 206);
    let boundary =
        reply.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (from, to) in [(0, 4), (300_000, 900_000), (size - 5, size)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {from}-{}/{size}\r\n\r\n",
            to - 1
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&bytes[from..to]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(reply.body == expected);
    // Whoever asks for more than there is gets all of it once.
    let greedy = server.send("GET", &path, &[("Range", "bytes=0-,0-,0-")], b"");
    assert_eq!((greedy.status, greedy.body.len()), (200, size));
    let reversed = server.send("GET", &path, &[("Range", "bytes=500-0")], b"");
    assert_eq!(reversed.error(), (416, "SIZE_INVALID".into()));
}

#[test]
fn what_was_pulled_is_recorded_at_the_latest_when_the_server_ends() {
    let server = Server::writable();
    server.push_image("a", "v1", "");
    server.push_image("b", "v1", "");
    assert_eq!(server.head("/v2/a/manifests/v1").status, 200);
    assert_eq!(server.get("/v2/b/manifests/v2").status, 404);
    let server = server.restarted(Access::ReadOnly);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pulled = |name: &str| {
        let name = name.parse().unwrap();
        runtime.block_on(async {
            let store = hab_store::Store::open(server.folder()).await.unwrap();
            store.catalog.tag_rows(&name).await.unwrap()[0].pulled
        })
    };
    assert!(pulled("a").is_some() && pulled("b").is_none());
}
