//! Why an upstream does not give something: absence is what it says itself, and everything else is said as what it is.

use std::net::TcpListener;
use std::time::Duration;

use hab_registry::{Patience, UpstreamConfig};

use crate::harness::fake::{Fake, Say};
use crate::harness::secure::Authority;
use crate::harness::shield::shield;
use crate::harness::upstream::{Repository, config, through, upstreams};

const TAG: &str = "/v2/up.invalid/a/b/manifests/v1";
/// `user:pass`.
const BASIC: &str = "Basic dXNlcjpwYXNz";

fn user(url: &str) -> UpstreamConfig {
    let (username, password) = (Some("user".to_owned()), Some("hunter2".to_owned()));
    UpstreamConfig { username, password, ..config(url) }
}

/// Answers 401 with a token service of its own to who has no token, and `status` to who has one.
fn with_tokens(status: u16, granted: u16) -> Fake {
    Fake::start(move |asked| match asked.header("authorization") {
        _ if asked.path.starts_with("/token") && granted == 200 => {
            Say::ok("application/json", b"{\"token\":\"t\"}")
        }
        _ if asked.path.starts_with("/token") => Say::status(granted),
        Some("Bearer t") => Say::status(status),
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", asked.header("host").unwrap());
            Say::status(401).with("WWW-Authenticate", &realm)
        }
    })
}

/// A pull through it fails as 502 with these words, which tell clients neither addresses nor secrets.
#[track_caller]
fn says(config: UpstreamConfig, words: &str) {
    let host = config.url.rsplit('/').next().unwrap().to_owned();
    let reply = through(config).get(TAG);
    assert_eq!(reply.error(), (502, "UNKNOWN".into()), "{words}");
    let said = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(said.starts_with("cannot fetch from upstream up.invalid: ") && said.contains(words), "{said}");
    assert!(!said.contains("hunter2") && !said.contains(&host), "{said}");
}

#[test]
fn a_wrong_password_a_403_and_a_missing_password_are_no_absence() {
    let basic = |status| {
        Fake::start(move |asked| match asked.header("authorization") {
            Some(_) => Say::status(status),
            None => Say::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
        })
    };
    for status in [401, 403] {
        says(user(&basic(status).url()), "does not let the configured user in");
        says(user(&with_tokens(status, 200).url()), "does not let the configured user in");
        says(user(&with_tokens(200, status).url()), "refuses the configured user and password");
        says(config(&with_tokens(200, status).url()), "no token to somebody without an account");
    }
    says(config(&basic(401).url()), "none are configured");
    says(config(&Fake::start(|_| Say::status(403)).url()), "403");
    says(config(&Fake::start(|_| Say::status(401)).url()), "of a kind that is not supported here");
}

#[test]
fn absence_is_a_404_or_a_refusal_to_somebody_without_an_account() {
    for status in [401, 403, 404] {
        let upstream = with_tokens(status, 200);
        assert_eq!(
            through(config(&upstream.url())).get(TAG).error(),
            (404, "MANIFEST_UNKNOWN".into()),
            "{status}"
        );
    }
    let upstream = with_tokens(404, 200);
    assert_eq!(through(user(&upstream.url())).get(TAG).error(), (404, "MANIFEST_UNKNOWN".into()));
}

#[test]
fn a_wrong_password_is_not_tried_with_every_pull() {
    let upstream = with_tokens(200, 401);
    let server = through(user(&upstream.url()));
    for _ in 0..5 {
        let reply = server.get(TAG);
        assert_eq!(reply.error(), (502, "UNKNOWN".into()));
        assert!(reply.json().to_string().contains("refuses the configured user"), "{}", reply.json());
    }
    let tried = upstream.asked("").iter().filter(|asked| asked.path.starts_with("/token")).count();
    assert_eq!(tried, 1);
}

#[test]
fn an_unknown_host_a_refused_connection_and_silence_are_told_apart() {
    // Longer than a label may be, so that no name server has to say so.
    says(config(&format!("http://{}.invalid", "x".repeat(70))), "its host name is not known");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    says(config(&format!("http://{nobody}")), "it refuses connections");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let patience = Patience { silence: Duration::from_millis(200), ..Patience::default() };
    let url = format!("http://{}", silent.local_addr().unwrap());
    says(UpstreamConfig { patience, ..config(&url) }, "did not answer within");
    let plain = Fake::start(|_| Say::status(404));
    says(config(&plain.url().replace("http:", "https:")), "cannot establish TLS with it");
}

#[test]
fn a_certificate_is_trusted_by_the_file_that_the_operator_names_until_it_expires() {
    let mut there = Repository::new();
    let image = there.image("image", "");
    there.tag("v1", &image);
    let upstream = Fake::start(move |asked| there.say(asked));
    let authority = Authority::new("authority");
    let ca = || Some(authority.pem());
    let url = shield(upstream.address, authority.vouch("127.0.0.1", Some("127.0.0.1")));
    says(config(&url), "its certificate is not trusted");
    says(
        UpstreamConfig { ca: Some(Authority::new("other").pem()), ..config(&url) },
        "certificate is not trusted",
    );
    assert_eq!(through(UpstreamConfig { ca: ca(), ..config(&url) }).get(TAG).status, 200);
    let expired = shield(upstream.address, authority.vouch_for("127.0.0.1", Some("127.0.0.1"), -1));
    says(UpstreamConfig { ca: ca(), ..config(&expired) }, "certificate has expired");
    let elsewhere = shield(upstream.address, authority.vouch("127.0.0.2", Some("127.0.0.2")));
    says(UpstreamConfig { ca: ca(), ..config(&elsewhere) }, "its certificate is not trusted");
}

#[test]
fn what_is_wrong_with_an_upstream_is_said_at_start_in_one_sentence_with_its_address() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let greet = |config| runtime.block_on(upstreams(config).greet());
    let good = Fake::start(|asked| match asked.header("authorization") {
        Some(BASIC) => Say::ok("application/json", b"{}"),
        _ => Say::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let mut right = user(&good.url());
    right.password = Some("pass".to_owned());
    assert_eq!(greet(right), [] as [String; 0]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let website = Fake::start(|_| Say::status(404));
    let refusing = with_tokens(200, 401);
    for (config, words) in [
        (user(&good.url()), vec!["does not let the configured user in", "user \"user\"", "401"]),
        (user(&refusing.url()), vec!["refuses the configured user and password", "401"]),
        (config(&format!("http://{nobody}")), vec!["it refuses connections"]),
        (config(&website.url()), vec!["404", "not an address of a registry"]),
    ] {
        let address = config.url.clone();
        let said = greet(config);
        assert_eq!(said.len(), 1, "{said:?}");
        for word in words.into_iter().chain(["upstream up.invalid: ", &address]) {
            assert!(said[0].contains(word), "no {word} in {said:?}");
        }
        assert!(!said[0].contains("hunter2") && !said[0].contains('\n'), "{said:?}");
    }
}
