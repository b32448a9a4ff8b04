//! Bytes are reached only through a repository that holds them, and a repository holds what was pushed there, mounted by
//! somebody who may read it, or sent by the upstream whose repository it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Access, Change, ServiceLimits, UpstreamConfig, Upstreams};
use hab_store::Store;

use crate::access::unauthorized;
use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::secure::Files;
use crate::harness::upstream::{config, wait_until};
use crate::harness::{Reply, Server, Setup, manifest};

/// alice may do everything, bob what is below `bob/`; what is pulled through `up.invalid/pub` and `up.invalid/more` is for
/// everybody.
fn world(upstreams: Vec<UpstreamConfig>) -> Server {
    let files = Files::new();
    let rules = [
        ("alice", "*", "pull push delete"),
        ("bob", "bob/*", "pull push"),
        ("anonymous bob", "up.invalid/pub/* up.invalid/more/* up.invalid/closed/*", "pull"),
    ];
    let setup = Setup {
        access: Some(files.access(&["alice", "bob"], &rules)),
        upstreams: Upstreams::new(upstreams).unwrap(),
        ..Setup::default()
    };
    Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup)
}

fn secret() -> Vec<u8> {
    b"a private layer, ".repeat(5000)
}

fn pushed(server: &Server, name: &str, bytes: &[u8]) {
    let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(bytes));
    assert_eq!(server.by("alice", "POST", &path, bytes).status, 201);
}

/// The answer even if it is cut off.
fn read(server: &Server, path: &str) -> Option<Reply> {
    server.raw_get(path)
}

/// A manifest that names some bytes as its layer and its configuration.
fn naming(bytes: &[u8]) -> Say {
    let body = manifest(bytes, bytes, "");
    Say::ok(media_type::IMAGE_MANIFEST, &body).with("Docker-Content-Digest", &Digest::of(&body).to_string())
}

/// What is asked for of a blob: all of it, or `bytes=N-`.
pub fn part(asked: &Asked, bytes: &[u8]) -> Say {
    let first: Option<usize> =
        asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match first {
        None => Say::ok("application/octet-stream", bytes),
        Some(first) if first >= bytes.len() => Say::status(416),
        Some(first) => Say { status: 206, ..Say::ok("application/octet-stream", &bytes[first..]) }
            .with("Content-Range", &format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len())),
    }
}

/// Requests for all of a blob, and for a part of it, at this path.
fn asked_for(upstream: &Fake, path: &str) -> (usize, usize) {
    let gets: Vec<_> = upstream.asked(path).into_iter().filter(|asked| asked.method == "GET").collect();
    let parts = gets.iter().filter(|asked| asked.header("range").is_some()).count();
    (gets.len() - parts, parts)
}

#[test]
fn a_manifest_of_an_upstream_that_names_a_private_blob_gives_nobody_its_bytes() {
    let digest = Digest::of(&secret());
    // One that has none of the bytes; one that says it has them and sends others of the same length; and one that has the
    // length and the last byte right, and says no to all of it.
    let junk = vec![b'x'; secret().len()];
    let (honest, liar, clever) =
        (
            Fake::start(|asked| {
                if asked.path.contains("/manifests/") { naming(&secret()) } else { Say::status(404) }
            }),
            Fake::start(move |asked| {
                if asked.path.contains("/manifests/") { naming(&secret()) } else { part(asked, &junk) }
            }),
            Fake::start(|asked| match asked.header("range") {
                _ if asked.path.contains("/manifests/") => naming(&secret()),
                None if asked.method == "GET" => Say::status(404),
                _ => part(asked, &secret()),
            }),
        );
    for upstream in [&honest, &liar, &clever] {
        let server = world(vec![config(&upstream.url())]);
        pushed(&server, "private", &secret());
        let blob = format!("/v2/up.invalid/pub/x/blobs/{digest}");
        assert_eq!(server.get("/v2/up.invalid/pub/x/manifests/v1").status, 200, "it may name what it likes");
        for _ in 0..2 {
            let reply = read(&server, &blob);
            let body = reply.map(|reply| reply.body).unwrap_or_default();
            assert!(!body.windows(16).any(|some| some == &secret()[..16]), "not a byte of it");
        }
        for from in ["", "&from=up.invalid/pub/x", "&from=private"] {
            let mount = format!("/v2/bob/x/blobs/uploads/?mount={digest}{from}");
            assert_eq!(server.by("bob", "POST", &mount, b"").status, 202, "{from}");
        }
        assert_eq!(server.by("bob", "GET", &format!("/v2/bob/x/blobs/{digest}"), b"").status, 404);
        assert_eq!(server.get(&format!("/v2/private/blobs/{digest}")).error(), unauthorized());
        assert_eq!(server.by("alice", "GET", &format!("/v2/private/blobs/{digest}"), b"").body, secret());
    }
}

#[test]
fn a_sync_of_a_manifest_that_names_a_private_blob_brings_nothing() {
    let upstream = Fake::start(|asked| {
        if asked.path.contains("/tags/list") {
            Say::ok("application/json", br#"{"name":"pub/x","tags":["v1"]}"#)
        } else if asked.path.contains("/manifests/") {
            naming(&secret())
        } else {
            Say::status(404)
        }
    });
    let server = world(vec![config(&upstream.url())]);
    pushed(&server, "private", &secret());
    let digest = Digest::of(&secret());
    let rule = serde_json::from_str(r#"{"repository":"pub/x","tags":"v1","referrers":false}"#).unwrap();
    let upstreams = Upstreams::new(vec![config(&upstream.url())]).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = Store::open(server.folder()).await.unwrap();
        let synced = upstreams.sync(&store, "up.invalid", &rule, false, |_, _| {}).await.unwrap();
        assert!(matches!(synced.tags.as_slice(), [(_, Change::Failed(_))]), "{synced:?}");
        store.catalog.close().await;
    });
    assert_eq!(server.get("/v2/up.invalid/pub/x/manifests/v1").status, 200, "pulled, not synced");
    assert_eq!(server.get(&format!("/v2/up.invalid/pub/x/blobs/{digest}")).status, 404);
}

/// An upstream whose repository `pub/x` has nothing, `priv/x` has the secret, and `more/x` has it while that is said.
struct Two {
    fake: Fake,
    more: Arc<AtomicBool>,
}

impl Two {
    fn new(pause: Duration) -> Self {
        let more = Arc::new(AtomicBool::new(true));
        let on = more.clone();
        let fake = Fake::start(move |asked| {
            let has = asked.path.starts_with("/v2/priv/")
                || asked.path.starts_with("/v2/more/") && on.load(Ordering::Relaxed);
            match asked.path.contains("/manifests/") {
                true => naming(&secret()),
                false if has => Say { pause, ..part(asked, &secret()) },
                false => Say::status(404),
            }
        });
        Self { fake, more }
    }
}

fn blob_of(name: &str) -> String {
    format!("/v2/up.invalid/{name}/blobs/{}", Digest::of(&secret()))
}

#[test]
fn a_running_download_is_joined_by_those_whom_upstream_gives_the_same_blob_and_by_nobody_else() {
    let two = Two::new(Duration::from_secs(2));
    let server = world(vec![config(&two.fake.url())]);
    assert_eq!(server.get("/v2/up.invalid/pub/x/manifests/v1").status, 200);
    std::thread::scope(|scope| {
        let alice = scope.spawn(|| server.by("alice", "GET", &blob_of("priv/x"), b""));
        wait_until("it is on its way", || asked_for(&two.fake, &blob_there("priv/x")).0 == 1);
        let more = scope.spawn(|| server.get(&blob_of("more/x")));
        for _ in 0..2 {
            let stranger = server.get(&blob_of("pub/x"));
            assert_eq!(stranger.error(), (404, "BLOB_UNKNOWN".to_owned()));
        }
        assert_eq!(server.get(&blob_of("priv/x")).error(), unauthorized());
        assert_eq!(alice.join().unwrap().body, secret());
        assert_eq!(more.join().unwrap().body, secret());
    });
    // It came once, and both hold it now without upstream.
    assert_eq!(asked_for(&two.fake, &blob_there("priv/x")).0, 1);
    assert_eq!(asked_for(&two.fake, &blob_there("more/x")), (0, 1));
    two.fake.stop();
    assert_eq!(server.get(&blob_of("more/x")).body, secret());
    assert_ne!(server.get(&blob_of("pub/x")).status, 200);
}

fn blob_there(name: &str) -> String {
    format!("/v2/{name}/blobs/{}", Digest::of(&secret()))
}

#[test]
fn what_one_repository_of_an_upstream_was_sent_another_need_only_be_promised() {
    let two = Two::new(Duration::ZERO);
    two.more.store(false, Ordering::Relaxed);
    let forgetful = UpstreamConfig { absent: Duration::ZERO, ..config(&two.fake.url()) };
    let server = world(vec![forgetful]);
    assert_eq!(server.by("alice", "GET", &blob_of("priv/x"), b"").body, secret());
    for name in ["pub/x", "more/x"] {
        assert_eq!(server.get(&blob_of(name)).error(), (404, "BLOB_UNKNOWN".to_owned()));
        assert_eq!(server.head(&blob_of(name)).status, 404);
    }
    two.more.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(server.get(&blob_of("more/x")).body, secret());
    }
    assert_eq!(asked_for(&two.fake, &blob_there("more/x")).0, 0, "all of it came only once");
    // Another address is another upstream, whatever it is called.
    let other = Two::new(Duration::ZERO);
    let server =
        server.restarted_through(Access::ReadOnly, Upstreams::new(vec![config(&other.fake.url())]).unwrap());
    assert_eq!(server.get(&blob_of("more/y")).body, secret());
    assert_eq!(asked_for(&other.fake, &blob_there("more/y")).0, 1);
}

#[test]
fn bytes_that_were_pushed_here_become_an_upstreams_only_when_it_sends_them() {
    let two = Two::new(Duration::ZERO);
    let server = world(vec![config(&two.fake.url())]);
    pushed(&server, "private", &secret());
    assert_eq!(server.get(&blob_of("more/x")).body, secret());
    assert_eq!(asked_for(&two.fake, &blob_there("more/x")).0, 1);
    assert_eq!(server.get(&blob_of("pub/x")).status, 404);
}

#[test]
fn fifty_clients_of_one_repository_are_one_request_and_a_second_repository_one_byte() {
    let two = Two::new(Duration::from_millis(500));
    let server = world(vec![config(&two.fake.url())]);
    let bodies = Mutex::new(0);
    std::thread::scope(|scope| {
        for n in 0..50 {
            let (server, bodies) = (&server, &bodies);
            scope.spawn(move || {
                let name = if n % 2 == 0 { "more/x" } else { "more/y" };
                assert!(server.get(&blob_of(name)).body == secret());
                *bodies.lock().unwrap() += 1;
            });
        }
    });
    assert_eq!(*bodies.lock().unwrap(), 50);
    let (x, y) = (asked_for(&two.fake, &blob_there("more/x")), asked_for(&two.fake, &blob_there("more/y")));
    // Both may begin at the same moment; neither ever asks twice.
    assert!(x.0 <= 1 && y.0 <= 1 && x.0 + x.1 == 1 && y.0 + y.1 == 1, "{x:?} {y:?}");
}

#[test]
fn nothing_is_mounted_from_an_upstreams_repository_that_may_not_be_pulled_any_more() {
    let two = Two::new(Duration::ZERO);
    let server = world(vec![config(&two.fake.url())]);
    assert_eq!(server.get(&blob_of("more/x")).body, secret());
    let digest = Digest::of(&secret());
    let mount = |server: &Server, from: &str| {
        let path = format!("/v2/own/x/blobs/uploads/?mount={digest}{from}");
        server.send("POST", &path, &[], b"").status
    };
    let only = UpstreamConfig { repositories: vec!["other/*".parse().unwrap()], ..config(&two.fake.url()) };
    let server = server.restarted_through(Access::ReadWrite, Upstreams::new(vec![only]).unwrap());
    assert_eq!(server.get(&blob_of("more/x")).status, 403);
    for from in ["&from=up.invalid/more/x", ""] {
        assert_eq!(mount(&server, from), 202, "{from:?}");
    }
    let server =
        server.restarted_through(Access::ReadWrite, Upstreams::new(vec![config(&two.fake.url())]).unwrap());
    assert_eq!(mount(&server, "&from=up.invalid/more/x"), 201);
}

#[test]
fn a_manifest_that_names_bytes_of_another_repository_is_refused_like_one_that_names_nobodys() {
    let server = world(Vec::new());
    pushed(&server, "private", &secret());
    let mut answers = Vec::new();
    for bytes in [secret(), b"nobody's".to_vec()] {
        let body = manifest(&bytes, &bytes, "");
        let path = format!("/v2/bob/x/manifests/{}", Digest::of(&body));
        let shown = crate::harness::secure::basic("bob");
        let headers = [("Authorization", shown.as_str()), ("Content-Type", media_type::IMAGE_MANIFEST)];
        let reply = server.send("PUT", &path, &headers, &body);
        let text = String::from_utf8(reply.body.clone()).unwrap();
        let text =
            text.replace(&Digest::of(&bytes).to_string(), "D").replace(&Digest::of(&body).to_string(), "M");
        answers.push((reply.status, text));
        // Neither was written to disk: how long that takes would tell them apart.
        let hex = Digest::of(&body).hex().to_owned();
        assert!(!server.folder().join(format!("blobs/sha256/{}/{hex}", &hex[..2])).exists());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, 400);
}
