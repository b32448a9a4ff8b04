//! Who may do what.

use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_registry::{Access, AccessConfig, ServiceLimits, UpstreamConfig, Upstreams};

use crate::harness::fake::{Fake, Say};
use crate::harness::secure::{Files, basic, basic_with};
use crate::harness::{Reply, Server, Setup, manifest};

pub fn guarded(access: AccessConfig) -> Server {
    Server::set_up(
        Access::ReadWrite,
        ServiceLimits::default(),
        Setup { access: Some(access), ..Setup::default() },
    )
}

/// A server where alice may do everything; others by the rules.
fn world(names: &[&str], rules: &[(&str, &str, &str)]) -> Server {
    let files = Files::new();
    let names = [&["alice"], names].concat();
    let rules = [&[("alice", "*", "pull push delete")], rules].concat();
    // The files are read at start; nothing here changes them.
    guarded(files.access(&names, &rules))
}

impl Server {
    pub fn by(&self, name: &str, method: &str, path: &str, body: &[u8]) -> Reply {
        self.send(method, path, &[("Authorization", &basic(name))], body)
    }

    /// Pushed by alice.
    pub fn image(&self, name: &str, tag: &str) -> Vec<u8> {
        let (config, layer) = (format!("{{\"of\":\"{name}\"}}").into_bytes(), b"a layer".to_vec());
        for blob in [&config, &layer] {
            let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(blob));
            assert_eq!(self.by("alice", "POST", &path, blob).status, 201);
        }
        let manifest = manifest(&config, &layer, "");
        let headers =
            [("Authorization", basic("alice")), ("Content-Type", media_type::IMAGE_MANIFEST.to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let reply = self.send("PUT", &format!("/v2/{name}/manifests/{tag}"), &headers, &manifest);
        assert_eq!(reply.status, 201, "{reply:?}");
        manifest
    }
}

pub fn denied() -> (u16, String) {
    (403, "DENIED".to_owned())
}

pub fn unauthorized() -> (u16, String) {
    (401, "UNAUTHORIZED".to_owned())
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];

/// Every endpoint of a repository.
fn endpoints(name: &str) -> Vec<String> {
    let digest = Digest::of(b"a layer");
    let tails = [
        "manifests/v1".to_owned(),
        format!("manifests/{digest}"),
        format!("blobs/{digest}"),
        "blobs/uploads/".to_owned(),
        "blobs/uploads".to_owned(),
        format!("blobs/uploads/?mount={digest}&from=a/b"),
        "blobs/uploads/0123456789abcdef0123456789abcdef".to_owned(),
        "tags/list".to_owned(),
        format!("referrers/{digest}"),
    ];
    tails.iter().map(|tail| format!("/v2/{name}/{tail}")).collect()
}

#[test]
fn no_endpoint_by_no_method_answers_without_an_account_and_none_tells_what_is_there() {
    let server = world(&[], &[]);
    server.image("secret/here", "v1");
    for method in METHODS {
        for (here, gone) in endpoints("secret/here").iter().zip(endpoints("secret/gone")) {
            let replies = [here, &gone].map(|path| server.send(method, path, &[], b""));
            for (reply, path) in replies.iter().zip([here, &gone]) {
                assert_eq!(reply.status, 401, "{method} {path}");
                let challenge = reply.header("www-authenticate").unwrap();
                let name = path.split('/').nth(3).unwrap();
                let start =
                    "Bearer realm=\"http://here/v2/token\",service=\"hab-build\",scope=\"repository:secret/";
                assert!(challenge.starts_with(&format!("{start}{name}:")), "{challenge}");
                assert_eq!(reply.header("content-type"), Some("application/json"));
                if method == "HEAD" {
                    assert!(reply.body.is_empty());
                } else {
                    assert_eq!(reply.error(), unauthorized());
                }
            }
            assert_eq!(replies[0].body, replies[1].body, "{method} {here}");
        }
        let base = server.send(method, "/v2/", &[], b"");
        assert_eq!(base.status, if matches!(method, "GET" | "HEAD") { 401 } else { 405 }, "{method}");
        assert!(base.status == 405 || base.header("www-authenticate").unwrap().starts_with("Bearer realm="));
    }
}

#[test]
fn an_account_that_may_not_is_told_the_same_whether_something_is_there_or_not() {
    let server = world(&["bob"], &[("bob", "public/*", "pull")]);
    server.image("secret/here", "v1");
    for method in METHODS {
        for (here, gone) in endpoints("secret/here").iter().zip(endpoints("secret/gone")) {
            let [here, gone] = [here.as_str(), &gone].map(|path| server.by("bob", method, path, b""));
            assert_eq!((here.status, gone.status), (403, 403), "{method}");
            if method != "HEAD" {
                assert_eq!(here.error(), denied());
                let text = |reply: &Reply| String::from_utf8(reply.body.clone()).unwrap();
                assert_eq!(text(&here).replace("secret/here", "secret/gone"), text(&gone));
            }
        }
    }
}

#[test]
fn without_rules_everybody_pulls_and_accounts_do_the_rest() {
    let files = Files::new();
    let server = guarded(files.access(&["alice"], &[]));
    let digest = Digest::of(&server.image("a/b", "v1"));
    for path in ["/v2/a/b/manifests/v1", "/v2/a/b/tags/list", &format!("/v2/a/b/referrers/{digest}")] {
        assert_eq!(server.get(path).status, 200, "{path}");
        assert_eq!(server.head(path).status, 200, "{path}");
    }
    assert_eq!(server.get("/v2/a/gone/manifests/v1").error(), (404, "MANIFEST_UNKNOWN".to_owned()));
    for (method, path) in [
        ("POST", "/v2/a/b/blobs/uploads/"),
        ("PUT", "/v2/a/b/manifests/v2"),
        ("DELETE", "/v2/a/b/manifests/v1"),
    ] {
        assert_eq!(server.send(method, path, &[], b"").error(), unauthorized(), "{method} {path}");
    }
    assert_eq!(server.by("alice", "DELETE", "/v2/a/b/manifests/v1", b"").status, 202);
    assert_eq!(server.get("/v2/").status, 401, "so that clients find out how to log in");
    assert_eq!(server.by("alice", "GET", "/v2/", b"").status, 200);
}

#[test]
fn without_accounts_nothing_is_asked_for() {
    let server = Server::writable();
    assert_eq!(server.get("/v2/").status, 200);
    assert_eq!(server.get("/v2/token").error(), (404, "UNSUPPORTED".to_owned()));
    let said = [("Authorization", "Basic garbled")];
    assert_eq!(server.send("GET", "/v2/", &said, b"").status, 200);
}

#[test]
fn what_is_shown_and_wrong_is_refused_even_where_nothing_had_to_be_shown() {
    let server = world(&["bob"], &[("anonymous", "*", "pull")]);
    server.image("a", "v1");
    assert_eq!(server.get("/v2/a/manifests/v1").status, 200);
    let long = format!("Bearer {}", "x".repeat(50_000));
    for shown in [
        &basic_with("bob", "wrong"),
        &basic_with("bob", ""),
        &basic_with("eve", "bob's"),
        &basic_with("", "bob's"),
        &basic_with("any", "bob's"),
        &basic_with("b\u{0}b", "bob's"),
        "Basic",
        "Basic ????",
        "Bearer",
        "Bearer hab1..",
        "Bearer hab1.e30.AAAA",
        "Digest username=\"bob\"",
        &long,
    ] {
        let reply = server.send("GET", "/v2/a/manifests/v1", &[("Authorization", shown)], b"");
        assert_eq!(reply.error(), unauthorized(), "{}", &shown[..shown.len().min(60)]);
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer realm="));
    }
    assert_eq!(server.by("bob", "GET", "/v2/a/manifests/v1", b"").status, 200);
}

#[test]
fn deleting_pushing_and_pulling_are_three_things() {
    let rules = [("puller", "a", "pull"), ("pusher", "a", "pull push"), ("deleter", "a", "delete")];
    let server = world(&["puller", "pusher", "deleter"], &rules);
    let image = Digest::of(&server.image("a", "v1"));
    let layer = Digest::of(b"a layer");
    let start = |name: &str| server.by(name, "POST", "/v2/a/blobs/uploads/", b"");
    assert_eq!(start("puller").error(), denied());
    assert_eq!(start("deleter").error(), denied());
    let upload = start("pusher");
    let upload = upload.header("location").unwrap();
    for (method, status) in [("GET", 204), ("PATCH", 202)] {
        for stranger in ["puller", "deleter"] {
            assert_eq!(server.by(stranger, method, upload, b"x").error(), denied(), "{method}");
        }
        assert_eq!(server.by("pusher", method, upload, b"x").status, status, "{method}");
    }
    assert_eq!(server.by("deleter", "DELETE", upload, b"").error(), denied(), "giving up is for who pushes");
    assert_eq!(server.by("pusher", "DELETE", upload, b"").status, 204);
    let all =
        ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/manifests/{image}"), format!("/v2/a/blobs/{layer}")];
    for path in &all {
        assert_eq!(server.by("puller", "GET", path, b"").status, 200);
        assert_eq!(server.by("deleter", "GET", path, b"").error(), denied());
        for stranger in ["puller", "pusher"] {
            assert_eq!(server.by(stranger, "DELETE", path, b"").error(), denied(), "{path}");
        }
        assert!([202, 405].contains(&server.by("deleter", "DELETE", path, b"").status), "{path}");
    }
}

#[test]
fn a_blob_is_mounted_only_from_where_its_caller_may_read() {
    let rules = [("bob", "team/*", "pull push"), ("bob", "shared", "pull")];
    let server = world(&["bob"], &rules);
    server.image("secret", "v1");
    let layer = Digest::of(b"a layer");
    let mount = |to: &str, from: &str| {
        server.by("bob", "POST", &format!("/v2/team/{to}/blobs/uploads/?mount={layer}{from}"), b"").status
    };
    for from in ["&from=secret", "&from=gone", ""] {
        assert_eq!(mount("a", from), 202, "{from:?}: pushed anew");
    }
    let path = format!("/v2/team/a/blobs/{layer}");
    assert_eq!(server.by("bob", "GET", &path, b"").status, 404);
    server.image("shared", "v1");
    assert_eq!(mount("a", "&from=secret"), 202);
    assert_eq!(mount("a", "&from=shared"), 201);
    assert_eq!(server.by("bob", "GET", &path, b"").status, 200);
    assert_eq!(mount("b", ""), 201, "from any that may be read");
}

#[test]
fn a_read_only_registry_takes_pushes_from_nobody() {
    let files = Files::new();
    let setup = Setup { access: Some(files.access(&["alice"], &[])), ..Setup::default() };
    let server = Server::set_up(Access::ReadOnly, ServiceLimits::default(), setup);
    assert_eq!(server.by("alice", "POST", "/v2/a/blobs/uploads/", b"").error(), (405, "DENIED".to_owned()));
    assert_eq!(server.by("alice", "GET", "/v2/", b"").status, 200);
}

#[test]
fn rules_are_for_the_name_that_an_upstreams_repository_has_here() {
    let image = manifest(b"{}", b"layer", "");
    let answer = image.clone();
    let fake = Fake::start(move |_| Say::ok(media_type::IMAGE_MANIFEST, &answer));
    let files = Files::new();
    let rules = [("bob", "up.example/library/*", "pull"), ("anonymous", "library/*", "pull")];
    let upstream =
        UpstreamConfig { ttl: Duration::from_secs(60), ..UpstreamConfig::new("up.example", &fake.url()) };
    let setup = Setup {
        access: Some(files.access(&["bob"], &rules)),
        upstreams: Upstreams::new(vec![upstream]).unwrap(),
        ..Setup::default()
    };
    let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
    let (by_path, by_ns) =
        ("/v2/up.example/library/a/manifests/v1", "/v2/library/a/manifests/v1?ns=up.example");
    for path in [by_path, by_ns] {
        assert_eq!(server.get(path).error(), unauthorized(), "{path}");
        let other = path.replace("library", "other");
        assert_eq!(server.by("bob", "GET", &other, b"").error(), denied(), "{other}");
    }
    assert_eq!(server.get("/v2/other/a/manifests/v1?ns=nobody.example").error(), unauthorized());
    assert_eq!(fake.asked("").len(), 0, "upstream was not asked for anybody who may not");
    for path in [by_path, by_ns] {
        assert_eq!(server.by("bob", "GET", path, b"").body, image, "{path}");
    }
}
