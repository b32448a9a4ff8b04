//! What is seen from outside.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use hab_oci::{Digest, media_type};
use hab_registry::{Access, ServiceLimits};
use serde_json::Value;

use crate::harness::fake::{Fake, Say};
use crate::harness::secure::{Files, basic};
use crate::harness::upstream::{Repository, config, through, wait_until};
use crate::harness::{Reply, Server, Setup};

/// What is beside the registry's own endpoints.
fn beside(server: &Server, path: &str) -> Reply {
    server.raw(format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").as_bytes())
}

fn numbers(server: &Server) -> String {
    let reply = beside(server, "/metrics");
    assert_eq!(reply.status, 200);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

/// The value of a number by its name and labels, as it is written.
fn number(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[track_caller]
fn shows(server: &Server, name: &str, value: f64) {
    wait_until(&format!("{name} {value}"), || number(&numbers(server), name) == Some(value));
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn requests_are_counted_by_route_method_and_status_with_their_bytes() {
    let server = Server::writable();
    let manifest = server.push_image("a", "v1", "");
    for _ in 0..3 {
        server.get("/v2/a/manifests/v1");
    }
    server.head("/v2/a/manifests/v1");
    server.get("/v2/a/manifests/none");
    server.get("/v2/A/tags/list");
    server.send("BREW", "/v2/", &[], b"");
    let answers = |rest: &str| format!("hab_registry_requests_total{{{rest}}}");
    shows(&server, &answers("route=\"manifest\",method=\"GET\",status=\"200\""), 3.0);
    shows(&server, &answers("route=\"manifest\",method=\"HEAD\",status=\"200\""), 1.0);
    shows(&server, &answers("route=\"manifest\",method=\"GET\",status=\"404\""), 1.0);
    shows(&server, &answers("route=\"manifest\",method=\"PUT\",status=\"201\""), 1.0);
    shows(&server, &answers("route=\"none\",method=\"GET\",status=\"400\""), 1.0);
    shows(&server, &answers("route=\"base\",method=\"other\",status=\"405\""), 1.0);
    let text = numbers(&server);
    let sent = number(&text, "hab_registry_sent_bytes_total{route=\"manifest\"}").unwrap();
    let whole = 3.0 * f64::from(u32::try_from(manifest.len()).unwrap());
    assert!(sent > whole && sent < whole + 500.0, "three manifests and an error, not {sent}");
    let received = number(&text, "hab_registry_received_bytes_total{route=\"manifest\"}").unwrap();
    assert!((received - whole / 3.0).abs() < 0.5);
    assert_eq!(number(&text, "hab_registry_request_seconds_count{route=\"manifest\"}"), Some(6.0));
    assert_eq!(number(&text, "hab_registry_open_requests"), Some(0.0));
    shows(&server, "hab_registry_stored{what=\"repositories\"}", 0.0);
    assert!(number(&text, "hab_registry_free_bytes").unwrap() > 0.0);
}

#[test]
fn an_answer_that_its_client_did_not_take_is_told_apart() {
    let server = Server::writable();
    let digest = server.push_blob("a", &vec![7; 32 << 20]);
    let mut stream = server.connect();
    write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    shows(&server, "hab_registry_cut_total{route=\"blob\"}", 1.0);
    shows(&server, "hab_registry_open_requests", 0.0);
}

#[test]
fn where_answers_of_upstreams_repositories_came_from_is_counted() {
    let mut there = Repository::new();
    let image = there.image("one", "");
    there.tag("v1", &image);
    let fake = Fake::start(move |asked| there.say(asked));
    let server = through(config(&fake.url()));
    let path = format!("/v2/up.invalid/a/b/manifests/{image}");
    for _ in 0..3 {
        assert_eq!(server.get(&path).status, 200);
    }
    server.get("/v2/up.invalid/a/b/manifests/none");
    let cache = |rest: &str| {
        format!("hab_registry_cache_total{{upstream=\"up.invalid\",kind=\"manifest\",cache=\"{rest}\"}}")
    };
    shows(&server, &cache("miss"), 1.0);
    shows(&server, &cache("hit"), 2.0);
    let asked = |rest: &str| {
        format!("hab_registry_upstream_requests_total{{upstream=\"up.invalid\",result=\"{rest}\"}}")
    };
    shows(&server, &asked("ok"), 1.0);
    shows(&server, &asked("absent"), 1.0);
    fake.stop();
    let never = Digest::of(b"never");
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/{never}")).status, 502);
    shows(&server, &asked("away"), 1.0);
}

#[test]
fn what_an_upstream_sent_and_was_refused_is_counted() {
    let fake = Fake::start(|_| Say::ok(media_type::IMAGE_MANIFEST, b"<html>log in</html>"));
    let server = through(config(&fake.url()));
    assert_eq!(server.get("/v2/up.invalid/a/manifests/v1").status, 502);
    shows(&server, "hab_registry_upstream_requests_total{upstream=\"up.invalid\",result=\"wrong\"}", 1.0);
}

#[test]
fn the_access_log_says_who_asked_for_what_and_what_came_of_it() {
    let files = Files::new();
    let log = files.path("access.log");
    let rules = [("bob", "a/*", "push"), ("bob", "a/*", "pull")];
    let setup =
        Setup { access: Some(files.access(&["bob"], &rules)), log: Some(log.clone()), ..Setup::default() };
    let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
    let (bob, agent) = (basic("bob"), "a \"client\"/1");
    let headers = [("Authorization", bob.as_str()), ("User-Agent", agent)];
    let blob = Digest::of(b"blob");
    let path = format!("/v2/a/b/blobs/uploads/?digest={blob}");
    assert_eq!(server.send("POST", &path, &headers, b"blob").status, 201);
    assert_eq!(server.send("GET", &format!("/v2/a/b/blobs/{blob}"), &headers, b"").status, 200);
    assert_eq!(server.get("/v2/a/b/manifests/v1").status, 401);
    wait_until("three lines", || lines(&log).len() == 3);
    let all = lines(&log);
    // Lines wait in memory, so what a client makes up has an end.
    server.get(&format!("/v2/a/b/manifests/{}", "x".repeat(20_000)));
    wait_until("a fourth line", || lines(&log).len() == 4);
    assert_eq!(lines(&log)[3]["reference"].as_str().unwrap().len(), 200);
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    for line in &all {
        assert_eq!((text(line, "client"), text(line, "repository")), ("127.0.0.1".into(), "a/b".into()));
        assert!(line["seconds"].as_f64().unwrap() > 0.0 && line["whole"] == true, "{line}");
        assert!(text(line, "time").ends_with('Z'), "{line}");
    }
    let [push, pull, refused] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((text(push, "account"), text(push, "agent")), ("bob".into(), agent.into()));
    assert_eq!((push["status"].as_u64(), push["received"].as_u64()), (Some(201), Some(4)));
    assert_eq!((text(push, "method"), text(push, "route")), ("POST".into(), "uploads".into()));
    assert_eq!((text(pull, "digest"), pull["sent"].as_u64()), (blob.to_string(), Some(4)));
    assert_eq!((refused["status"].as_u64(), text(refused, "reference")), (Some(401), "v1".into()));
    assert_eq!(refused["account"], Value::Null);
    // What would let its reader in, or go on with a push, is not written.
    let raw = fs::read_to_string(&log).unwrap();
    assert!(!raw.contains(&bob["Basic ".len()..]), "{raw}");
}

#[test]
fn who_cannot_keep_anything_is_alive_and_not_ready() {
    let server = Server::writable();
    let state = || (beside(&server, "/healthz").status, beside(&server, "/readyz").status);
    assert_eq!(state(), (200, 200));
    let (there, away) = (server.folder().join("blobs/tmp"), server.folder().join("blobs/tmp-away"));
    fs::rename(&there, &away).unwrap();
    // What was found counts for a second.
    wait_until("not ready", || state() == (200, 503));
    fs::rename(&away, &there).unwrap();
    wait_until("ready", || state() == (200, 200));
}
