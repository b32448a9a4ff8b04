//! The registry's accounts, its certificate and its tokens, as an operator sets them up.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Serving, World};

/// `htpasswd -nbB alice 'correct horse'`
const ALICE: &str = "alice:$2y$05$Jw/cgHmtLymPTPGQMyTT6uA3qSeskq3I51sJecJsPg05BdCsBOEXi\n";
const BASIC: &str = "Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==\r\n";

/// Appends `more` to the world's configuration.
fn configure(world: &World, more: &str) {
    world.write_config_with(&[]);
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{config}\n{more}"));
}

/// Waits until `so` holds, for which a server may need a few seconds.
fn eventually(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes a file that only its owner may read.
fn secret(world: &World, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = world.file(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn serve(world: &World, listen: &str, words: &[&str]) -> crate::harness::Outcome {
    world.run("data", &[&["serve", "--json", "--listen", listen], words].concat())
}

#[test]
fn what_would_let_strangers_write_or_read_passwords_is_refused_at_start() {
    let world = World::new();
    let beyond = |words: &[&str]| serve(&world, "192.0.2.1:5000", words);
    beyond(&["--writable"])
        .refused(2, &["let anyone push", "[registry.access]", "[registry.tls]", "loopback"]);
    configure(&world, "[registry.access]\n");
    beyond(&[]).refused(2, &["accounts on 192.0.2.1:5000 without TLS", "[registry.tls]"]);
    beyond(&["--writable"]).refused(2, &["without TLS"]);
}

#[test]
fn files_that_cannot_be_used_are_refused_at_start_by_name_and_line() {
    let world = World::new();
    let htpasswd = secret(&world, "htpasswd", &format!("{ALICE}# bob\nbob:$apr1$x$y\n"));
    let tokens = world.file("tokens", "ci 00ff\n");
    let pem = world.file("junk.pem", "junk");
    let gone = world.path("gone").display().to_string();
    for (more, words) in [
        (format!("[registry.access]\nhtpasswd = {htpasswd:?}"), ["htpasswd, line 3", "`htpasswd -nB bob`"]),
        (format!("[registry.access]\nhtpasswd = {gone:?}"), ["cannot read", "No such file"]),
        (format!("[registry.access]\ntokens = {tokens:?}"), ["tokens, line 1", "64 hexadecimal digits"]),
        ("[registry.access]\nurl = \"farm\"".to_owned(), ["\"farm\" is not an address", "https://"]),
        ("[registry.access]\nrules = []".to_owned(), ["unknown field `rules`", "`rule`"]),
        (
            "[[registry.access.rule]]\nwho = [\"a:b\"]\nactions = [\"pull\"]".to_owned(),
            ["is not an account's name", "line"],
        ),
        (
            "[[registry.access.rule]]\nwho = [\"any\"]\nactions = [\"write\"]".to_owned(),
            ["unknown variant `write`", "`pull`, `push`, `delete`"],
        ),
        (
            "[[registry.access.rule]]\nwho = [\"any\"]\nrepositories = []\nactions = [\"pull\"]".to_owned(),
            ["access rule 1 has an empty list", "at least one"],
        ),
        (format!("[registry.tls]\ncertificate = {gone:?}\nkey = {pem:?}"), ["cannot read", "No such file"]),
        (
            format!("[registry.tls]\ncertificate = {pem:?}\nkey = {pem:?}"),
            ["junk.pem holds no certificate", "PEM"],
        ),
        (
            format!("[registry.tls]\ncertificate = {pem:?}\nkey = {pem:?}\nclient = \"required\""),
            ["client = \"required\"", "needs client-ca"],
        ),
        ("[registry.limit]\nrequests = 0".to_owned(), ["at least one request", "a second"]),
    ] {
        configure(&world, &more);
        serve(&world, "127.0.0.1:0", &[]).refused(2, &words);
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_at_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    configure(&world, "[registry.access]\n");
    drop(Serving::start(&world));
    let key = world.path("data/registry.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    serve(&world, "127.0.0.1:0", &[])
        .refused(2, &["registry.key", "its group and others may read it", "chmod g-r,o-r"]);
    world
        .run(
            "data",
            &["registry", "token", "issue", "--name", "a", "--repository", "*", "--action", "pull", "--json"],
        )
        .refused(2, &["registry.key", "others may read it"]);
}

#[test]
fn tokens_are_issued_made_and_revoked_by_the_program() {
    let world = World::new();
    let token = |words: &[&str]| world.run("data", &[&["registry", "token"], words, &["--json"]].concat());
    let issue = ["issue", "--name", "ci", "--repository", "hab/*", "--action", "push", "--expires"];
    let issued = token(&[&issue[..], &["1h"]].concat()).good().json;
    let made = token(&["new", "robot"]).good().json;
    let tokens = world.file("tokens", made["line"].as_str().unwrap());
    configure(&world, &format!("[registry.access]\ntokens = {tokens:?}\n"));
    let serving = Serving::start_with(&world, "data", &["--writable"]);
    let status = |token: &serde_json::Value, name: &str| {
        let shown = format!("Host: h\r\nAuthorization: Bearer {}\r\n", token["token"].as_str().unwrap());
        serving.ask(&format!("/v2/{name}/blobs/uploads/00"), &shown).0
    };
    // The status of an upload is only for accounts that may push.
    assert_eq!((status(&issued, "hab/x"), status(&issued, "other")), (404, 403));
    assert_eq!((status(&made, "hab/x"), status(&made, "other")), (404, 404));
    token(&["revoke", issued["id"].as_str().unwrap()]).good();
    world.file("tokens", "");
    serving.hang_up();
    eventually("the end of both", || (status(&issued, "hab/x"), status(&made, "hab/x")) == (401, 401));

    token(&["revoke", "nothing"]).refused(2, &["\"nothing\" is not a token's id"]);
    token(&[&issue[..], &["0s"]].concat()).refused(2, &["at least 1s"]);
    token(&[&issue[..], &["9999d"]].concat()).refused(2, &["at most 3650d"]);
}

/// The example of docs/OPERATE.md, on this machine.
#[test]
fn a_farm_is_served_over_tls_to_accounts_as_the_manual_says() {
    let world = World::new();
    let found = |program: &str| Command::new(program).arg("--help").output().is_ok();
    if !found("openssl") || !found("curl") {
        return hab_skip::skip(hab_skip::Lack::Program, "no openssl or no curl");
    }
    let (certificate, key) = (world.path("farm.pem"), world.path("farm.key"));
    let make = || {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args(["-days", "825", "-subj", "/CN=farm", "-addext", "subjectAltName=IP:127.0.0.1"]);
        assert!(
            openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap().status.success()
        );
    };
    make();
    let (authority, authority_key) = (world.path("clients.pem"), world.path("clients.key"));
    let (node, node_key) = (world.path("node-1.pem"), world.path("node-1.key"));
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "825"];
    let mut clients = Command::new("openssl");
    clients
        .args(new)
        .args(["-subj", "/CN=clients", "-keyout"])
        .arg(&authority_key)
        .arg("-out")
        .arg(&authority);
    let mut client = Command::new("openssl");
    client.args(new).arg("-CA").arg(&authority).arg("-CAkey").arg(&authority_key);
    client.args(["-subj", "/CN=node-1", "-extensions", "usr_cert", "-keyout"]).arg(&node_key);
    client.arg("-out").arg(&node);
    for mut openssl in [clients, client] {
        assert!(openssl.output().unwrap().status.success());
    }
    let htpasswd = secret(&world, "htpasswd", ALICE);
    configure(
        &world,
        &format!(
            "[registry.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nclient-ca = {authority:?}\n\
             [registry.access]\nhtpasswd = {htpasswd:?}\n[[registry.access.rule]]\nwho = [\"alice\", \"node-1\"]\n\
             actions = [\"pull\", \"push\"]\n"
        ),
    );
    let serving = Serving::start_with(&world, "data", &["--writable"]);
    let curl = |path: &str, words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--cacert"])
            .arg(&certificate);
        let output = curl.args(words).arg(format!("https://{}{path}", serving.address)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let alice = ["--user", "alice:correct horse"];
    assert!(curl("/v2/", &[]).ends_with("\n401"));
    assert_eq!(curl("/v2/", &alice), "{}\n200");
    let token = curl("/v2/token?scope=repository:a:pull", &alice);
    let token: serde_json::Value = serde_json::from_str(token.lines().next().unwrap()).unwrap();
    let shown = format!("Authorization: Bearer {}", token["token"].as_str().unwrap());
    assert!(curl("/v2/a/tags/list", &["--header", &shown]).ends_with("\n404"));
    assert!(curl("/v2/a/tags/list", &[]).ends_with("\n401"));
    let own = [node.display().to_string(), node_key.display().to_string()];
    assert!(curl("/v2/a/tags/list", &["--cert", &own[0], "--key", &own[1]]).ends_with("\n404"));
    // Paths beside the registry are also served over TLS, and for everybody.
    assert!(curl("/crates/config.json", &[]).starts_with("{\"dl\":\"https://127.0.0.1:"));
    assert_eq!(serving.ask("/v2/", &format!("Host: h\r\n{BASIC}")).0, 400, "plain http");
    // New connections get the new certificate.
    make();
    eventually("the new certificate", || curl("/v2/", &alice).ends_with("200"));

    let pem = certificate.display().to_string();
    let words = ["cluster", "config", "podman", "--registry", "https://farm:5000", "--ca", &pem, "--json"];
    let files = world.run("data", &words).good().json;
    let authority = files["files"]["etc/containers/certs.d/farm:5000/ca.crt"].as_str().unwrap();
    assert_eq!(authority, fs::read_to_string(&certificate).unwrap());
    let words = ["cluster", "config", "k3s", "--registry", "http://farm:5000", "--ca", &pem, "--json"];
    world.run("data", &words).refused(2, &["--ca is for an https address"]);
}
