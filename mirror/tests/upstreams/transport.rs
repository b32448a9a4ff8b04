//! How an upstream talks.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::harness::{Say, Server, World, advertise};

#[test]
fn one_that_hangs_is_given_up_and_the_next_is_asked() {
    let mut world = World::new();
    world.bounds.answer = Duration::from_secs(1);
    let upstream = world.upstream();
    let silent = Server::start(|_| Say::Silence);
    let start = Instant::now();
    world.refused(&silent.url(), &["git ls-remote failed", "longer than 1 s"]);
    assert!(start.elapsed() < Duration::from_secs(15));
    let synced = world.sync(&[&silent.url(), &upstream.url()]).unwrap();
    assert_eq!((synced.upstream, synced.moved), (upstream.url(), 2));
}

#[test]
fn one_that_hangs_or_resets_half_way_is_given_up_and_the_next_is_asked() {
    for stays in [true, false] {
        let mut world = World::new();
        world.bounds.fetch = Duration::from_secs(2);
        let upstream = world.upstream();
        let commit = upstream.git(&["rev-parse", "main"]);
        let all = upstream.git(&["rev-list", "--objects", "--no-object-names", "main"]);
        let pack = [b"0008NAK\n".to_vec(), upstream.pack(&all.lines().collect::<Vec<_>>())].concat();
        let refs = advertise(&[(&commit, "refs/heads/main"), (&commit, "refs/tags/v1")]);
        let server = Server::start(move |path| {
            if path.contains("info/refs") { Say::Body(refs.clone()) } else { Say::Half(pack.clone(), stays) }
        });
        let why = if stays { "longer than 2 s" } else { "early EOF" };
        world.refused(&server.url(), &["git clone failed", why]);
        let synced = world.sync(&[&server.url(), &upstream.url()]).unwrap();
        assert_eq!((synced.upstream, synced.moved), (upstream.url(), 2));
        world.whole();
    }
}

#[test]
fn a_redirect_is_not_followed_wherever_it_leads() {
    let world = World::new();
    let upstream = world.upstream();
    let private = Server::start(|_| Say::Silence);
    for to in [upstream.url(), private.url() + "/info/refs?service=git-upload-pack", "ext::sh".to_owned()] {
        let server = Server::start(move |_| Say::Redirect(to.clone()));
        world.refused(&server.url(), &["git ls-remote failed"]);
    }
    assert_eq!(private.requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let world = World::new();
    let (key, cert) = (world.path("key.pem"), world.path("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}"), "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&cert)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    world.refused(&format!("https://127.0.0.1:{port}/p.git"), &["certificate"]);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn an_address_of_another_transport_is_refused_before_anything_runs() {
    let world = World::new();
    for url in ["ext::touch x", "--upload-pack=touch x", "ftp://h.invalid/p", "fd::7", "rsync://h.invalid/p"]
    {
        world.refused(url, &["cannot fetch from"]);
    }
}

#[test]
fn two_upstreams_that_disagree_about_a_tag_freeze_it_and_both_answers_are_kept() {
    let world = World::new();
    let upstream = world.upstream();
    let first = upstream.git(&["rev-parse", "v1"]);
    super::harness::git(world.folder.path(), &["clone", "-q", "--mirror", &upstream.url(), "other.git"]);
    let other = super::harness::Upstream { path: world.path("other.git") };
    let second = other.commit("another");
    other.git(&["tag", "-f", "v1", "main"]);
    let synced = world.sync(&[&upstream.url(), &other.url()]).unwrap();
    assert_eq!(synced.frozen, ["refs/tags/v1"]);
    let mirror = world.mirror();
    assert_eq!(mirror.refs().unwrap()["refs/tags/v1"], first);
    assert!(mirror.has(&second).unwrap());
    let beside = format!("refs/history/tags/v1/{second}");
    assert_eq!(super::harness::git(mirror.path(), &["rev-parse", &beside]), second);
    // A branch that the second does not have yet is no disagreement.
    assert!(!mirror.refs().unwrap()["refs/heads/main"].eq(&second));
    assert!(world.notes().contains("refs/tags/v1 is disagreed"), "{}", world.notes());
}
