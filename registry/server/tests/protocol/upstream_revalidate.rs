//! Tags that are looked up before they are answered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Revalidate, UpstreamConfig};

use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::upstream::{config, through, wait_until};
use crate::harness::{Reply, Server, manifest};

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";
const LONG: Duration = Duration::from_secs(15);

fn image(text: &str) -> Vec<u8> {
    manifest(format!("{{\"of\":\"{text}\"}}").as_bytes(), b"", "")
}

fn say(asked: &Asked, image: &[u8]) -> Say {
    if !asked.path.contains("/manifests/") {
        return Say::status(404);
    }
    Say::ok(media_type::IMAGE_MANIFEST, image).with("Docker-Content-Digest", &Digest::of(image).to_string())
}

fn before(url: &str, time: Duration, ttl: Duration) -> UpstreamConfig {
    UpstreamConfig { ttl, revalidate: Revalidate::Before(time), ..config(url) }
}

fn got(server: &Server) -> (Vec<u8>, String) {
    let reply: Reply = server.get(TAG);
    assert_eq!(reply.status, 200, "{reply:?}");
    let cache = reply.header("x-hab-cache").unwrap().to_owned();
    (reply.body, cache)
}

#[test]
fn the_first_answer_after_a_tag_moved_is_the_newest() {
    let now = Arc::new(Mutex::new(image("old")));
    let said = now.clone();
    let upstream = Fake::start(move |asked| say(asked, &said.lock().unwrap()));
    let server = through(before(&upstream.url(), LONG, Duration::ZERO));
    assert_eq!(got(&server), (image("old"), "miss".into()));
    assert_eq!(got(&server), (image("old"), "hit".into()), "it was looked up, and is what it was");
    for text in ["new", "newer"] {
        *now.lock().unwrap() = image(text);
        assert_eq!(got(&server), (image(text), "miss".into()));
    }
    // A HEAD is a pull, too: clients resolve a tag by one.
    *now.lock().unwrap() = image("newest");
    let head = server.head(TAG);
    assert_eq!(head.header("docker-content-digest"), Some(Digest::of(&image("newest")).to_string().as_str()));
    // Within its time to live, it is not looked up.
    let asked = upstream.asked("/v1").len();
    let rested = through(before(&upstream.url(), LONG, Duration::from_secs(600)));
    got(&rested);
    assert_eq!(got(&rested).1, "hit");
    assert_eq!(upstream.asked("/v1").len(), asked + 1);
}

#[test]
fn who_waits_longer_than_the_bound_gets_what_is_here_and_the_next_one_the_newest() {
    let (now, slow) = (Arc::new(Mutex::new(image("old"))), Arc::new(AtomicUsize::new(0)));
    let (said, waits) = (now.clone(), slow.clone());
    let upstream = Fake::start(move |asked| {
        while waits.load(Ordering::Relaxed) == 1 {
            std::thread::sleep(Duration::from_millis(10));
        }
        say(asked, &said.lock().unwrap())
    });
    let server = through(before(&upstream.url(), Duration::from_millis(200), Duration::ZERO));
    got(&server);
    *now.lock().unwrap() = image("new");
    slow.store(1, Ordering::Relaxed);
    assert_eq!(got(&server), (image("old"), "stale".into()));
    slow.store(0, Ordering::Relaxed);
    wait_until("what was begun has ended", || got(&server).0 == image("new"));
}

#[test]
fn an_upstream_that_is_away_keeps_nobody_waiting_and_what_is_here_is_called_stale() {
    let status = Arc::new(AtomicUsize::new(200));
    let says = status.clone();
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    let image = manifest(config, layer, "");
    let said = image.clone();
    let upstream = Fake::start(move |asked| {
        let blobs =
            [config, layer].into_iter().find(|bytes| asked.path.ends_with(&Digest::of(bytes).to_string()));
        match (says.load(Ordering::Relaxed), blobs) {
            (200, Some(bytes)) => Say::ok("application/octet-stream", bytes),
            (200, None) => say(asked, &said),
            (other, _) => Say::status(u16::try_from(other).unwrap()),
        }
    });
    let server = through(before(&upstream.url(), LONG, Duration::ZERO));
    got(&server);
    for blob in [config, layer] {
        assert_eq!(server.get(&format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(blob))).status, 200);
    }
    // A tag that is gone there stays here: that was looked up, too.
    status.store(404, Ordering::Relaxed);
    assert_eq!(got(&server), (image.clone(), "hit".into()));
    wait_until("all of it is here", || {
        let path = format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(layer));
        server.get(&path).header("x-hab-cache") == Some("hit")
    });
    status.store(503, Ordering::Relaxed);
    assert_eq!(got(&server), (image.clone(), "stale".into()));
    let asked = upstream.asked("").len();
    assert_eq!(got(&server), (image, "stale".into()), "it is left alone");
    assert_eq!(upstream.asked("").len(), asked);
}

#[test]
fn of_many_who_pull_at_the_same_time_one_asks() {
    let upstream = Fake::start(move |asked| {
        std::thread::sleep(Duration::from_millis(300));
        say(asked, &image("same"))
    });
    let server = through(before(&upstream.url(), LONG, Duration::ZERO));
    got(&server);
    let before = upstream.asked("/v1").len();
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| assert_eq!(got(&server).1, "hit"));
        }
    });
    let asked = upstream.asked("/v1").len() - before;
    assert!((1..15).contains(&asked), "{asked}");
}
