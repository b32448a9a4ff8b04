//! Tokens: the operator's, and those that are issued.

use std::os::unix::fs::PermissionsExt as _;

use hab_registry::{AccessConfig, Action, Grant, Guard, Issue, issue, revoke};

use crate::access::{denied, guarded, unauthorized};
use crate::harness::secure::{Files, basic, basic_with, eventually};
use crate::harness::{Reply, Server};

/// alice may do everything, bob may read `team/*`, everybody `public/*`.
fn world(files: &Files) -> Server {
    let rules =
        [("alice", "*", "pull push delete"), ("bob", "team/*", "pull"), ("anonymous", "public/*", "pull")];
    let server = guarded(files.access(&["alice", "bob"], &rules));
    for name in ["team/a", "public/a", "secret"] {
        server.image(name, "v1");
    }
    server
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl Server {
    fn shows(&self, shown: &str, path: &str) -> Reply {
        self.send("GET", path, &[("Authorization", shown)], b"")
    }

    fn token(&self, shown: Option<&str>, query: &str) -> Reply {
        let headers: Vec<_> = shown.iter().map(|shown| ("Authorization", *shown)).collect();
        self.send("GET", &format!("/v2/token?{query}"), &headers, b"")
    }
}

fn text(reply: &Reply, field: &str) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()[field].as_str().unwrap().to_owned()
}

#[test]
fn an_account_gets_a_token_for_what_it_asks_and_may() {
    let files = Files::new();
    let server = world(&files);
    let asked =
        "account=bob&service=hab-build&scope=repository:team/a:pull,push&scope=repository:secret:pull";
    let reply = server.token(Some(&basic("bob")), asked);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.json()["token"], reply.json()["access_token"]);
    assert_eq!(reply.json()["expires_in"], 300);
    assert!(text(&reply, "issued_at").ends_with('Z'));
    let token = bearer(&text(&reply, "token"));
    assert_eq!(server.shows(&token, "/v2/").status, 200);
    assert_eq!(server.shows(&token, "/v2/team/a/manifests/v1").status, 200);
    assert_eq!(server.shows(&token, "/v2/public/a/manifests/v1").status, 200);
    assert_eq!(server.shows(&token, "/v2/secret/manifests/v1").error(), denied());
    let push = server.send("POST", "/v2/team/a/blobs/uploads/", &[("Authorization", &token)], b"");
    assert_eq!(push.error(), denied());
    // alice may, but not with a token for something else: she is told what to ask for.
    let alice = bearer(&text(&server.token(Some(&basic("alice")), "scope=repository:team/a:pull"), "token"));
    let reply = server.send("POST", "/v2/team/a/blobs/uploads/", &[("Authorization", &alice)], b"");
    assert_eq!(reply.error(), unauthorized());
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.contains(",scope=\"repository:team/a:pull,push\""), "{challenge}");
    assert!(challenge.ends_with(",error=\"insufficient_scope\""), "{challenge}");
}

#[test]
fn who_shows_nothing_gets_a_token_for_what_everybody_may() {
    let files = Files::new();
    let server = world(&files);
    let reply = server.token(None, "scope=repository:public/a:pull,push+repository:team/a:pull");
    let token = bearer(&text(&reply, "token"));
    assert_eq!(server.shows(&token, "/v2/").status, 200);
    assert_eq!(server.shows(&token, "/v2/public/a/manifests/v1").status, 200);
    assert_eq!(server.shows(&token, "/v2/team/a/manifests/v1").error(), unauthorized());
    let push = server.send("POST", "/v2/public/a/blobs/uploads/", &[("Authorization", &token)], b"");
    assert_eq!(push.error(), unauthorized());
    let wrong = server.token(Some(&basic_with("bob", "wrong")), "scope=repository:public/a:pull");
    assert_eq!(wrong.error(), unauthorized());
    assert_eq!(wrong.header("www-authenticate"), Some("Basic realm=\"hab-build\""));
}

#[test]
fn a_form_gets_a_token_too() {
    let files = Files::new();
    let server = world(&files);
    let post = |form: &str| {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        server.send("POST", "/v2/token", &[kind], form.as_bytes())
    };
    let form = "grant_type=password&service=hab-build&client_id=c&username=bob&password=bob%27s&scope=repository%3Ateam%2Fa%3Apull";
    let token = bearer(&text(&post(form), "access_token"));
    assert_eq!(server.shows(&token, "/v2/team/a/manifests/v1").status, 200);
    assert_eq!(post(&form.replace("bob%27s", "wrong")).error(), unauthorized());
    assert_eq!(post("grant_type=magic").error(), (400, "UNSUPPORTED".to_owned()));
    assert_eq!(post("grant_type=refresh_token&refresh_token=x").error(), unauthorized());
    assert_eq!(post(&"x".repeat(70_000)).error(), (413, "UNSUPPORTED".to_owned()));
    assert_eq!(server.send("PUT", "/v2/token", &[], b"").error(), (405, "UNSUPPORTED".to_owned()));
}

#[test]
fn a_token_of_the_operators_file_is_a_password_and_a_bearer_token() {
    let files = Files::new();
    let tokens = files.tokens(&["ci", "robot"]);
    let access = files.access(&["alice"], &[("ci", "team/*", "pull push"), ("alice", "*", "pull push")]);
    let server = guarded(AccessConfig { tokens: Some(files.path("tokens")), ..access });
    server.image("team/a", "v1");
    let path = "/v2/team/a/manifests/v1";
    for shown in [bearer(&tokens[0]), basic_with("ci", &tokens[0])] {
        assert_eq!(server.shows(&shown, path).status, 200);
    }
    assert_eq!(server.shows(&basic_with("alice", &tokens[0]), path).error(), unauthorized());
    assert_eq!(server.shows(&bearer(&tokens[1]), path).error(), denied());
    let form = format!("grant_type=refresh_token&refresh_token={}&scope=repository:team/a:pull", tokens[0]);
    let exchanged = text(&server.send("POST", "/v2/token", &[], form.as_bytes()), "access_token");
    assert_eq!(server.shows(&bearer(&exchanged), path).status, 200);
    // The operator takes it out of the file.
    files.write("tokens", "");
    eventually("the end of a token", || server.shows(&bearer(&tokens[0]), path).status == 401);
    assert_eq!(server.shows(&bearer(&exchanged), path).error(), unauthorized(), "and of what was made of it");
}

#[test]
fn an_issued_token_is_for_what_it_says_until_it_is_revoked() {
    let files = Files::new();
    let server = world(&files);
    let grant = Grant { repository: "team/*".parse().unwrap(), actions: vec![Action::Pull, Action::Push] };
    let of = |name: &str, seconds| {
        let what = Issue { name: name.parse().unwrap(), grants: vec![grant.clone()], seconds };
        issue(server.folder(), what).unwrap()
    };
    // A name that rules let do everything: the token is for less.
    let issued = of("alice", 100);
    let path = "/v2/team/a/manifests/v1";
    let shown = [bearer(&issued.token), basic_with("alice", &issued.token)];
    let exchanged =
        server.token(Some(&shown[1]), "scope=repository:secret:pull&scope=repository:team/a:pull");
    assert!(exchanged.json()["expires_in"].as_i64().unwrap() <= 100, "never longer than what it was made of");
    let exchanged = bearer(&text(&exchanged, "token"));
    for shown in shown.iter().chain([&exchanged]) {
        assert_eq!(server.shows(shown, path).status, 200);
        assert_eq!(
            server.send("POST", "/v2/team/new/blobs/uploads/", &[("Authorization", shown)], b"").status,
            202
        );
        assert_eq!(server.shows(shown, "/v2/secret/manifests/v1").error(), denied());
        assert_eq!(server.send("DELETE", path, &[("Authorization", shown)], b"").error(), denied());
    }
    assert_eq!(server.shows(&basic_with("bob", &issued.token), path).error(), unauthorized());
    assert_eq!(server.shows(&bearer(&of("ci", 0).token), path).error(), unauthorized(), "expired");
    let other = Files::new();
    let foreign = guarded(other.access(&[], &[]));
    assert_eq!(foreign.shows(&shown[0], "/v2/").error(), unauthorized(), "another farm's");
    revoke(server.folder(), &issued.id).unwrap();
    revoke(server.folder(), &issued.id).unwrap();
    assert!(revoke(server.folder(), "ff").is_err());
    eventually("the end of a revoked token", || server.shows(&shown[0], path).status == 401);
    for shown in shown.iter().chain([&exchanged]) {
        assert_eq!(server.shows(shown, path).error(), unauthorized());
    }
}

#[test]
fn a_token_ends_with_the_account_that_it_was_made_for_and_a_broken_file_changes_nothing() {
    let files = Files::new();
    let server = world(&files);
    let token = bearer(&text(&server.token(Some(&basic("bob")), "scope=repository:team/a:pull"), "token"));
    let path = "/v2/team/a/manifests/v1";
    let old = std::fs::read_to_string(files.path("htpasswd")).unwrap();
    files.write("htpasswd", format!("{old}eve:plain\n"));
    // Files are looked at in turn, so this one was, when the next has been.
    let marker = Issue { name: "x".parse().unwrap(), grants: Vec::new(), seconds: 100 };
    let marker = issue(server.folder(), marker).unwrap();
    assert_eq!(server.shows(&bearer(&marker.token), "/v2/").status, 200);
    revoke(server.folder(), &marker.id).unwrap();
    eventually("a look at the files", || server.shows(&bearer(&marker.token), "/v2/").status == 401);
    assert_eq!(server.shows(&token, path).status, 200);
    assert_eq!(server.shows(&basic("bob"), path).status, 200);
    files.htpasswd(&["alice"]);
    eventually("the end of bob", || server.shows(&token, path).status == 401);
    assert_eq!(server.shows(&basic("bob"), path).error(), unauthorized(), "and it is not remembered");
    assert_eq!(server.shows(&basic("alice"), path).status, 200);
}

#[test]
fn a_token_ends_with_the_password_that_it_was_made_for() {
    let files = Files::new();
    let server = world(&files);
    let path = "/v2/team/a/manifests/v1";
    let asked = "scope=repository:team/a:pull";
    let of = |name: &str| bearer(&text(&server.token(Some(&basic(name)), asked), "token"));
    let (alice, bob) = (of("alice"), of("bob"));
    // Made of the token again, it is worth no more.
    let again = bearer(&text(&server.token(Some(&bob), asked), "token"));
    let lines = std::fs::read_to_string(files.path("htpasswd")).unwrap();
    let kept = lines.lines().find(|line| line.starts_with("alice:")).unwrap();
    let changed = bcrypt::hash("another", 4).unwrap();
    files.write("htpasswd", format!("{kept}\nbob:{changed}\n"));
    eventually("the end of a password", || server.shows(&bob, path).status == 401);
    for token in [&bob, &again] {
        assert_eq!(server.shows(token, path).error(), unauthorized());
        assert_eq!(server.token(Some(token), asked).error(), unauthorized());
    }
    assert_eq!(server.shows(&basic("bob"), path).error(), unauthorized());
    assert_eq!(server.shows(&basic_with("bob", "another"), path).status, 200);
    assert_eq!(server.shows(&alice, path).status, 200, "and nobody else's");
    // The same password with another salt is another one: whoever changes it wants what was to end.
    let new = bearer(&text(&server.token(Some(&basic_with("bob", "another")), asked), "token"));
    assert_eq!(server.shows(&new, path).status, 200);
    files.write("htpasswd", format!("{kept}\nbob:{}\n", bcrypt::hash("another", 4).unwrap()));
    eventually("the end of a hash", || server.shows(&new, path).status == 401);
}

#[test]
fn a_token_ends_with_the_token_of_the_operators_file_that_it_was_made_for() {
    let files = Files::new();
    let tokens = files.tokens(&["ci", "ci"]);
    let access = files.access(&["alice"], &[("ci", "team/*", "pull"), ("alice", "*", "pull push")]);
    let server = guarded(AccessConfig { tokens: Some(files.path("tokens")), ..access });
    server.image("team/a", "v1");
    let path = "/v2/team/a/manifests/v1";
    let exchanged = tokens.iter().map(|token| {
        bearer(&text(&server.token(Some(&bearer(token)), "scope=repository:team/a:pull"), "token"))
    });
    let exchanged: Vec<String> = exchanged.collect();
    assert!(exchanged.iter().all(|token| server.shows(token, path).status == 200));
    let lines = std::fs::read_to_string(files.path("tokens")).unwrap();
    files.write("tokens", lines.lines().nth(1).unwrap());
    eventually("the end of the first", || server.shows(&exchanged[0], path).status == 401);
    assert_eq!(server.shows(&exchanged[1], path).status, 200, "the same account has the second still");
}

/// Of a file with these permissions, as the operator would leave it.
fn with_mode(files: &Files, name: &str, mode: u32) {
    std::fs::set_permissions(files.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_of_accounts_that_others_may_write_or_read_is_refused_at_start() {
    let files = Files::new();
    files.tokens(&["ci"]);
    let data = tempfile::tempdir().unwrap();
    let open = |files: &Files| {
        let tokens = Some(files.path("tokens"));
        let access = AccessConfig { tokens, data: data.path().to_owned(), ..files.access(&["bob"], &[]) };
        move || Guard::open(access).map(|_| ()).map_err(|error| error.to_string())
    };
    open(&files)().unwrap();
    for (name, mode, said) in [
        ("htpasswd", 0o620, "its group may write it"),
        ("htpasswd", 0o602, "others may write it"),
        ("htpasswd", 0o604, "others may read it"),
        ("tokens", 0o666, "its group and others may write it"),
    ] {
        let open = open(&files);
        with_mode(&files, name, mode);
        let error = open().unwrap_err();
        with_mode(&files, name, 0o600);
        assert!(error.contains(said) && error.contains(name) && error.contains("`chmod "), "{error}");
    }
    let revoked = data.path().join("registry.revoked");
    std::fs::write(&revoked, "").unwrap();
    for path in [data.path().join("registry.key"), revoked] {
        let was = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(open(&files)().unwrap_err().contains("chmod g-w,o-w"), "{path:?}");
        std::fs::set_permissions(&path, was).unwrap();
    }
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        open(&files)().unwrap_err().contains("leads to it"),
        "who may write the folder may exchange the key"
    );
}

#[test]
fn a_file_of_accounts_that_others_may_write_later_changes_nothing() {
    let files = Files::new();
    let server = world(&files);
    let path = "/v2/team/a/manifests/v1";
    let stolen = bcrypt::hash("stolen", 4).unwrap();
    with_mode(&files, "htpasswd", 0o666);
    // In place, as somebody would who may write the file and not its folder.
    std::fs::write(files.path("htpasswd"), format!("alice:{stolen}\n")).unwrap();
    let marker = Issue { name: "x".parse().unwrap(), grants: Vec::new(), seconds: 100 };
    let marker = issue(server.folder(), marker).unwrap();
    assert_eq!(server.shows(&bearer(&marker.token), "/v2/").status, 200);
    revoke(server.folder(), &marker.id).unwrap();
    // Files are looked at in turn, so this one was, when the next has been.
    eventually("a look at the files", || server.shows(&bearer(&marker.token), "/v2/").status == 401);
    assert_eq!(server.shows(&basic_with("alice", "stolen"), path).error(), unauthorized());
    assert_eq!(server.shows(&basic("bob"), path).status, 200, "what was before is still so");
    // The permissions alone are a change: what is in it counts from then on.
    with_mode(&files, "htpasswd", 0o600);
    eventually("the file as it is now", || server.shows(&basic("bob"), path).status == 401);
    assert_eq!(server.shows(&basic_with("alice", "stolen"), path).status, 200);
}
