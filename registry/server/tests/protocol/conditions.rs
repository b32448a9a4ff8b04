//! Conditional requests: RFC 9110, section 13.

use hab_oci::{Digest, media_type};

use crate::harness::fake::Fake;
use crate::harness::upstream::{Repository, config, through};
use crate::harness::{Server, manifest};

fn quoted(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

#[test]
fn who_has_it_already_is_told_so_and_sent_nothing() {
    let server = Server::writable();
    let image = Digest::of(&server.push_image("a", "v1", ""));
    let (blob, other) = (Digest::of(b"a layer"), Digest::of(b"other"));
    for (path, digest) in [
        ("/v2/a/manifests/v1".to_owned(), &image),
        (format!("/v2/a/manifests/{image}"), &image),
        (format!("/v2/a/blobs/{blob}"), &blob),
    ] {
        for method in ["GET", "HEAD"] {
            let with = |name, value: &str| server.send(method, &path, &[(name, value)], b"");
            for same in [quoted(digest), format!("W/{}", quoted(digest)), "*".into(), digest.to_string()] {
                let reply = with("If-None-Match", &same);
                assert_eq!((reply.status, reply.body.len()), (304, 0), "{method} {path} {same}");
                assert_eq!(reply.header("etag"), Some(quoted(digest).as_str()));
                assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
            }
            let list = format!("{}, {}", quoted(&other), quoted(digest));
            assert_eq!(with("If-None-Match", &list).status, 304);
            for another in [quoted(&other), "\"x\"".into(), String::new()] {
                assert_eq!(with("If-None-Match", &another).status, 200, "{another}");
            }
            assert_eq!(with("If-Match", &quoted(digest)).status, 200);
            assert_eq!(with("If-Match", "*").status, 200);
            for another in [quoted(&other), format!("W/{}", quoted(digest)), String::new()] {
                assert_eq!(with("If-Match", &another).status, 412, "{another}");
            }
            // There are no dates here.
            assert_eq!(with("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT").status, 200);
            assert_eq!(with("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT").status, 200);
        }
    }
    // What is not there is unknown, whatever was expected of it.
    for (name, value) in [("If-Match", "*"), ("If-None-Match", "*"), ("If-Match", "\"x\"")] {
        let reply = server.send("GET", &format!("/v2/a/blobs/{other}"), &[(name, value)], b"");
        assert_eq!(reply.error(), (404, "BLOB_UNKNOWN".into()), "{name}: {value}");
        let reply = server.send("GET", "/v2/a/manifests/v2", &[(name, value)], b"");
        assert_eq!(reply.error(), (404, "MANIFEST_UNKNOWN".into()), "{name}: {value}");
    }
}

#[test]
fn a_condition_counts_before_a_range_and_a_range_of_something_else_is_the_whole() {
    let server = Server::writable();
    let blob = server.push_blob("a", b"0123456789");
    let path = format!("/v2/a/blobs/{blob}");
    let ask = |more: &[(&str, &str)]| {
        let reply = server.send("GET", &path, &[&[("Range", "bytes=2-3")], more].concat(), b"");
        (reply.status, String::from_utf8(reply.body).unwrap())
    };
    let (same, weak) = (quoted(&blob), format!("W/{}", quoted(&blob)));
    assert_eq!(ask(&[("If-Range", &same)]), (206, "23".into()));
    assert_eq!(ask(&[("If-Match", &same)]), (206, "23".into()));
    for other in ["\"other\"", &weak, "Thu, 01 Jan 1970 00:00:00 GMT"] {
        assert_eq!(ask(&[("If-Range", other)]), (200, "0123456789".into()), "{other}");
    }
    assert_eq!(ask(&[("If-None-Match", &same)]).0, 304);
    assert_eq!(ask(&[("If-Match", "\"other\"")]).0, 412);
}

#[test]
fn a_tag_moves_only_from_where_its_pusher_saw_it() {
    let server = Server::writable();
    let (config, layer) = (b"{\"of\":\"a\"}".as_slice(), b"a layer".as_slice());
    server.push_blob("a", config);
    server.push_blob("a", layer);
    let image = |n: u32| manifest(config, layer, &format!(",\"annotations\":{{\"n\":\"{n}\"}}"));
    let put = |n: u32, reference: &str, condition: &[(&str, &str)]| {
        let headers = [&[("Content-Type", media_type::IMAGE_MANIFEST)], condition].concat();
        server.send("PUT", &format!("/v2/a/manifests/{reference}"), &headers, &image(n)).status
    };
    let at = || Digest::of(&server.get("/v2/a/manifests/v1").body);
    let tag = |n: u32| quoted(&Digest::of(&image(n)));
    assert_eq!(put(1, "v1", &[("If-Match", "*")]), 412, "there is none yet");
    assert_eq!(put(1, "v1", &[("If-None-Match", "*")]), 201);
    assert_eq!(put(2, "v1", &[("If-None-Match", "*")]), 412, "somebody was first");
    assert_eq!(at(), Digest::of(&image(1)));
    assert_eq!(put(2, "v1", &[("If-Match", &tag(1))]), 201);
    assert_eq!(put(3, "v1", &[("If-Match", &tag(1))]), 412, "it has moved since");
    assert_eq!(put(3, "v1", &[("If-None-Match", &tag(2))]), 412);
    assert_eq!(at(), Digest::of(&image(2)));
    assert_eq!(put(3, "v1", &[("If-None-Match", &tag(1))]), 201);
    // By digest, only whether it is there can be asked.
    let by_digest = |n: u32| Digest::of(&image(n)).to_string();
    assert_eq!(put(4, &by_digest(4), &[("If-Match", "*")]), 412);
    assert_eq!(put(4, &by_digest(4), &[("If-None-Match", "*")]), 201);
    assert_eq!(put(4, &by_digest(4), &[("If-None-Match", "*")]), 412);
    assert_eq!(server.get(&format!("/v2/a/manifests/{}", by_digest(3))).status, 200);
    let refused = server.send(
        "PUT",
        "/v2/a/manifests/v1",
        &[("Content-Type", media_type::IMAGE_MANIFEST), ("If-Match", "\"x\"")],
        &image(5),
    );
    assert_eq!(refused.error(), (412, "PRECONDITION_FAILED".into()));
}

#[test]
fn of_many_who_want_to_make_the_same_tag_one_does() {
    let server = Server::writable();
    let (config, layer) = (b"{\"of\":\"a\"}".as_slice(), b"a layer".as_slice());
    server.push_blob("a", config);
    server.push_blob("a", layer);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let push = |n: u32| {
            let server = &server;
            scope.spawn(move || {
                let image = manifest(config, layer, &format!(",\"annotations\":{{\"n\":\"{n}\"}}"));
                let headers = [("Content-Type", media_type::IMAGE_MANIFEST), ("If-None-Match", "*")];
                server.send("PUT", "/v2/a/manifests/v1", &headers, &image).status
            })
        };
        let all: Vec<_> = (0..20).map(push).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 19, "{statuses:?}");
}

#[test]
fn what_is_another_by_now_is_not_deleted() {
    let server = Server::writable();
    let image = Digest::of(&server.push_image("a", "v1", ""));
    let (layer, loose) = (Digest::of(b"a layer"), server.push_blob("a", b"loose"));
    let delete = |path: &str, value: &str| server.send("DELETE", path, &[("If-Match", value)], b"").status;
    for path in ["/v2/a/manifests/v1", &format!("/v2/a/manifests/{image}"), &format!("/v2/a/blobs/{loose}")] {
        assert_eq!(delete(path, &quoted(&layer)), 412, "{path}");
        assert_eq!(server.head(path).status, 200, "{path}");
    }
    assert_eq!(delete("/v2/a/manifests/v2", &quoted(&layer)), 404);
    assert_eq!(delete("/v2/a/manifests/v1", &quoted(&image)), 202);
    assert_eq!(delete(&format!("/v2/a/manifests/{image}"), &quoted(&image)), 202);
    assert_eq!(delete(&format!("/v2/a/blobs/{loose}"), "*"), 202);
}

#[test]
fn a_condition_of_what_is_pulled_through_is_answered_as_of_what_is_here() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    let layer = there.blob("image".repeat(1000).as_bytes());
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    for path in
        ["/v2/up.invalid/a/b/manifests/v1".to_owned(), format!("/v2/up.invalid/a/b/manifests/{image}")]
    {
        let same = server.send("GET", &path, &[("If-None-Match", &quoted(&image))], b"");
        assert_eq!((same.status, same.header("etag")), (304, Some(quoted(&image).as_str())), "{path}");
        assert!(same.header("x-hab-cache").is_some());
        assert_eq!(server.send("HEAD", &path, &[("If-Match", &quoted(&layer))], b"").status, 412, "{path}");
    }
    let path = format!("/v2/up.invalid/a/b/blobs/{layer}");
    for method in ["HEAD", "GET", "GET"] {
        assert_eq!(server.send(method, &path, &[("If-None-Match", &quoted(&layer))], b"").status, 304);
    }
    let gone = format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(b"gone"));
    for method in ["HEAD", "GET"] {
        assert_eq!(server.send(method, &gone, &[("If-None-Match", "*")], b"").status, 404);
    }
}
