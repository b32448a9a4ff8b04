//! A registry that is killed while others are pulled through it, again and again. The child is this test program, told by
//! variables what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hab_oci::{Digest, EdgeKind, Outline, TagOrDigest};
use hab_registry::{Access, Change, Registry, ServiceLimits, SyncRule, UpstreamConfig};
use hab_store::{Scrub, Store};

use crate::harness::fake::{Fake, Say};
use crate::harness::upstream::{Repository, config, upstreams, wait_until};
use crate::harness::{Reply, Server};

const FOLDER: &str = "HAB_REGISTRY_TEST_FOLDER";
const UPSTREAM: &str = "HAB_REGISTRY_TEST_UPSTREAM";
/// Set: it syncs, instead of serving.
const SYNC: &str = "HAB_REGISTRY_TEST_SYNC";
const IMAGES: usize = 40;

/// Not a test of its own: what the child runs.
#[test]
fn child() {
    let (Ok(folder), Ok(upstream)) = (std::env::var(FOLDER), std::env::var(UPSTREAM)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&folder)).await.unwrap();
        if std::env::var_os(SYNC).is_some() {
            println!("\nready to sync");
            std::io::stdout().flush().unwrap();
            let all = upstreams(config(&upstream));
            let synced = all.sync(&store, "up.invalid", &rule(), false, |_, _| {}).await.unwrap();
            assert!(!synced.tags.iter().any(|(_, change)| matches!(change, Change::Failed(_))), "{synced:?}");
            // Nobody listens any more to what a test says at its end.
            std::process::exit(0);
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\nready {}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let registry = Registry::new(store, Access::ReadOnly).with_upstreams(upstreams(config(&upstream)));
        // Longer than the test may take: it is killed.
        let end = tokio::time::sleep(Duration::from_secs(120));
        hab_registry::serve(listener, registry, axum::Router::default(), end).await.unwrap();
    });
}

fn rule() -> SyncRule {
    serde_json::from_str(r#"{"repository":"a/b","tags":"*"}"#).unwrap()
}

/// A child, and its address where it serves.
fn start(folder: &Path, upstream: &str, sync: bool) -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if sync {
        command.env(SYNC, "1");
    }
    let mut child = command
        .args(["--exact", "upstream_kills::child", "--nocapture"])
        .env(FOLDER, folder)
        .env(UPSTREAM, upstream)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
    (child, address.expect("the child ended early"))
}

/// The body of an answer that came whole; `None` if it did not, because the server was killed.
fn get(address: &str, path: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").ok()?;
    let reply = Reply::read(&mut stream)?;
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    let length: usize = reply.header("content-length").unwrap().parse().unwrap();
    (reply.body.len() == length).then_some(reply.body)
}

/// Pulls images until the server is gone; what came whole is noted.
fn pull(address: &str, first: usize, over: &AtomicBool, whole: &Mutex<BTreeSet<Digest>>) {
    for n in (0..IMAGES).cycle().skip(first) {
        let text = format!("image {n}");
        let mut paths = vec![format!("manifests/v{n}")];
        paths.push(format!("blobs/{}", Digest::of(text.repeat(1000).as_bytes())));
        paths.push(format!("blobs/{}", Digest::of(format!("{{\"of\":\"{text}\"}}").as_bytes())));
        for path in paths {
            let Some(body) = get(address, &format!("/v2/up.invalid/a/b/{path}")) else {
                assert!(over.load(Ordering::Relaxed), "the server ended by itself");
                return;
            };
            let digest = Digest::of(&body);
            assert!(path.starts_with("manifests") || path.ends_with(digest.hex()), "other bytes at {path}");
            whole.lock().unwrap().insert(digest);
        }
    }
}

#[test]
fn whenever_it_is_killed_what_clients_have_is_kept_and_nothing_partial_is_there() {
    let rounds = std::env::var("HAB_REGISTRY_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut there = Repository::new();
    for n in 0..IMAGES {
        let image = there.image(&format!("image {n}"), "");
        there.tag(&format!("v{n}"), &image);
    }
    let said = there.clone();
    // Slow enough that kills meet half a blob.
    let upstream = Fake::start(move |asked| Say { pause: Duration::from_millis(3), ..said.say(asked) });
    let folder = tempfile::tempdir().unwrap();
    let whole = Mutex::new(BTreeSet::new());
    for round in 0..rounds {
        let (mut child, address) = start(folder.path(), &upstream.url(), false);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..6 {
                let (address, over, whole) = (&address, &over, &whole);
                scope.spawn(move || pull(address, client * 3 + round, over, whole));
            }
            // However slow this machine is, some of it comes; and then a moment in which anything may be under way.
            let some = whole.lock().unwrap().len() + 1 + round % 5;
            wait_until("something came", || whole.lock().unwrap().len() >= some.min(3 * IMAGES));
            std::thread::sleep(Duration::from_millis(7 * (round as u64 % 9)));
            over.store(true, Ordering::Relaxed);
            child.kill().unwrap();
        });
        child.wait().unwrap();
        check(folder.path(), &whole.lock().unwrap());
    }
    assert!(whole.lock().unwrap().len() > 3, "hardly anything ever came");
    // All of it is served without the upstream, and what never came is asked for as if nothing had been.
    let offline = || UpstreamConfig { offline: true, ..config(&upstream.url()) };
    let server = Server::kept_on(folder, Access::ReadOnly, ServiceLimits::default(), upstreams(offline()));
    for digest in whole.lock().unwrap().iter() {
        let kind = if there.manifests.contains_key(&digest.to_string()) { "manifests" } else { "blobs" };
        let reply = server.raw_get(&format!("/v2/up.invalid/a/b/{kind}/{digest}")).unwrap();
        // A manifest whose layers have not all come is kept from clients while nobody can give them.
        assert!(reply.status == 200 || (kind == "manifests" && reply.status == 502), "{reply:?}");
    }
    let server = server.restarted_through(Access::ReadOnly, upstreams(config(&upstream.url())));
    for n in 0..IMAGES {
        assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/v{n}")).status, 200);
        let layer = Digest::of(format!("image {n}").repeat(1000).as_bytes());
        assert_eq!(Digest::of(&server.get(&format!("/v2/up.invalid/a/b/blobs/{layer}")).body), layer);
    }
}

#[test]
fn a_sync_that_is_killed_again_and_again_never_has_half_an_image_and_comes_to_its_end() {
    let mut there = Repository::new();
    let mut images = BTreeMap::new();
    for n in 0..IMAGES {
        let (index, members) = there.index(&format!("image {n}"), &["linux/amd64", "linux/arm64"]);
        there.tag(&format!("v{n}"), &index);
        images.insert(index, members);
    }
    let said = there.clone();
    let upstream = Fake::start(move |asked| Say { pause: Duration::from_millis(2), ..said.say(asked) });
    let folder = tempfile::tempdir().unwrap();
    let mut kills = 0;
    for round in 0_u64.. {
        assert!(round < 100, "it does not come to its end");
        let (mut child, _) = start(folder.path(), &upstream.url(), true);
        // Longer each time, so that it ends however slow this machine is.
        std::thread::sleep(Duration::from_millis(30 + 25 * round));
        let ended = child.try_wait().unwrap();
        kills += u32::from(ended.is_none());
        // One that has ended meanwhile is not there to be killed.
        let _ = child.kill();
        child.wait().unwrap();
        check(folder.path(), &BTreeSet::new());
        let tags = tags_are_whole(folder.path());
        if let Some(status) = ended {
            assert!(status.success());
            assert_eq!(tags, IMAGES);
            break;
        }
    }
    assert!(kills > 1, "it was too fast to be killed");
    for blob in upstream.asked("").iter().filter(|asked| asked.path.contains("/blobs/")) {
        // At most the three on their way at a kill, and their likes, came again.
        assert!(upstream.asked(&blob.path).len() <= 1 + kills as usize);
    }
}

/// How many tags there are; each of them has everything.
fn tags_are_whole(folder: &Path) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(folder).await.unwrap();
        let repository = "up.invalid/a/b".parse().unwrap();
        let tags = store.catalog.tag_rows(&repository).await.unwrap();
        let mut waiting: Vec<Digest> = tags.iter().map(|row| row.digest.clone()).collect();
        while let Some(digest) = waiting.pop() {
            let reference = TagOrDigest::Digest(digest.clone());
            let found = store.catalog.manifest(&repository, &reference).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{digest} is missing"));
            let bytes = store.blobs.read(&digest, 1 << 30).unwrap().unwrap();
            for edge in Outline::read(&found.media_type, &bytes).unwrap().edges {
                if edge.kind == EdgeKind::Manifest {
                    waiting.push(edge.digest);
                } else {
                    let size = store.catalog.blob(&repository, &edge.digest).await.unwrap();
                    assert_eq!(size, Some(edge.size), "{digest} lacks {}", edge.digest);
                    assert!(store.blobs.read(&edge.digest, 1 << 30).unwrap().is_some());
                }
            }
        }
        store.catalog.close().await;
        tags.len()
    })
}

/// That what came is kept, that what is kept is whole, and that nothing else is left.
fn check(folder: &Path, whole: &BTreeSet<Digest>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(folder).await.unwrap();
        let repository = "up.invalid/a/b".parse().unwrap();
        for digest in whole {
            let reference = TagOrDigest::Digest(digest.clone());
            let manifest = store.catalog.manifest(&repository, &reference).await.unwrap().is_some();
            let blob = store.catalog.blob(&repository, digest).await.unwrap().is_some();
            assert!(manifest || blob, "{digest} was served and is lost");
            assert!(store.blobs.read(digest, 1 << 30).unwrap().is_some());
        }
        let found = Scrub::new(store.clone(), None).pass(1).await.unwrap();
        assert!(found.damaged.is_empty() && found.missing.is_empty(), "{found:?}");
        let left: BTreeMap<_, _> = std::fs::read_dir(folder.join("blobs/tmp"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        store.catalog.close().await;
    });
}
