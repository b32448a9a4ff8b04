//! The list of repositories.

use hab_oci::{Digest, media_type};
use hab_registry::{Access, ServiceLimits, UpstreamConfig, Upstreams};
use serde_json::json;

use crate::access::guarded;
use crate::harness::fake::{Fake, Say};
use crate::harness::secure::{Files, basic};
use crate::harness::upstream::config;
use crate::harness::{Reply, Server, manifest};

fn names(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_value(reply.json()["repositories"].clone()).unwrap()
}

#[test]
fn repositories_that_hold_something_to_pull_are_listed_in_order_and_in_pages() {
    let server = Server::writable();
    assert_eq!(server.get("/v2/_catalog").json(), json!({"repositories": []}));
    for name in ["b/c", "a", "d", "b"] {
        server.push_image(name, "v1", "");
    }
    server.push_blob("only/a/blob", b"bytes");
    let all = server.get("/v2/_catalog");
    assert_eq!(
        (names(&all), all.header("link")),
        (vec!["a".into(), "b".into(), "b/c".into(), "d".into()], None)
    );
    let first = server.get("/v2/_catalog?n=2");
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.header("link"), Some("</v2/_catalog?n=2&last=b>; rel=\"next\""));
    let mut next = Some("/v2/_catalog?n=3".to_owned());
    let mut seen = Vec::new();
    while let Some(path) = next {
        let page = server.get(&path);
        seen.extend(names(&page));
        let link = page.header("link").map(|link| link.strip_suffix(">; rel=\"next\"").unwrap());
        next = link.map(|link| link.strip_prefix('<').unwrap().to_owned());
    }
    assert_eq!(seen, names(&all));
    assert_eq!(names(&server.get("/v2/_catalog?n=0")), [""; 0]);
    assert_eq!(names(&server.get("/v2/_catalog?n=99999999999&last=b")), ["b/c", "d"]);
    assert_eq!(server.get("/v2/_catalog?n=x").error(), (400, "PAGINATION_NUMBER_INVALID".into()));
    assert_eq!(server.head("/v2/_catalog").status, 200);
    assert_eq!(server.send("DELETE", "/v2/_catalog", &[], b"").error(), (405, "UNSUPPORTED".into()));
}

#[test]
fn nobody_is_told_the_name_of_a_repository_that_they_may_not_pull() {
    let files = Files::new();
    let rules =
        [("alice", "*", "pull push delete"), ("bob", "team/*", "pull"), ("anonymous", "public/*", "pull")];
    let server = guarded(files.access(&["alice", "bob"], &rules));
    for name in ["public/a", "secret", "team/a", "team/b"] {
        server.image(name, "v1");
    }
    let list = |shown: &str| names(&server.send("GET", "/v2/_catalog", &[("Authorization", shown)], b""));
    assert_eq!(list(&basic("alice")), ["public/a", "secret", "team/a", "team/b"]);
    assert_eq!(list(&basic("bob")), ["public/a", "team/a", "team/b"]);
    // What is left out does not count for the page, and no link leads to it.
    let page = server.send("GET", "/v2/_catalog?n=2", &[("Authorization", &basic("bob"))], b"");
    assert_eq!(names(&page), ["public/a", "team/a"]);
    assert_eq!(page.header("link"), Some("</v2/_catalog?n=2&last=team%2Fa>; rel=\"next\""));
    let last = server.send("GET", "/v2/_catalog?n=2&last=team/a", &[("Authorization", &basic("bob"))], b"");
    assert_eq!((names(&last), last.header("link")), (vec!["team/b".to_owned()], None));
    // Who shows nothing is told how to show something, and a token for nobody lists what everybody may pull.
    let told = server.get("/v2/_catalog");
    assert_eq!(told.error(), (401, "UNAUTHORIZED".into()));
    let challenge = told.header("www-authenticate").unwrap();
    assert!(challenge.contains(",scope=\"registry:catalog:*\""), "{challenge}");
    let token = |shown: Option<&str>, scope: &str| {
        let headers: Vec<_> = shown.iter().map(|shown| ("Authorization", *shown)).collect();
        let reply = server.send("GET", &format!("/v2/token?service=hab-build&scope={scope}"), &headers, b"");
        format!("Bearer {}", reply.json()["token"].as_str().unwrap())
    };
    assert_eq!(list(&token(None, "registry:catalog:*")), ["public/a"]);
    assert_eq!(list(&token(Some(&basic("bob")), "registry:catalog:*")), ["public/a", "team/a", "team/b"]);
    // A token for something else is for that, and its owner is told what to ask for.
    let other = token(Some(&basic("bob")), "repository:team/a:pull");
    let refused = server.send("GET", "/v2/_catalog", &[("Authorization", &other)], b"");
    assert_eq!(refused.error(), (401, "UNAUTHORIZED".into()));
    assert!(refused.header("www-authenticate").unwrap().contains("registry:catalog:*"));
}

#[test]
fn what_was_pulled_through_is_listed_while_it_may_be_pulled() {
    let image = manifest(b"{}", b"layer", "");
    let digest = Digest::of(&image);
    let upstream = Fake::start(move |_| Say::ok(media_type::IMAGE_MANIFEST, &image));
    let server = Server::through(
        Access::ReadWrite,
        ServiceLimits::default(),
        Upstreams::new(vec![config(&upstream.url())]).unwrap(),
    );
    server.push_image("ours", "v1", "");
    for name in ["a/b", "c/d"] {
        assert_eq!(server.get(&format!("/v2/up.invalid/{name}/manifests/{digest}")).status, 200);
    }
    assert_eq!(names(&server.get("/v2/_catalog")), ["ours", "up.invalid/a/b", "up.invalid/c/d"]);
    let only = UpstreamConfig { repositories: vec!["c/*".parse().unwrap()], ..config(&upstream.url()) };
    let server = server.restarted_through(Access::ReadWrite, Upstreams::new(vec![only]).unwrap());
    assert_eq!(names(&server.get("/v2/_catalog")), ["ours", "up.invalid/c/d"]);
}
