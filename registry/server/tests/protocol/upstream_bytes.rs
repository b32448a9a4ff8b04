//! Blobs that are not here yet: what is asked of them, and what of that waits for all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::UpstreamConfig;

use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::manifest;
use crate::harness::upstream::{config, through, wait_until};

fn layer() -> Vec<u8> {
    (0..500_000u32).flat_map(u32::to_le_bytes).collect()
}

/// An upstream that has one blob, and sends its second half when it is told to.
struct Gate {
    open: Arc<(Mutex<bool>, Condvar)>,
    upstream: Fake,
}

impl Gate {
    /// `sent`: the bytes that come for the blob of [`layer`].
    fn new(sent: Vec<u8>) -> Self {
        let open = Arc::<(Mutex<bool>, Condvar)>::default();
        let gate = open.clone();
        let upstream = Fake::gated(sent, move || {
            let (open, told) = &*gate;
            let held = open.lock().unwrap();
            drop(told.wait_timeout_while(held, Duration::from_secs(20), |open| !*open).unwrap());
        });
        Self { open, upstream }
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

fn path() -> String {
    format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(&layer()))
}

#[test]
fn a_part_that_has_come_is_sent_while_the_rest_is_on_its_way() {
    let (gate, bytes) = (Gate::new(layer()), layer());
    let server = through(config(&gate.upstream.url()));
    let ask = |range: &str| server.send("GET", &path(), &[("Range", range)], b"");
    let part = ask("bytes=100-199");
    assert_eq!((part.status, part.header("x-hab-cache")), (206, Some("miss")));
    assert!(part.body == bytes[100..200]);
    assert_eq!(part.header("content-range"), Some(format!("bytes 100-199/{}", bytes.len()).as_str()));
    let two = ask("bytes=0-9,900000-900009");
    assert_eq!(two.status, 206);
    assert!(two.body.windows(10).any(|found| found == &bytes[900_000..900_010]));
    assert_eq!(ask("bytes=9999999-").error(), (416, "SIZE_INVALID".into()));
    assert_eq!(gate.upstream.asked(&Digest::of(&bytes).to_string()).len(), 1, "one request for all of it");
    // The store has no such blob yet: the ranges above were answered during the download.
    let kept = hab_store::Blobs::open(server.folder()).unwrap();
    assert_eq!(kept.get(&Digest::of(&bytes)).unwrap(), None);
    gate.open();
    assert!(ask("bytes=1999990-").body == bytes[1_999_990..], "the end comes when it is there");
    wait_until("it is kept", || kept.get(&Digest::of(&bytes)).unwrap().is_some());
}

#[test]
fn nobody_has_the_whole_of_wrong_bytes_by_putting_parts_together() {
    let mut wrong = layer();
    *wrong.last_mut().unwrap() ^= 1;
    let gate = Gate::new(wrong.clone());
    let server = through(config(&gate.upstream.url()));
    let first = server.send("GET", &path(), &[("Range", "bytes=0-99")], b"");
    assert_eq!((first.status, first.body.as_slice()), (206, &wrong[..100]));
    // The part with the last byte, before and after it is known to be wrong.
    std::thread::scope(|scope| {
        let end = scope.spawn(|| {
            let mut stream = server.connect();
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nRange: bytes=999990-\r\n\r\n",
                path()
            );
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            crate::harness::Reply::read(&mut stream)
        });
        wait_until("it was asked for", || !gate.upstream.asked(&Digest::of(&layer()).to_string()).is_empty());
        gate.open();
        let end = end.join().unwrap();
        assert!(end.is_none_or(|reply| reply.status == 502 || reply.body.len() < wrong.len() - 999_990));
    });
    let kept = hab_store::Blobs::open(server.folder()).unwrap();
    assert_eq!(kept.get(&Digest::of(&layer())).unwrap(), None);
}

#[test]
fn a_head_asks_upstream_by_a_head_and_fetches_nothing() {
    let bytes = layer();
    let said = bytes.clone();
    let upstream = Fake::start(move |asked| {
        if asked.path.ends_with(&Digest::of(&said).to_string()) {
            Say::ok("application/octet-stream", &said)
        } else {
            Say::status(404)
        }
    });
    let server = through(config(&upstream.url()));
    let head = server.head(&path());
    assert_eq!((head.status, head.header("content-length")), (200, Some("2000000")));
    assert_eq!(head.header("docker-content-digest"), Some(Digest::of(&bytes).to_string().as_str()));
    assert_eq!((head.header("accept-ranges"), head.header("x-hab-cache")), (Some("bytes"), Some("miss")));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(server.head(&path()).status, 200));
        }
    });
    let methods: Vec<_> = upstream.asked("").into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods, ["HEAD"]);
    assert_eq!(server.head(&format!("/v2/up.invalid/a/b/blobs/{}", Digest::of(b"no"))).status, 404);
}

#[test]
fn a_head_says_the_size_that_a_manifest_says_where_upstream_says_none_and_fetches_it_where_nobody_does() {
    let (config_bytes, bytes) = (b"{}".to_vec(), layer());
    let image = manifest(&config_bytes, &bytes, "");
    let (said, known) = (image.clone(), Arc::new(AtomicBool::new(true)));
    let is_known = known.clone();
    let upstream = Fake::start(move |asked: &Asked| {
        let manifest = asked.path.contains("/manifests/");
        match asked.method.as_str() {
            "HEAD" if manifest => Say::status(404),
            "HEAD" if is_known.load(Ordering::Relaxed) => Say { lengthless: true, ..Say::ok("x/y", b"") },
            "HEAD" => Say::status(405),
            _ if manifest => Say::ok(media_type::IMAGE_MANIFEST, &said),
            _ => Say::ok("application/octet-stream", &layer()),
        }
    });
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/{}", Digest::of(&image))).status, 200);
    let head = server.head(&path());
    assert_eq!((head.status, head.header("content-length")), (200, Some("2000000")));
    let asked = upstream.asked(&Digest::of(&bytes).to_string());
    assert!(asked.iter().all(|asked| asked.method == "HEAD"), "{asked:?}");
    // One that knows no HEAD is asked for the bytes, as if they were wanted.
    known.store(false, Ordering::Relaxed);
    let fresh = through(config(&upstream.url()));
    let head = fresh.head(&path());
    assert_eq!((head.status, head.header("content-length")), (200, Some("2000000")));
}

#[test]
fn a_head_of_what_an_upstream_that_is_away_has_invents_nothing() {
    let upstream = Fake::start(|_| Say::status(503));
    let server = through(config(&upstream.url()));
    assert_eq!(server.head(&path()).status, 502);
    upstream.stop();
    assert_eq!(server.head(&path()).status, 502);
}

#[test]
fn fifty_clients_that_want_what_is_not_there_make_one_request_and_nobody_asks_again_for_a_while() {
    let upstream = Fake::start(|_| {
        std::thread::sleep(Duration::from_millis(300));
        Say::status(404)
    });
    let long = UpstreamConfig { absent: Duration::from_secs(600), ..config(&upstream.url()) };
    let none = UpstreamConfig { absent: Duration::ZERO, ..config(&upstream.url()) };
    for (config, later) in [(long, 1), (none, 2)] {
        let server = through(config);
        for path in ["/v2/up.invalid/a/b/manifests/v1".to_owned(), path()] {
            let end = path.strip_prefix("/v2/up.invalid").unwrap();
            let before = upstream.asked(end).len();
            std::thread::scope(|scope| {
                for _ in 0..50 {
                    scope.spawn(|| assert_eq!(server.get(&path).status, 404));
                }
            });
            let asked = upstream.asked(end).len() - before;
            // Whoever came when the first answer was there already is not one of those who waited for it.
            assert!(asked == 1 || later == 2 && asked < 25, "{asked} {path}");
            assert_eq!(server.get(&path).status, 404);
            assert_eq!(upstream.asked(end).len() - before, asked + later - 1, "{path}");
        }
    }
}

#[test]
fn what_was_not_there_is_found_when_it_was_forgotten() {
    let there = Arc::new(AtomicBool::new(false));
    let is_there = there.clone();
    let image = manifest(b"{}", b"x", "");
    let said = image.clone();
    let upstream = Fake::start(move |_| {
        if is_there.load(Ordering::Relaxed) {
            Say::ok(media_type::IMAGE_MANIFEST, &said)
        } else {
            Say::status(404)
        }
    });
    let server = through(UpstreamConfig { absent: Duration::from_millis(300), ..config(&upstream.url()) });
    let get = || server.get("/v2/up.invalid/a/b/manifests/v1");
    assert_eq!(get().error(), (404, "MANIFEST_UNKNOWN".into()));
    there.store(true, Ordering::Relaxed);
    wait_until("it was asked again", || get().body == image);
}

#[test]
fn a_blob_of_another_size_than_its_manifest_names_is_refused_before_its_first_byte() {
    let (config_bytes, bytes) = (b"{}".to_vec(), layer());
    let image = manifest(&config_bytes, &bytes, "");
    let said = image.clone();
    let upstream = Fake::start(move |asked: &Asked| {
        if asked.path.contains("/manifests/") {
            Say::ok(media_type::IMAGE_MANIFEST, &said)
        } else {
            let longer = [layer(), vec![0; 3_000_000]].concat();
            Say::ok("application/octet-stream", &longer)
        }
    });
    let server = through(config(&upstream.url()));
    assert_eq!(server.get("/v2/up.invalid/a/b/manifests/v1").status, 200);
    for _ in 0..2 {
        let refused = server.get(&path());
        assert_eq!(refused.error(), (502, "UNKNOWN".into()));
        let text = String::from_utf8(refused.body).unwrap();
        assert!(text.contains("a blob of 5000000 bytes where its manifest names 2000000"), "{text}");
    }
}
