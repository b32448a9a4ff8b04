//! Hostile clients of the registry and the mirror.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use hab_oci::{Digest, media_type};

use crate::harness::{Serving, World};

/// `htpasswd -nbB alice 'correct horse'`, and the same password with another salt.
const ALICE: &str = "alice:$2y$05$Jw/cgHmtLymPTPGQMyTT6uA3qSeskq3I51sJecJsPg05BdCsBOEXi\n";
const ALICE_ANEW: &str = "alice:$2b$05$jBClbKhkq0sYPGCzEC/DQe7ldR67rQhP.1LuqURKOtIEqcknKV6rG\n";
const BASIC: &str = "Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==\r\n";

/// Appends `more` to the world's configuration.
fn configure(world: &World, more: &str) {
    world.write_config_with(&[]);
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{config}\n{more}"));
}

/// Writes a file that only its owner may read.
fn secret(world: &World, name: &str, text: &str) -> String {
    let path = world.file(name, text);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn serve(world: &World) -> crate::harness::Outcome {
    world.run("data", &["serve", "--json", "--listen", "127.0.0.1:0"])
}

/// (status, body) of a request; of a body that was cut off, the part that came. (0, nothing) if the connection was cut
/// off before the answer began, as may happen when an upstream's bytes are wrong.
fn send(serving: &Serving, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(&serving.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n");
    stream.write_all(&[head.as_bytes(), b"Connection: close\r\n\r\n", body].concat()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return (0, Vec::new()) };
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[at + 4..].to_vec())
}

fn eventually(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn whoever_writes_a_manifest_upstream_gets_no_private_bytes_by_naming_them() {
    let world = World::new();
    let private = b"what only alice may read, ".repeat(4000);
    let digest = Digest::of(&private);
    let named = format!(
        "{{\"mediaType\":\"{}\",\"digest\":\"{digest}\",\"size\":{}}}",
        media_type::LAYER_GZIP,
        private.len()
    );
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"config\":{},\"layers\":[{named}]}}",
        media_type::IMAGE_MANIFEST,
        named.replace(media_type::LAYER_GZIP, media_type::IMAGE_CONFIG)
    );
    world.server.put("v2/x/manifests/v1", manifest.into_bytes());
    // The second repository even answers, but with other bytes of the same length.
    world.server.put("v2/y/manifests/v1", world.server.get("v2/x/manifests/v1").unwrap());
    world.server.put(&format!("v2/y/blobs/{digest}"), vec![b'x'; private.len()]);
    let htpasswd = secret(&world, "htpasswd", ALICE);
    configure(
        &world,
        &format!(
            "[registry.access]\nhtpasswd = {htpasswd:?}\n\
             [[registry.access.rule]]\nwho = [\"alice\"]\nactions = [\"pull\", \"push\"]\n\
             [[registry.access.rule]]\nwho = [\"anonymous\"]\nrepositories = [\"evil.example/*\"]\nactions = [\"pull\"]\n\
             [registry.upstream.\"evil.example\"]\nurl = {:?}\n",
            world.server.address()
        ),
    );
    let serving = Serving::start_with(&world, "data", &["--writable"]);
    let push = format!("/v2/private/blobs/uploads/?digest={digest}");
    assert_eq!(send(&serving, "POST", &push, BASIC, &private).0, 201);
    assert_eq!(send(&serving, "GET", &format!("/v2/private/blobs/{digest}"), BASIC, b"").1, private);
    for name in ["x", "y"] {
        assert_eq!(serving.get(&format!("/v2/evil.example/{name}/manifests/v1")).0, 200);
        let blob = format!("/v2/evil.example/{name}/blobs/{digest}");
        for method in ["HEAD", "GET", "GET"] {
            let (status, body) = send(&serving, method, &blob, "", b"");
            assert!(name == "y" || status == 404, "{method}: {status}");
            assert!(
                !body.windows(20).any(|some| some == &private[..20]),
                "{method} {name}: a byte of it came"
            );
        }
    }
    assert_eq!(serving.get(&format!("/v2/private/blobs/{digest}")).0, 401);
}

#[test]
fn a_new_password_ends_the_tokens_that_the_old_one_was_exchanged_for() {
    let world = World::new();
    let htpasswd = secret(&world, "htpasswd", ALICE);
    configure(
        &world,
        &format!(
            "[registry.access]\nhtpasswd = {htpasswd:?}\n[[registry.access.rule]]\nwho = [\"alice\"]\nactions = [\"pull\"]\n"
        ),
    );
    let serving = Serving::start_with(&world, "data", &[]);
    let token = || {
        let (status, body) = send(&serving, "GET", "/v2/token?scope=repository:a:pull", BASIC, b"");
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        format!("Authorization: Bearer {}\r\n", body["token"].as_str().unwrap())
    };
    let old = token();
    let status = |shown: &str| send(&serving, "GET", "/v2/a/tags/list", shown, b"").0;
    assert_eq!(status(&old), 404);
    secret(&world, "htpasswd", ALICE_ANEW);
    serving.hang_up();
    eventually("the end of the old token", || status(&old) == 401);
    assert_eq!(status(&token()), 404);
    // Without the account nothing is allowed.
    let new = token();
    secret(&world, "htpasswd", "");
    serving.hang_up();
    eventually("the end of the account", || status(&new) == 401);
    assert_eq!(status(BASIC), 401);
}

#[test]
fn files_of_passwords_tokens_and_keys_that_others_may_write_are_refused_at_start_with_what_mends_them() {
    let world = World::new();
    let (htpasswd, tokens) = (secret(&world, "htpasswd", ALICE), world.file("tokens", ""));
    let password = secret(&world, "up.password", "hunter2\n");
    let (pem, key) = (world.file("farm.pem", "junk"), secret(&world, "farm.key", "junk"));
    let access = format!("[registry.access]\nhtpasswd = {htpasswd:?}\ntokens = {tokens:?}\n");
    let upstream = format!(
        "[registry.upstream.\"up.example\"]\nurl = \"https://up.example\"\nusername = \"u\"\npassword-file = {password:?}\n"
    );
    let tls = format!("[registry.tls]\ncertificate = {pem:?}\nkey = {key:?}\n");
    for (more, file, mode, said) in [
        (&access, "htpasswd", 0o666, "its group and others may read and write it"),
        (&access, "htpasswd", 0o644, "others may read it"),
        (&access, "tokens", 0o664, "its group may write it"),
        (&upstream, "up.password", 0o604, "others may read it"),
        (&upstream, "up.password", 0o620, "its group may write it"),
        (&tls, "farm.pem", 0o646, "others may write it"),
    ] {
        let path = world.path(file);
        let was = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        configure(&world, more);
        serve(&world)
            .refused(2, &["refuse to read", file, said, "mend it with `chmod ", &path.display().to_string()]);
        fs::set_permissions(&path, was).unwrap();
    }
    // A user who may write the folder may replace the file in it.
    let folder = world.path("etc");
    fs::create_dir(&folder).unwrap();
    let inside = secret(&world, "etc/htpasswd", ALICE);
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    configure(&world, &format!("[registry.access]\nhtpasswd = {inside:?}\n"));
    serve(&world).refused(2, &["etc leads to it", "others may write it (mode 0777)", "chmod g-w,o-w"]);
    // A pipe without a writer is not waited for.
    let pipe = world.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    configure(&world, &format!("[registry.access]\nhtpasswd = {pipe:?}\n"));
    serve(&world).refused(2, &["pipe", "not a regular file"]);
}

#[test]
fn a_revocation_list_without_an_authority_or_that_is_none_is_refused_at_start() {
    let world = World::new();
    let pem = world.file("farm.pem", "junk");
    let tls = format!("[registry.tls]\ncertificate = {pem:?}\nkey = {pem:?}\n");
    for (more, words) in [
        (format!("client-crl = {pem:?}"), ["client-crl needs client-ca", "vouches"]),
        (format!("client-crl = [{pem:?}, {pem:?}]"), ["client-crl needs client-ca", "vouches"]),
    ] {
        configure(&world, &format!("{tls}{more}\n"));
        serve(&world).refused(2, &words);
    }
}
