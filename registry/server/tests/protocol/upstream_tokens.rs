//! How an upstream is asked: tokens, passwords, redirects, proxies, and when it wants to be left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hab_oci::Digest;
use hab_registry::UpstreamConfig;

use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::upstream::{Repository, config, through, upstreams, wait_until};

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";
/// `user:pass`.
const BASIC: &str = "Basic dXNlcjpwYXNz";

fn repository() -> (Repository, Digest) {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    (there, image)
}

fn user(url: &str) -> UpstreamConfig {
    let (username, password) = (Some("user".to_owned()), Some("pass".to_owned()));
    UpstreamConfig { username, password, ..config(url) }
}

fn bearer(asked: &Asked) -> Say {
    let host = asked.header("host").unwrap();
    let scope = "repository:a/b:pull";
    let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"{scope}\"");
    Say::status(401).with("WWW-Authenticate", &challenge)
}

#[test]
fn a_password_is_sent_where_the_upstream_asks_for_it_and_not_before() {
    let (there, _) = repository();
    let upstream = Fake::start(move |asked| match asked.header("authorization") {
        Some(BASIC) => there.say(asked),
        _ => Say::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let server = through(user(&upstream.url()));
    assert_eq!(server.get(TAG).status, 200);
    let sent: Vec<_> =
        upstream.asked("/v1").iter().map(|a| a.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [None, Some(BASIC.to_owned())]);
    // That there is no password says nothing about the image.
    assert_eq!(through(config(&upstream.url())).get(TAG).error(), (502, "UNKNOWN".into()));
}

#[test]
fn a_token_that_is_refused_is_fetched_anew_and_the_next_repository_is_one_question_less() {
    let (there, image) = repository();
    let grants = Arc::new(AtomicUsize::new(0));
    let now = grants.clone();
    let upstream = Fake::start(move |asked| {
        if asked.path.starts_with("/token") {
            let n = now.fetch_add(1, Ordering::Relaxed) + 1;
            return Say::ok(
                "application/json",
                format!("{{\"token\":\"t{n}\",\"expires_in\":3600}}").as_bytes(),
            );
        }
        let good = format!("Bearer t{}", now.load(Ordering::Relaxed));
        if asked.header("authorization") == Some(&good) { there.say(asked) } else { bearer(asked) }
    });
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(TAG).status, 200);
    assert_eq!(upstream.asked("").len(), 3, "a question, a token, an answer");
    // It forgets its tokens, as one does that is restarted.
    grants.fetch_add(10, Ordering::Relaxed);
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/{image}")).status, 200);
    let before = upstream.asked("").len();
    assert_eq!(before, 3, "what is here is not asked for");
    let layer = Digest::of("image".repeat(1000).as_bytes());
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/blobs/{layer}")).status, 200);
    assert_eq!(upstream.asked("").len(), before + 3);
    // Of a repository that was never asked about, the token is fetched first.
    assert_eq!(server.get("/v2/up.invalid/c/d/manifests/v1").status, 404);
    let asked: Vec<String> = upstream.asked("").iter().skip(before + 3).map(|a| a.path.clone()).collect();
    assert!(asked[0].starts_with("/token?scope=repository%3Ac%2Fd%3Apull"), "{asked:?}");
}

#[test]
fn an_upstream_that_was_greeted_answers_the_first_pull_after_two_questions() {
    let (there, _) = repository();
    let upstream = Fake::start(move |asked| {
        if asked.path.starts_with("/token") {
            return Say::ok("application/json", b"{\"token\":\"t\"}");
        }
        if asked.header("authorization") == Some("Bearer t") { there.say(asked) } else { bearer(asked) }
    });
    let all = upstreams(config(&upstream.url()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(all.greet()), [] as [String; 0]);
    let server = crate::harness::Server::through(
        hab_registry::Access::ReadOnly,
        hab_registry::ServiceLimits::default(),
        all,
    );
    assert_eq!(server.get(TAG).status, 200);
    let asked: Vec<String> = upstream.asked("").iter().map(|a| a.path.clone()).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!((asked[0].as_str(), asked[2].as_str()), ("/v2/", "/v2/a/b/manifests/v1"));
}

#[test]
fn an_expired_token_is_not_sent() {
    let (there, image) = repository();
    let grants = Arc::new(AtomicUsize::new(0));
    let now = grants.clone();
    let upstream = Fake::start(move |asked| {
        if asked.path.starts_with("/token") {
            now.fetch_add(1, Ordering::Relaxed);
            // The shortest that is believed: ten seconds, five of which are kept in hand.
            return Say::ok("application/json", b"{\"token\":\"t\",\"expires_in\":1}");
        }
        if asked.header("authorization").is_some() { there.say(asked) } else { bearer(asked) }
    });
    let server = through(config(&upstream.url()));
    assert_eq!(server.get(TAG).status, 200);
    std::thread::sleep(Duration::from_millis(5100));
    let layer = Digest::of("image".repeat(1000).as_bytes());
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/blobs/{layer}")).status, 200);
    assert_eq!(grants.load(Ordering::Relaxed), 2);
    assert_eq!(server.get(&format!("/v2/up.invalid/a/b/manifests/{image}")).status, 200);
}

#[test]
fn what_authorizes_does_not_go_with_a_redirect_to_another_host() {
    let (there, _) = repository();
    let storage = there.clone();
    let elsewhere = Fake::start(move |asked| storage.say(asked));
    let (url, layer) = (elsewhere.url(), Digest::of("image".repeat(1000).as_bytes()));
    let upstream = Fake::start(move |asked| match asked.header("authorization") {
        Some(BASIC) if asked.path.contains("/blobs/") => {
            Say::status(307).with("Location", &format!("{url}{}", asked.path))
        }
        Some(BASIC) => there.say(asked),
        _ => Say::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let server = through(UpstreamConfig { inner: vec![elsewhere.url()], ..user(&upstream.url()) });
    assert_eq!(server.get(TAG).status, 200);
    assert_eq!(Digest::of(&server.get(&format!("/v2/up.invalid/a/b/blobs/{layer}")).body), layer);
    let asked = elsewhere.asked("");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn redirects_that_go_round_end() {
    let upstream = Fake::start(|asked| Say::status(307).with("Location", &asked.path));
    assert_eq!(through(config(&upstream.url())).get(TAG).error(), (502, "UNKNOWN".into()));
    assert!(upstream.asked("").len() < 10);
}

#[test]
fn a_proxy_is_asked_instead_of_the_upstream() {
    let (there, _) = repository();
    // A proxy is asked with the whole address.
    let proxy = Fake::start(move |asked| {
        let path = asked.path.strip_prefix("http://registry.invalid").unwrap_or("/").to_owned();
        there.say(&Asked { path, ..asked.clone() })
    });
    let proxied =
        |proxy: &str| UpstreamConfig { proxy: Some(proxy.to_owned()), ..config("http://registry.invalid") };
    let server = through(proxied(&proxy.url().replace("http://", "http://user:pass@")));
    assert_eq!(server.get(TAG).status, 200);
    let asked = proxy.asked("/v2/a/b/manifests/v1");
    assert_eq!(asked[0].header("proxy-authorization"), Some(BASIC));
    for bad in ["socks5://p.invalid", "p.invalid:80", "http://", ""] {
        let said = hab_registry::Upstreams::new(vec![proxied(bad)]).unwrap_err();
        assert!(said.contains("its proxy is not like http://proxy.example:3128"), "{bad}: {said}");
    }
}

#[test]
fn one_that_says_until_when_it_wants_to_be_left_alone_is_left_alone() {
    for (status, after) in [(429, "3000"), (429, "Fri, 31 Dec 2100 23:59:59 GMT"), (503, "3000")] {
        let (there, _) = repository();
        let limits = Arc::new(AtomicUsize::new(0));
        let on = limits.clone();
        let upstream = Fake::start(move |asked| match on.load(Ordering::Relaxed) {
            0 => there.say(asked),
            _ => Say::status(status).with("Retry-After", after),
        });
        // Shorter than what it asks for, so that only that keeps it from being asked.
        let patience = hab_registry::Patience { rest: Duration::from_millis(1), ..Default::default() };
        let server = through(UpstreamConfig { patience, ..config(&upstream.url()) });
        limits.store(1, Ordering::Relaxed);
        assert_eq!(server.get(TAG).error(), (502, "UNKNOWN".into()));
        limits.store(0, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(server.get(TAG).error(), (502, "UNKNOWN".into()));
        assert_eq!(upstream.asked("").len(), 1, "{status} {after}");
    }
}

#[test]
fn one_that_limits_for_a_moment_is_asked_again_afterwards() {
    let (there, _) = repository();
    let count = AtomicUsize::new(0);
    let upstream = Fake::start(move |asked| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Say::status(429).with("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),
        _ => there.say(asked),
    });
    let patience = hab_registry::Patience { rest: Duration::from_millis(50), ..Default::default() };
    let server = through(UpstreamConfig { patience, ..config(&upstream.url()) });
    assert_eq!(server.get(TAG).status, 502);
    wait_until("it is asked again", || server.get(TAG).status == 200);
}

#[test]
fn a_token_service_that_fails_is_no_answer_about_the_image() {
    for status in [429, 500] {
        let upstream =
            Fake::start(
                move |asked| {
                    if asked.path.starts_with("/token") { Say::status(status) } else { bearer(asked) }
                },
            );
        assert_eq!(through(config(&upstream.url())).get(TAG).error(), (502, "UNKNOWN".into()), "{status}");
    }
}

#[test]
fn what_came_of_requests_and_pulls_is_counted() {
    let (there, _) = repository();
    let upstream = Fake::start(move |asked| there.say(asked));
    let server = through(config(&upstream.url()));
    for _ in 0..2 {
        assert_eq!(server.get(TAG).status, 200);
    }
    assert_eq!(server.get("/v2/up.invalid/a/b/manifests/v2").status, 404);
    let text = String::from_utf8(server.raw_get("/metrics").unwrap().body).unwrap();
    for line in [
        "hab_registry_upstream_requests_total{upstream=\"up.invalid\",result=\"ok\"} 1",
        "hab_registry_upstream_requests_total{upstream=\"up.invalid\",result=\"absent\"} 1",
        "hab_registry_cache_total{upstream=\"up.invalid\",kind=\"manifest\",cache=\"miss\"} 1",
        "hab_registry_cache_total{upstream=\"up.invalid\",kind=\"manifest\",cache=\"hit\"} 1",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}
