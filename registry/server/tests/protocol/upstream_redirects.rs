//! Where an upstream may send us, and what of an answer is taken.

use hab_oci::Digest;
use hab_registry::UpstreamConfig;

use crate::harness::fake::{Fake, Say};
use crate::harness::secure::Authority;
use crate::harness::shield::shield;
use crate::harness::upstream::{Repository, config, through};

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";

fn repository() -> Repository {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    there
}

fn layer() -> String {
    format!("/v2/up.invalid/a/b/blobs/{}", Digest::of("image".repeat(1000).as_bytes()))
}

/// An upstream whose blobs are at `location`.
fn leading(location: String) -> Fake {
    let there = repository();
    Fake::start(move |asked| match asked.path.as_str() {
        path if path.contains("/blobs/") => Say::status(307).with("Location", &location),
        _ => there.say(asked),
    })
}

#[test]
fn an_upstream_leads_to_no_inner_address_and_out_of_http() {
    let there = repository();
    let inner = Fake::start(move |asked| there.say(asked));
    let port = inner.address.port();
    for location in [
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.2:{port}"),
        format!("http://localhost:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0x7f000001:{port}"),
        format!("http://017700000001:{port}"),
        format!("http://[::1]:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("//127.0.0.1:{port}"),
        "http://169.254.169.254".to_owned(),
        "http://metadata.google.internal".to_owned(),
        "http://registry".to_owned(),
        "file://".to_owned(),
        "ftp://127.0.0.1".to_owned(),
        "gopher://127.0.0.1:25".to_owned(),
    ] {
        let upstream = leading(format!("{location}/etc/passwd?signature=secret"));
        let server = through(config(&upstream.url()));
        assert_eq!(server.get(TAG).status, 200, "{location}");
        let reply = server.get(&layer());
        assert_eq!(reply.error(), (502, "UNKNOWN".into()), "{location}");
        let said = reply.json().to_string();
        assert!(said.contains("upstream up.invalid") && said.contains("not followed"), "{location}: {said}");
        assert!(!said.contains("secret") && !said.contains("/etc/passwd"), "{location}: {said}");
        assert!(inner.asked("").is_empty(), "{location}");
    }
}

#[test]
fn an_upstream_leads_where_the_operator_says_and_within_itself() {
    let there = repository();
    let storage = Fake::start(move |asked| there.say(asked));
    let blob = layer().replace("/up.invalid", "");
    let upstream = leading(format!("{}{blob}", storage.url()));
    let named = UpstreamConfig { inner: vec![storage.url()], ..config(&upstream.url()) };
    assert_eq!(through(named).get(&layer()).status, 200);
    let there = repository();
    let within = Fake::start(move |asked| match asked.path.strip_prefix("/there") {
        None => Say::status(302).with("Location", &format!("/there{}", asked.path)),
        Some(path) => there.say(&crate::harness::fake::Asked { path: path.to_owned(), ..asked.clone() }),
    });
    assert_eq!(through(config(&within.url())).get(&layer()).status, 200);
}

#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    let there = repository();
    let storage = Fake::start(move |asked| there.say(asked));
    let upstream = leading(format!("{}/blob", storage.url()));
    let authority = Authority::new("authority");
    let url = shield(upstream.address, authority.vouch("127.0.0.1", Some("127.0.0.1")));
    let secure = UpstreamConfig { ca: Some(authority.pem()), inner: vec![storage.url()], ..config(&url) };
    let server = through(secure);
    assert_eq!(server.get(TAG).status, 200, "by the certificate that its operator named");
    let reply = server.get(&layer());
    assert_eq!(reply.error(), (502, "UNKNOWN".into()));
    assert!(reply.json().to_string().contains("it is not encrypted"), "{}", reply.json());
    assert!(storage.asked("").is_empty());
}

#[test]
fn an_encoded_answer_is_refused_by_name_and_none_is_asked_for() {
    for encoding in ["gzip", "br", "zstd", "something\"odd"] {
        let there = repository();
        let upstream = Fake::start(move |asked| there.say(asked).with("Content-Encoding", encoding));
        let server = through(config(&upstream.url()));
        for path in [TAG.to_owned(), layer()] {
            let reply = server.get(&path);
            assert_eq!(reply.error(), (502, "UNKNOWN".into()), "{encoding}");
            let said = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
            assert!(said.contains(&format!("encoded as {encoding:?}")), "{said}");
        }
        assert!(upstream.asked("").iter().all(|asked| asked.header("accept-encoding") == Some("identity")));
    }
    let there = repository();
    let upstream = Fake::start(move |asked| there.say(asked).with("Content-Encoding", "identity"));
    assert_eq!(through(config(&upstream.url())).get(TAG).status, 200);
}

#[test]
fn an_answer_with_a_huge_head_is_refused() {
    for (name, length, count) in [("X-A", 100_000, 1), ("X-A", 5_000_000, 1), ("X-A", 10, 10_000)] {
        let there = repository();
        let upstream = Fake::start(move |asked| {
            (0..count).fold(there.say(asked), |said, _| said.with(name, &"a".repeat(length)))
        });
        assert_eq!(through(config(&upstream.url())).get(TAG).error(), (502, "UNKNOWN".into()), "{length}");
    }
}
