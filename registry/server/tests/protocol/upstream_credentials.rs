//! Who gets an upstream's password and its tokens, and which token service is believed.

use std::sync::{Arc, Mutex};

use hab_registry::UpstreamConfig;

use crate::harness::fake::{Asked, Fake, Say};
use crate::harness::secure::Authority;
use crate::harness::shield::shield;
use crate::harness::upstream::{Repository, config, through};

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";
/// How both schemes are offered.
type Offer = fn(&str, &str) -> Say;
/// `user:pass`.
const BASIC: &str = "Basic dXNlcjpwYXNz";

fn repository() -> Repository {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    there
}

fn user(url: &str) -> UpstreamConfig {
    let (username, password) = (Some("user".to_owned()), Some("pass".to_owned()));
    UpstreamConfig { username, password, ..config(url) }
}

fn asks(challenge: &str) -> Say {
    Say::status(401).with("WWW-Authenticate", challenge)
}

fn grants(token: &str) -> Say {
    Say::ok("application/json", serde_json::json!({ "token": token }).to_string().as_bytes())
}

/// A token service that grants `t` to everybody.
fn granting() -> Fake {
    Fake::start(|_| grants("t"))
}

/// An upstream that names `realm` and has the image for whoever shows `t`, or the password.
fn naming(realm: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Fake {
    let there = repository();
    Fake::start(move |asked| match asked.header("authorization") {
        _ if asked.path.starts_with("/token") => grants("t"),
        Some("Bearer t") => there.say(asked),
        _ => asks(&format!("Bearer realm=\"{}\",service=\"s\"", realm(asked))),
    })
}

fn own(asked: &Asked) -> String {
    format!("http://{}/token", asked.header("host").unwrap())
}

/// What is said of a pull that fails as 502.
#[track_caller]
fn refusal(config: UpstreamConfig) -> String {
    let reply = through(config).get(TAG);
    assert_eq!(reply.error(), (502, "UNKNOWN".into()));
    let said = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(said.starts_with("cannot fetch from upstream up.invalid: "), "{said}");
    assert!(!said.contains("pass") || said.contains("password"), "{said}");
    said
}

#[test]
fn a_host_that_an_upstream_redirects_to_gets_no_password_whatever_it_asks_for() {
    let there = repository();
    let other = Fake::start(|asked| match asked.path.as_str() {
        path if path.starts_with("/token") => grants("t-of-another"),
        _ => {
            let host = asked.header("host").unwrap();
            asks(&format!("Bearer realm=\"http://{host}/token\",service=\"evil\", Basic realm=\"evil\""))
        }
    });
    let url = other.url();
    let upstream = Fake::start(move |asked| match asked.header("authorization") {
        Some(BASIC) if asked.path.contains("/blobs/") => {
            Say::status(307).with("Location", &format!("{url}/blob"))
        }
        Some(BASIC) => there.say(asked),
        _ => asks("Basic realm=\"r\""),
    });
    let server = through(UpstreamConfig { inner: vec![other.url()], ..user(&upstream.url()) });
    assert_eq!(server.get(TAG).status, 200);
    let layer = hab_oci::Digest::of("image".repeat(1000).as_bytes());
    let reply = server.get(&format!("/v2/up.invalid/a/b/blobs/{layer}"));
    assert_eq!(reply.error(), (502, "UNKNOWN".into()));
    let said = reply.json().to_string();
    assert!(said.contains("redirects to a host that answers 401"), "{said}");
    let asked = other.asked("");
    assert_eq!(asked.len(), 1, "its token service is not asked");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    // Nor is it asked first from then on.
    assert_eq!(server.get("/v2/up.invalid/c/d/manifests/v1").status, 404);
    assert_eq!(other.asked("").len(), 1);
    assert!(
        upstream.asked("").iter().all(|asked| asked.header("authorization").is_none_or(|sent| sent == BASIC))
    );
}

#[test]
fn a_token_service_at_an_inner_address_is_asked_for_nothing_unless_it_is_configured() {
    let inner = granting();
    let port = inner.address.port();
    for host in
        ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "metadata.google.internal"]
    {
        let upstream = naming(move |_| format!("http://{host}:{port}/token"));
        let said = refusal(user(&upstream.url()));
        assert!(said.contains("only this machine or its network can reach"), "{host}: {said}");
        assert!(inner.asked("").is_empty(), "{host}");
        assert!(upstream.asked("").iter().all(|asked| asked.header("authorization").is_none()), "{host}");
    }
    let upstream = naming(move |_| format!("http://127.0.0.1:{port}/token"));
    let server = through(UpstreamConfig { token_service: Some(inner.url()), ..user(&upstream.url()) });
    assert_eq!(server.get(TAG).status, 200);
    assert_eq!(inner.asked("")[0].header("authorization"), Some(BASIC));
}

#[test]
fn an_upstream_names_its_token_service_once_even_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let other = granting();
    let realm = Arc::new(Mutex::new(None::<String>));
    let named = realm.clone();
    let upstream = naming(move |asked| named.lock().unwrap().clone().unwrap_or_else(|| own(asked)));
    let pinned = || UpstreamConfig { pins: Some(folder.path().to_owned()), ..user(&upstream.url()) };
    let server = through(pinned());
    assert_eq!(server.get(TAG).status, 200);
    *realm.lock().unwrap() = Some(format!("{}/token", other.url()));
    let said = refusal(pinned());
    assert!(said.contains("the first time it named") && said.contains(&upstream.url()), "{said}");
    assert!(other.asked("").is_empty());
    // The operator may say so, and then no other one is asked.
    let configured = || UpstreamConfig { token_service: Some(other.url()), ..pinned() };
    assert_eq!(through(configured()).get(TAG).status, 200);
    *realm.lock().unwrap() = None;
    let before = upstream.asked("").len();
    assert!(refusal(configured()).contains("is configured"));
    assert_eq!(upstream.asked("").len(), before + 1);
}

#[test]
fn a_token_service_that_is_not_https_is_not_asked_for_an_upstream_that_is() {
    let upstream = naming(own);
    let authority = Authority::new("authority");
    let url = shield(upstream.address, authority.vouch("127.0.0.1", Some("127.0.0.1")));
    let secure = || UpstreamConfig { ca: Some(authority.pem()), ..user(&url) };
    // Its name for itself is the Host that it was asked by, so the realm is the same machine without TLS.
    let said = refusal(secure());
    assert!(said.contains("which is not https"), "{said}");
    assert!(upstream.asked("").iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn the_scope_that_is_asked_for_is_ours_and_not_the_upstreams() {
    let there = repository();
    let upstream = Fake::start(move |asked| match asked.header("authorization") {
        _ if asked.path.starts_with("/token") => grants("t"),
        Some("Bearer t") => there.say(asked),
        _ => asks(&format!(
            "Bearer realm=\"{}?scope=repository:victim/x:push&scope=*\",service=\"s&scope=x\",scope=\"repository:victim/x:push,delete\"",
            own(asked)
        )),
    });
    assert_eq!(through(user(&upstream.url())).get(TAG).status, 200);
    let asked = upstream.asked("");
    let token = asked.iter().find(|asked| asked.path.starts_with("/token")).unwrap();
    assert_eq!(token.path, "/token?scope=repository%3Aa%2Fb%3Apull&service=s%26scope%3Dx");
}

#[test]
fn a_token_that_is_no_token_is_not_sent() {
    for (answer, words) in [
        (format!("{{\"token\":\"{}\"}}", "A".repeat(300_000)), "more than 65536 bytes"),
        (format!("{{\"token\":\"{}\"}}", "A".repeat(60_000)), "more than 16384 bytes"),
        ("{\"token\":\"a\\r\\nX-Evil: 1\"}".to_owned(), "printable ASCII without spaces"),
        ("{\"access_token\":\"a\\u0000b\"}".to_owned(), "printable ASCII without spaces"),
        ("{\"token\":\"t ken\"}".to_owned(), "printable ASCII without spaces"),
        ("{\"token\":\"\"}".to_owned(), "sent no token"),
        ("{}".to_owned(), "sent no token"),
        ("<html>".to_owned(), "sent no token"),
    ] {
        let said = answer.clone();
        let upstream = Fake::start(move |asked| match asked.path.as_str() {
            path if path.starts_with("/token") => Say::ok("application/json", said.as_bytes()),
            _ => asks(&format!("Bearer realm=\"{}\"", own(asked))),
        });
        let said = refusal(config(&upstream.url()));
        assert!(said.contains(words), "{answer:.40}: {said}");
        let asked = upstream.asked("");
        assert!(asked.iter().all(|a| a.header("authorization").is_none() && a.header("x-evil").is_none()));
    }
}

#[test]
fn a_token_service_sends_nobody_elsewhere() {
    let other = granting();
    let url = other.url();
    let upstream = Fake::start(move |asked| match asked.path.as_str() {
        path if path.starts_with("/token") => {
            Say::status(307).with("Location", &format!("{url}/token?password=secret"))
        }
        _ => asks(&format!("Bearer realm=\"{}\"", own(asked))),
    });
    let said = refusal(UpstreamConfig { inner: vec![other.url()], ..user(&upstream.url()) });
    assert!(said.contains("which is not followed") && !said.contains("secret"), "{said}");
    assert!(other.asked("").is_empty());
}

#[test]
fn basic_and_bearer_together_are_understood_and_a_token_is_preferred() {
    let basic = "Basic realm=\"a, b\"";
    let bearer = |asked: &Asked| format!("Bearer realm=\"{}\",service=\"s, t\"", own(asked));
    let offers: [Offer; 4] = [
        |basic, bearer| asks(basic).with("WWW-Authenticate", bearer),
        |basic, bearer| asks(bearer).with("WWW-Authenticate", basic),
        |basic, bearer| asks(&format!("{basic}, {bearer}")),
        |basic, bearer| asks(&format!("Negotiate, {bearer}, {basic}")),
    ];
    for (at, offer) in offers.into_iter().enumerate() {
        let there = repository();
        let upstream = Fake::start(move |asked| match asked.header("authorization") {
            _ if asked.path.starts_with("/token") => grants("t"),
            Some("Bearer t") => there.say(asked),
            _ => offer(basic, &bearer(asked)),
        });
        assert_eq!(through(user(&upstream.url())).get(TAG).status, 200, "{at}");
        assert!(
            upstream.asked("/v1").iter().all(|asked| asked.header("authorization") != Some(BASIC)),
            "{at}"
        );
        // A token service that is not accepted leaves the password.
        let (there, elsewhere) = (repository(), granting());
        let realm = format!("Bearer realm=\"{}/token\"", elsewhere.url());
        let upstream = Fake::start(move |asked| match asked.header("authorization") {
            Some(BASIC) => there.say(asked),
            _ => offer(basic, &realm),
        });
        assert_eq!(through(user(&upstream.url())).get(TAG).status, 200, "{at}");
        assert!(elsewhere.asked("").is_empty(), "{at}");
    }
}
