//! Pulling other registries through this one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hab_oci::{Digest, media_type};
use hab_registry::UpstreamConfig;

use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::manifest;
use crate::harness::upstream::{config, through, wait_until};

/// An image, and an upstream that has it as `a/b:v1`.
struct Image {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn new(text: &str) -> Self {
        let config = format!("{{\"of\":\"{text}\"}}").into_bytes();
        let layer: Vec<u8> = text.bytes().cycle().take(600_000).collect();
        let manifest = manifest(&config, &layer, "");
        Self { config, layer, manifest }
    }

    /// What a registry that has it answers.
    fn say(&self, asked: &Asked) -> Say {
        let blobs: HashMap<String, &Vec<u8>> =
            [&self.config, &self.layer].into_iter().map(|b| (Digest::of(b).to_string(), b)).collect();
        let last = asked.path.rsplit('/').next().unwrap().to_owned();
        let digest = Digest::of(&self.manifest).to_string();
        if asked.path.contains("/manifests/") && (last == "v1" || last == digest) {
            return Say::ok(media_type::IMAGE_MANIFEST, &self.manifest)
                .with("Docker-Content-Digest", &digest);
        }
        let Some(bytes) = blobs.get(&last) else { return Say::status(404) };
        let first =
            asked.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match first {
            Some(first) => Say { status: 206, ..Say::ok("application/octet-stream", &bytes[first..]) },
            None => Say::ok("application/octet-stream", bytes),
        }
    }

    fn blob_path(&self) -> String {
        format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(&self.layer))
    }
}

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";

#[test]
fn an_image_comes_through_by_path_and_by_ns_and_stays_when_upstream_is_gone() {
    let image = Image::new("one");
    let (said, digest) = (Image::new("one"), Digest::of(&image.manifest));
    let upstream = Fake::start(move |asked| said.say(asked));
    let server = through(config(&upstream.url()));
    let first = server.get("/v2/a/b/manifests/v1?ns=up.invalid");
    assert_eq!((first.status, &first.body), (200, &image.manifest));
    assert_eq!(first.header("x-hab-cache"), Some("miss"));
    assert_eq!(first.header("docker-content-digest"), Some(digest.to_string().as_str()));
    let again = server.get(TAG);
    assert_eq!((again.header("x-hab-cache"), &again.body), (Some("hit"), &image.manifest));
    let blob = server.get(&image.blob_path());
    assert_eq!((blob.status, blob.header("x-hab-cache")), (200, Some("miss")));
    assert!(blob.body == image.layer);
    let config = format!("/v2/a/b/blobs/{}?ns=up.invalid", Digest::of(&image.config));
    assert_eq!(server.get(&config).body, image.config);
    upstream.stop();
    wait_until("the layer is here", || server.get(&image.blob_path()).header("x-hab-cache") == Some("hit"));
    for path in [TAG.to_owned(), format!("/v2/a/b/manifests/{digest}?ns=up.invalid")] {
        assert_eq!(server.get(&path).body, image.manifest);
    }
    assert!(server.get(&image.blob_path()).body == image.layer);
    let part = server.send("GET", &image.blob_path(), &[("Range", "bytes=5-9")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &image.layer[5..10]));
    // It is read-only, and an ns that nobody configured is nobody's.
    let upload = server.send("POST", "/v2/up.invalid/a/b/blobs/uploads/", &[], b"");
    assert_eq!(upload.error(), (405, "DENIED".into()));
    assert_eq!(server.get("/v2/a/b/manifests/v1?ns=other.invalid").error(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(server.get("/v2/a/b/manifests/v1").status, 404, "ours is another");
}

#[test]
fn fifty_clients_that_miss_one_blob_make_one_request() {
    let image = Image::new("many");
    let said = Image::new("many");
    let upstream = Fake::start(move |asked| Say { pause: Duration::from_millis(300), ..said.say(asked) });
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(TAG).status, 200);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let reply = server.get(&image.blob_path());
                assert_eq!(reply.status, 200);
                assert!(reply.body == image.layer);
            });
        }
    });
    assert_eq!(upstream.asked(&Digest::of(&image.layer).to_string()).len(), 1);
    assert_eq!(upstream.asked("/manifests/v1").len(), 1);
}

#[test]
fn a_blob_that_breaks_off_is_resumed_where_it_was() {
    let image = Image::new("cut");
    let said = Image::new("cut");
    let cuts = AtomicUsize::new(0);
    let upstream = Fake::start(move |asked| {
        let cut = asked.path.contains("/blobs/") && cuts.fetch_add(1, Ordering::Relaxed) < 2;
        Say { cut: cut.then_some(100_000), ..said.say(asked) }
    });
    let server = through(config(&upstream.url()));
    assert!(server.get(&image.blob_path()).body == image.layer);
    let asked = upstream.asked(&Digest::of(&image.layer).to_string());
    let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=200000-")]);
}

#[test]
fn other_bytes_than_the_digest_are_never_whole_and_never_kept() {
    let image = Image::new("right");
    let wrong = image.layer.iter().map(|b| b ^ 1).collect::<Vec<u8>>();
    let upstream = Fake::start(move |_| Say::ok("application/octet-stream", &wrong));
    let server = through(config(&upstream.url()));
    for _ in 0..2 {
        let got = server.raw_get(&image.blob_path());
        assert!(got.is_none_or(|reply| reply.body.len() < image.layer.len()));
    }
    let path = format!("/v2/up.invalid/a/b/manifests/{}", Digest::of(b"something"));
    assert_eq!(server.get(&path).error(), (502, "UNKNOWN".into()));
    let kept = hab_store::Blobs::open(server.folder()).unwrap();
    assert_eq!(kept.get(&Digest::of(&image.layer)).unwrap(), None);
}

#[test]
fn what_is_no_manifest_is_refused_and_nothing_waits_for_an_endless_one() {
    let html = Say::ok("text/html", b"<html>please log in</html>");
    let empty = Say::ok(media_type::IMAGE_MANIFEST, b"");
    let endless = Say { endless: true, ..Say::ok(media_type::IMAGE_MANIFEST, b"") };
    for said in [html, empty, endless] {
        let upstream = Fake::start(move |_| said.clone());
        let server = through(config(&upstream.url()));
        let start = Instant::now();
        assert_eq!(server.get(TAG).error(), (502, "UNKNOWN".into()));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_ne!(server.get("/v2/up.invalid/a/b/tags/list").status, 200, "nothing is here");
    }
}

#[test]
fn an_upstream_that_limits_is_left_alone_and_what_is_here_is_served_as_stale() {
    let image = Image::new("limited");
    let said = Image::new("limited");
    let limits = Arc::new(AtomicUsize::new(0));
    let on = limits.clone();
    let upstream = Fake::start(move |asked| match on.load(Ordering::Relaxed) {
        0 => said.say(asked),
        _ => Say::status(429).with("Retry-After", "3000"),
    });
    let server = through(UpstreamConfig { ttl: Duration::ZERO, ..config(&upstream.url()) });
    server.get(TAG);
    assert!(server.get(&image.blob_path()).body == image.layer);
    server.get(&format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(&image.config)));
    limits.store(1, Ordering::Relaxed);
    wait_until("it was asked again", || {
        let reply = server.get(TAG);
        assert_eq!((reply.status, reply.header("x-hab-cache")), (200, Some("stale")));
        upstream.asked("/manifests/v1").iter().filter(|asked| asked.method == "HEAD").count() > 0
    });
    wait_until("what it answered was noticed", || {
        let before = upstream.asked("").len();
        assert_eq!(server.get("/v2/up.invalid/a/b/manifests/v2").error(), (502, "UNKNOWN".into()));
        upstream.asked("").len() == before
    });
    let before = upstream.asked("").len();
    for _ in 0..5 {
        assert_eq!(server.get(TAG).body, image.manifest);
    }
    assert_eq!(server.get("/v2/up.invalid/a/b/manifests/v2").error(), (502, "UNKNOWN".into()));
    assert_eq!(upstream.asked("").len(), before, "it is not asked");
}

#[test]
fn a_manifest_whose_layers_cannot_be_had_is_refused_so_that_clients_ask_elsewhere() {
    let said = Image::new("half");
    let upstream = Fake::start(move |asked| said.say(asked));
    let server = through(UpstreamConfig { ttl: Duration::ZERO, ..config(&upstream.url()) });
    assert_eq!(server.get(TAG).status, 200);
    upstream.stop();
    wait_until("that it is away was noticed", || server.get(TAG).status == 502);
}

#[test]
fn a_tag_that_moves_upstream_is_stale_once_and_then_new() {
    let now = Arc::new(Mutex::new(Image::new("old")));
    let said = now.clone();
    let upstream = Fake::start(move |asked| said.lock().unwrap().say(asked));
    let server = through(UpstreamConfig { ttl: Duration::from_secs(2), ..config(&upstream.url()) });
    let old = server.get(TAG).body;
    *now.lock().unwrap() = Image::new("new");
    let new = Image::new("new").manifest;
    assert_eq!(server.get(TAG).body, old, "within its time to live");
    std::thread::sleep(Duration::from_millis(2100));
    let stale = server.get(TAG);
    assert_eq!((stale.header("x-hab-cache"), &stale.body), (Some("stale"), &old));
    wait_until("the new one is here", || server.get(TAG).body == new);
    // Whoever pinned the old one still has it.
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/{}", Digest::of(&old))).body, old);
    // A tag that is fixed does not move.
    let fixed = through(UpstreamConfig {
        fixed: vec!["v*".parse().unwrap()],
        ttl: Duration::ZERO,
        ..config(&upstream.url())
    });
    assert_eq!(fixed.get(TAG).body, new);
    *now.lock().unwrap() = Image::new("newest");
    assert_eq!((fixed.get(TAG).header("x-hab-cache"), fixed.get(TAG).body), (Some("hit"), new));
}

#[test]
fn a_token_is_fetched_once_and_sent_and_a_password_only_to_the_token_service() {
    let said = Image::new("token");
    let upstream = Fake::start(move |asked| {
        let host = asked.header("host").unwrap().to_owned();
        if asked.path.starts_with("/token") {
            // Basic dXNlcjpwYXNz is user:pass.
            return match asked.header("authorization") {
                Some("Basic dXNlcjpwYXNz") => {
                    Say::ok("application/json", br#"{"access_token":"sesame","expires_in":300}"#)
                }
                _ => Say::status(401),
            };
        }
        match asked.header("authorization") {
            Some("Bearer sesame") => said.say(asked),
            _ => Say::status(401).with(
                "WWW-Authenticate",
                &format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:a/b:pull\""),
            ),
        }
    });
    let user = |name: &str| UpstreamConfig {
        username: Some(name.to_owned()),
        password: Some("pass".to_owned()),
        ..config(&upstream.url())
    };
    let server = through(user("user"));
    let image = Image::new("token");
    assert_eq!(server.get(TAG).body, image.manifest);
    assert!(server.get(&image.blob_path()).body == image.layer);
    let tokens = upstream.asked("").into_iter().filter(|asked| asked.path.starts_with("/token")).count();
    assert_eq!(tokens, 1);
    assert!(
        upstream.asked("/v1").iter().all(|asked| asked.header("authorization") != Some("Basic dXNlcjpwYXNz"))
    );
    // A wrong password is no absence.
    assert_eq!(through(user("other")).get(TAG).error(), (502, "UNKNOWN".into()));
}

#[test]
fn what_is_not_on_the_list_is_never_asked_for() {
    let said = Image::new("list");
    let upstream = Fake::start(move |asked| said.say(asked));
    let only = UpstreamConfig { repositories: vec!["library/*".parse().unwrap()], ..config(&upstream.url()) };
    assert_eq!(through(only).get(TAG).error(), (403, "DENIED".into()));
    let pinned = through(UpstreamConfig { digest_only: true, ..config(&upstream.url()) });
    assert_eq!(pinned.get(TAG).error(), (403, "DENIED".into()));
    assert!(upstream.asked("").is_empty());
    let image = Image::new("list");
    let by_digest = format!("/v2/up.invalid/a/b/manifests/{}", Digest::of(&image.manifest));
    assert_eq!(pinned.get(&by_digest).body, image.manifest);
}
