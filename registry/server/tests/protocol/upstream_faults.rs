//! An upstream that is slow, stops, sends too much, too little or something else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Patience, UpstreamConfig};

use crate::harness::Server;
use crate::harness::fake::{Fake, Say};
use crate::harness::upstream::{Repository, config, through};

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";
/// Longer than any patience of these tests, so that a test that waits for it fails.
const LONG: Duration = Duration::from_secs(300);

/// Little patience with silence, or with what goes on for too long.
fn impatient(url: &str, silence: Duration, whole: Duration) -> UpstreamConfig {
    let patience =
        Patience { silence, small: whole, large: whole, slowest: 1 << 40, rest: Duration::from_millis(1) };
    UpstreamConfig { patience, ..config(url) }
}

fn layer() -> Vec<u8> {
    "a layer ".repeat(50_000).into_bytes()
}

fn blob_path() -> String {
    format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(&layer()))
}

/// That a client gets no whole layer, and that nothing of it is kept.
#[track_caller]
fn nothing_came(server: &Server) {
    let got = server.raw_get(&blob_path());
    assert!(got.is_none_or(|reply| reply.status != 200 || reply.body.len() < layer().len()));
    let kept = hab_store::Blobs::open(server.folder()).unwrap();
    assert_eq!(kept.get(&Digest::of(&layer())).unwrap(), None);
    let left = std::fs::read_dir(server.folder().join("blobs/tmp")).unwrap().count();
    assert_eq!(left, 0, "half a blob is left behind");
}

#[test]
fn a_blob_that_stalls_is_given_up() {
    // Silent before the second half, again and again: a resumed one stalls too.
    let upstream = Fake::start(|_| Say { pause: LONG, ..Say::ok("application/octet-stream", &layer()) });
    let short = Duration::from_millis(200);
    nothing_came(&through(impatient(&upstream.url(), short, LONG)));
}

#[test]
fn a_blob_that_trickles_is_given_up_when_it_takes_too_long() {
    let slow = Duration::from_millis(100);
    let upstream = Fake::start(move |_| Say { slow, ..Say::ok("application/octet-stream", &layer()) });
    // Never silent for long, so that only the whole time counts.
    nothing_came(&through(impatient(&upstream.url(), LONG, Duration::from_millis(500))));
}

#[test]
fn a_blob_without_end_or_length_is_refused() {
    for say in [
        Say { endless: true, ..Say::ok("application/octet-stream", b"") },
        Say { lengthless: true, ..Say::ok("application/octet-stream", &layer()) },
    ] {
        let upstream = Fake::start(move |_| say.clone());
        let server = through(config(&upstream.url()));
        assert_eq!(server.get(&blob_path()).error(), (502, "UNKNOWN".into()));
        nothing_came(&server);
    }
}

#[test]
fn a_blob_that_is_empty_a_page_or_too_large_is_refused() {
    let html = b"<html>please log in</html>";
    for say in [
        Say::ok("application/octet-stream", b""),
        Say::ok("text/html", html),
        Say::status(204),
        Say::status(302),
        Say::ok("application/octet-stream", &layer()[1..]),
        Say { status: 206, ..Say::ok("application/octet-stream", &layer()) },
    ] {
        let status = say.status;
        let upstream = Fake::start(move |_| say.clone());
        let server = through(config(&upstream.url()));
        let reply = server.raw_get(&blob_path());
        // Not even as an answer that is whole and something else.
        let whole = |r: &crate::harness::Reply| {
            r.status == 200 && r.header("content-length").unwrap() == r.body.len().to_string()
        };
        assert!(!reply.as_ref().is_some_and(whole), "{status}: {reply:?}");
        nothing_came(&server);
    }
}

#[test]
fn the_empty_blob_may_be_empty() {
    let upstream = Fake::start(|_| Say::ok("application/octet-stream", b""));
    let server = through(config(&upstream.url()));
    let reply = server.get(&format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(b"")));
    assert_eq!((reply.status, reply.body.len()), (200, 0));
}

#[test]
fn a_blob_that_breaks_off_comes_from_one_that_knows_no_ranges_too() {
    let tries = AtomicUsize::new(0);
    let upstream = Fake::start(move |_| {
        let cut = 100_000 * (1 + tries.fetch_add(1, Ordering::Relaxed));
        Say { cut: Some(cut.min(layer().len())), ..Say::ok("application/octet-stream", &layer()) }
    });
    let got = through(config(&upstream.url())).get(&blob_path());
    assert!(got.status == 200 && got.body == layer());
    assert_eq!(upstream.asked("").len(), 4);
}

#[test]
fn a_blob_that_breaks_off_and_cannot_be_resumed_is_not_whole() {
    let part = |from: usize, said: &str| {
        let say = Say { status: 206, ..Say::ok("application/octet-stream", &layer()[from..]) };
        say.with("Content-Range", said)
    };
    let rests = [
        // The whole again, and cut off again.
        Say { cut: Some(100_000), ..Say::ok("application/octet-stream", &layer()) },
        Say::status(416),
        Say::status(500),
        // Other bytes than were asked for, whether it says so or not.
        part(100_001, "bytes 100001-399999/400000"),
        part(99_999, "bytes 100000-399999/400000"),
        Say { status: 206, ..Say::ok("application/octet-stream", b"") },
    ];
    for rest in rests {
        let tries = AtomicUsize::new(0);
        let upstream = Fake::start(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Say { cut: Some(100_000), ..Say::ok("application/octet-stream", &layer()) },
            _ => rest.clone(),
        });
        nothing_came(&through(config(&upstream.url())));
        assert!(upstream.asked("").len() <= 5);
    }
}

#[test]
fn a_blob_that_goes_on_breaking_off_comes_as_long_as_it_goes_on() {
    let large: Vec<u8> = "larger ".repeat(1_500_000).into_bytes();
    let digest = Digest::of(&large);
    let said = large.clone();
    let upstream = Fake::start(move |asked| {
        let first: usize = asked
            .header("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
            .unwrap_or(0);
        let status = if first > 0 { 206 } else { 200 };
        Say { status, cut: Some(1_200_000.min(said.len() - first)), ..Say::ok("x/y", &said[first..]) }
    });
    let server = through(config(&upstream.url()));
    let got = server.get(&format!("/v2/up.invalid/a/b/blobs/{digest}"));
    assert!(got.status == 200 && got.body == large);
    assert!(upstream.asked("").len() > 5, "more often than it may fail in a row");
}

#[test]
fn a_manifest_that_does_not_come_to_an_end_is_given_up() {
    let slow = Duration::from_millis(20);
    let trickling = Say { slow, ..Say::ok(media_type::IMAGE_MANIFEST, &[b' '; 10_000]) };
    let stalled = Say { pause: LONG, ..Say::ok(media_type::IMAGE_MANIFEST, &[b' '; 10_000]) };
    let endless = Say { endless: true, slow, ..Say::ok(media_type::IMAGE_MANIFEST, b"") };
    for say in [trickling, stalled, endless] {
        let upstream = Fake::start(move |_| say.clone());
        let server = through(impatient(&upstream.url(), LONG, Duration::from_millis(300)));
        assert_eq!(server.get(TAG).error(), (502, "UNKNOWN".into()));
    }
}

#[test]
fn a_head_that_never_comes_is_given_up() {
    let upstream = Fake::start(|_| {
        std::thread::sleep(Duration::from_secs(3));
        Say::status(404)
    });
    let server = through(impatient(&upstream.url(), Duration::from_millis(200), LONG));
    assert_eq!(server.get(TAG).error(), (502, "UNKNOWN".into()));
}

#[test]
fn a_manifest_of_another_digest_a_page_or_nothing_is_refused_and_not_kept() {
    let mut there = Repository::new();
    let (one, two) = (there.image("one", ""), there.image("two", ""));
    let (kind, bytes) = there.manifests[&two.to_string()].clone();
    for say in [
        Say::ok(kind, &bytes),
        Say::ok("text/html", b"<html>please log in</html>"),
        Say::ok(kind, b""),
        Say { status: 204, ..Say::default() },
        Say { cut: Some(20), ..Say::ok(kind, &bytes) },
    ] {
        let upstream = Fake::start(move |_| say.clone());
        let server = through(config(&upstream.url()));
        let path = format!("/v2/up.invalid/a/b/manifests/{one}");
        assert_eq!(server.get(&path).error(), (502, "UNKNOWN".into()));
        assert_ne!(server.get("/v2/up.invalid/a/b/tags/list").status, 200, "nothing is here");
    }
}
