//! Proxies before the service, and what a stranger sees of the service.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Serving, World};
use serde_json::Value;

fn configured(more: &str) -> World {
    let world = World::new();
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{config}\n{more}"));
    world
}

/// Waits until the access log has `count` lines, and returns them.
fn logged(log: &Path, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{lines:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap()
}

/// The address to which cargo is sent for crates.
fn crates(serving: &Serving, headers: &str) -> String {
    let (status, _, body) = serving.ask("/crates/config.json", headers);
    assert_eq!(status, 200);
    serde_json::from_slice::<Value>(&body).unwrap()["dl"].as_str().unwrap().to_owned()
}

const FORWARDED: &str = "Host: farm:5000\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: farm.example\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /mirror\r\n";

#[test]
fn a_proxy_that_is_named_is_believed_about_addresses_and_clients() {
    let world =
        configured("[registry]\naccess-log = \"LOG\"\n[registry.connections]\nproxies = [\"127.0.0.1\"]\n");
    let log = world.path("access.jsonl");
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", config.replace("LOG", &log.display().to_string()));
    let serving = Serving::start(&world);
    assert_eq!(crates(&serving, FORWARDED), "https://farm.example/mirror/crates/dl");
    let page = text(serving.ask("/", FORWARDED).2);
    assert!(page.contains("git clone https://farm.example/mirror/git/bitcoin.git"), "{page}");
    let lines = logged(&log, 2);
    assert_eq!(
        (&lines[0]["client"], &lines[0]["reference"]),
        (&"192.0.2.7".into(), &"/crates/config.json".into())
    );
}

#[test]
fn the_access_log_has_every_request_but_those_that_watch_the_service() {
    let world = World::new();
    let (log, config) = (world.path("access.jsonl"), fs::read_to_string(world.path("hab.toml")).unwrap());
    world.file("hab.toml", format!("{config}\n[registry]\naccess-log = {log:?}\n"));
    let serving = Serving::start(&world);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(serving.get(path).0, 200, "{path}");
    }
    let asked = [
        ("/", "other"),
        ("/git/", "git"),
        ("/crates/config.json", "crates"),
        ("/nothing", "other"),
        ("/v2/", "base"),
    ];
    for (at, (path, route)) in asked.into_iter().enumerate() {
        serving.get(path);
        let lines = logged(&log, at + 1);
        assert_eq!((lines.len(), &lines[at]["route"]), (at + 1, &route.into()), "{path}: {lines:?}");
        // For requests of the registry's API the log has the reference.
        let named = if route == "base" { Value::Null } else { path.into() };
        assert_eq!(lines[at]["reference"], named);
    }
}

#[test]
fn what_anybody_else_says_of_addresses_and_clients_does_not_count() {
    let world = configured("");
    let serving = Serving::start(&world);
    assert_eq!(crates(&serving, FORWARDED), "http://farm:5000/crates/dl");
}

#[test]
fn an_address_in_the_configuration_is_told_to_every_client() {
    let world = configured("[registry]\nurl = \"https://farm.example/mirror/\"\n");
    let serving = Serving::start(&world);
    assert_eq!(crates(&serving, "Host: 10.0.0.1:5000\r\n"), "https://farm.example/mirror/crates/dl");
}

#[test]
fn a_request_with_no_host_or_two_is_refused() {
    let world = configured("");
    let serving = Serving::start(&world);
    for headers in ["", "Host: a\r\nHost: b\r\n"] {
        let (status, head, body) = serving.ask("/v2/", headers);
        assert_eq!((status, text(body).as_str()), (400, "a request needs one Host header\n"), "{head}");
    }
}

#[test]
fn the_limit_of_a_client_counts_what_is_served_beside_the_registry() {
    let world = configured(
        "[registry.limit]\nrequests = 1\nburst = 2\n[registry.connections]\nproxies = [\"127.0.0.1\"]\n",
    );
    let serving = Serving::start(&world);
    for (n, path) in
        ["/debian/pool/none", "/git/none.git/info/refs", "/crates/config.json"].iter().enumerate()
    {
        let of = |client: &str| serving.ask(path, &format!("Host: x\r\nX-Forwarded-For: {client}\r\n"));
        let (status, head, body) = of("192.0.2.7");
        assert_eq!(status == 429, n == 2, "{path}: {head}");
        if n == 2 {
            assert!(head.contains("retry-after: 1") && text(body).contains("too many requests"), "{head}");
            assert_eq!(of("192.0.2.8").0, 200);
        }
    }
}

#[test]
fn the_front_page_says_what_is_served_and_how_it_is_used() {
    let world = configured("");
    world.run("data", &["mirror", "packages"]).good();
    let serving = Serving::start(&world);
    let (status, body) = serving.get("/");
    let plain = text(body);
    for word in [
        "/v2/",
        "/git/",
        "http://x/debian stable main",
        "sparse+http://x/crates/",
        "--tls-verify=false x/NAME",
    ] {
        assert!(plain.contains(word), "{word}: {plain}");
    }
    assert_eq!(status, 200);
    let (status, head, body) = serving.ask("/", "Host: x\r\nAccept: text/html,*/*;q=0.8\r\n");
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self'"), "{head}");
    assert!(head.contains("vary: accept, host") && head.contains("cache-control: private"), "{head}");
    assert!(status == 200 && text(body).starts_with("<!doctype html>"));
    assert_eq!(serving.get("/style.css").0, 200);
    assert!(text(serving.get("/robots.txt").1).contains("Disallow: /"));
}

#[test]
fn a_path_that_is_nothing_here_is_told_what_is() {
    let world = configured("");
    let serving = Serving::start(&world);
    for path in ["/simple/requests/", "/@types/node", "/github.com/a/b/@v/list", "/v3"] {
        let (status, body) = serving.get(path);
        let body = text(body);
        assert!(
            status == 404 && body.contains(path) && body.contains("/debian/") && body.contains("npm"),
            "{body}"
        );
    }
}
