//! Registries and git servers that lie, redirect, and ask for others' credentials.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hab_oci::{Descriptor, Digest, media_type};

use crate::harness::{Serving, World};

/// `user:hunter2`.
const BASIC: &str = "authorization: basic dxnlcjpodw50zxiy";
const LAYER: &[u8] = b"a layer";
const SCRIPT: &[u8] = b"echo hello\n";

/// A host on loopback that answers by `answer`, and records the requests in lower case.
struct Host {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    /// Starts the host. `answer` gets the path and the whole head of a request.
    fn start(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client may hang up early.
                let _ = talk(&stream, &log, &answer);
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn talk(
    stream: &TcpStream,
    log: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str, &str) -> Vec<u8>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let head = lines.collect::<Vec<_>>().join("\n").to_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(head.clone());
    let mut out = stream;
    out.write_all(&answer(&path, &head))
}

fn say(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn manifest() -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "config": Descriptor::of(media_type::IMAGE_CONFIG, b"{}"),
        "layers": [Descriptor::of(media_type::LAYER_GZIP, LAYER)],
    })
    .to_string()
    .into_bytes()
}

fn image() -> Vec<u8> {
    say(200, &format!("Content-Type: {}\r\n", media_type::IMAGE_MANIFEST), &manifest())
}

/// A farm that pulls `up.example` through from `url`, for a user with a password; `more` is further text of its table.
struct Farm {
    world: World,
    plain: String,
}

impl Farm {
    fn new() -> Self {
        let world = World::new();
        let plain = fs::read_to_string(world.path("hab.toml")).unwrap();
        Self { world, plain }
    }

    fn serve(&self, url: &str, more: &str) -> Serving {
        let password = self.world.file("password", "hunter2\n");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let table = format!(
            "[registry.upstream.\"up.example\"]\nurl = \"{url}\"\nusername = \"user\"\npassword-file = {password:?}\n{more}\n"
        );
        self.world.file("hab.toml", format!("{}\n{table}", self.plain));
        let log = fs::File::options().create(true).append(true).open(self.world.path("log")).unwrap();
        Serving::start_saying(&self.world, "data", &["--no-sync"], Stdio::from(log))
    }

    /// Waits some seconds until the log has all of these words.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(self.world.path("log")).unwrap();
            match words.iter().find(|word| !log.contains(**word)) {
                None => return log,
                Some(word) => assert!(begun.elapsed() < Duration::from_secs(20), "no {word:?} in {log}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Pulls a path of the upstream, and returns the status and the body.
fn pull(serving: &Serving, path: &str) -> (u16, String) {
    let (status, body) = serving.get(&format!("/v2/up.example/a/b/{path}"));
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn blob() -> String {
    format!("blobs/{}", Digest::of(LAYER))
}

#[test]
fn a_redirect_to_a_host_that_asks_for_a_password_gives_it_nothing() {
    let evil = Host::start(|path, head| {
        let host = head.split("host: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let realm = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"evil\"\r\n");
        if path.starts_with("/token") { say(200, "", b"{\"token\":\"evil\"}") } else { say(401, &realm, b"") }
    });
    let location = format!("Location: {}/blob?signature=secret\r\n", evil.url());
    let upstream = Host::start(move |path, head| match path {
        _ if !head.contains(BASIC) => say(401, "WWW-Authenticate: Basic realm=\"r\"\r\n", b""),
        "/v2/" => say(200, "", b"{}"),
        path if path.contains("/blobs/") => say(307, &location, b""),
        _ => image(),
    });
    let farm = Farm::new();
    let serving = farm.serve(&upstream.url(), &format!("inner = [\"{}\"]", evil.url()));
    assert_eq!(pull(&serving, "manifests/v1").0, 200);
    for _ in 0..2 {
        let (status, said) = pull(&serving, &blob());
        assert_eq!(status, 502, "{said}");
        assert!(said.contains("up.example") && said.contains("answers 401"), "{said}");
    }
    let asked = evil.asked();
    assert!(!asked.is_empty() && asked.iter().all(|head| head.starts_with("get /blob")), "{asked:?}");
    assert!(
        asked.iter().all(|head| !head.contains("authorization") && !head.contains("hunter2")),
        "{asked:?}"
    );
    let log = farm.says(&[&evil.url(), "401"]);
    assert!(!log.contains("hunter2") && !log.contains("signature"), "{log}");
}

#[test]
fn a_redirect_that_leads_in_and_a_realm_that_leads_in_reach_nobody() {
    let metadata = Host::start(|_, _| say(200, "", b"{\"access_token\":\"INTERNAL\",\"expires_in\":3600}"));
    let port = metadata.address.port();
    let upstream = Host::start(move |path, head| match path {
        path if path.starts_with("/v2/a/b/manifests/v1") => image(),
        path if path.contains("/blobs/") => {
            say(307, &format!("Location: http://localhost:{port}/latest?x=secret\r\n"), b"")
        }
        _ if head.contains("authorization: bearer") => say(404, "", b""),
        _ => {
            let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/computeMetadata/v1/token\"");
            say(401, &format!("WWW-Authenticate: {realm}\r\n"), b"")
        }
    });
    let farm = Farm::new();
    let serving = farm.serve(&upstream.url(), "");
    assert_eq!(pull(&serving, "manifests/v1").0, 200);
    for (path, words) in [(blob(), "not followed"), ("manifests/v2".to_owned(), "names the token service")] {
        let (status, said) = pull(&serving, &path);
        assert!(status == 502 && said.contains(words) && !said.contains("secret"), "{status} {said}");
    }
    assert_eq!(metadata.asked(), [] as [String; 0]);
    assert!(upstream.asked().iter().all(|head| !head.contains("authorization")), "{:?}", upstream.asked());
    farm.says(&["warning: upstream up.example: ", "only this machine or its network can reach"]);
}

#[test]
fn the_token_service_that_was_named_first_is_shown_and_stays_over_a_restart() {
    let other = Host::start(|_, _| say(200, "", b"{\"token\":\"t\"}"));
    let realm = Arc::new(Mutex::new(None::<String>));
    let named = Arc::clone(&realm);
    let upstream = Host::start(move |path, head| {
        let host = head.split("host: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let own = format!("http://{host}");
        let realm = named.lock().unwrap().clone().unwrap_or(own);
        match path {
            path if path.starts_with("/token") => say(200, "", b"{\"token\":\"t\"}"),
            "/v2/" if head.contains("bearer t") => say(200, "", b"{}"),
            _ if head.contains("bearer t") => image(),
            _ => say(401, &format!("WWW-Authenticate: Bearer realm=\"{realm}/token\"\r\n"), b""),
        }
    });
    let farm = Farm::new();
    let serving = farm.serve(&upstream.url(), "");
    assert_eq!(pull(&serving, "manifests/v1").0, 200);
    farm.says(&[&format!("upstream up.example names the token service {}", upstream.url())]);
    drop(serving);
    *realm.lock().unwrap() = Some(other.url());
    let serving = farm.serve(&upstream.url(), "");
    let (status, said) = pull(&serving, "manifests/v2");
    assert!(status == 502 && said.contains("the first time it named"), "{status} {said}");
    assert!(other.asked().is_empty());
    drop(serving);
    let serving = farm.serve(&upstream.url(), &format!("token-service = \"{}\"", other.url()));
    assert_eq!(pull(&serving, "manifests/v2").0, 200);
    assert!(other.asked().iter().all(|head| head.contains(BASIC)), "{:?}", other.asked());
}

#[test]
fn what_is_wrong_with_an_upstream_is_in_the_log_and_clients_hear_502_without_its_address() {
    let locked = Host::start(|_, _| say(401, "WWW-Authenticate: Basic realm=\"r\"\r\n", b""));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (url, words) in [
        (locked.url(), "does not let the configured user in"),
        (format!("http://{nobody}"), "it refuses connections"),
    ] {
        let farm = Farm::new();
        let serving = farm.serve(&url, "");
        // The farm serves all the same, and warns at start.
        assert_eq!(serving.get("/v2/").0, 200);
        farm.says(&["warning: upstream up.example: ", words, &url]);
        let (status, said) = pull(&serving, "manifests/v1");
        assert_eq!(status, 502, "{said}");
        assert!(said.contains("upstream up.example") && said.contains(words), "{said}");
        let host = url.trim_start_matches("http://");
        assert!(!said.contains(host) && !said.contains("hunter2"), "{said}");
        let log = farm.says(&["a request failed", "cannot fetch from upstream up.example", &url]);
        assert!(!log.contains("hunter2"), "{log}");
    }
}

/// A world whose project `tool` has a plain file at `url`.
fn with_file(url: &str) -> World {
    let world = World::new();
    let project = format!(
        "urls = [\"https://h.invalid/tool.git\"]\n[[file]]\nname = \"install.sh\"\nurls = [\"{url}\"]\nsha256 = \"{}\"\n",
        Digest::of(SCRIPT).hex()
    );
    world.file("data/projects/tool.toml", project);
    world
}

#[test]
fn a_mirrored_files_redirect_reaches_no_inner_host_unless_the_operator_named_it() {
    let inner = Host::start(|_, _| say(200, "", SCRIPT));
    let location = format!("Location: {}/install.sh\r\n", inner.url());
    let leading = Host::start(move |_, _| say(302, &location, b""));
    let world = with_file(&format!("{}/install.sh", leading.url().replace("http://", "http://me:hunter2@")));
    let outcome = world.run("data", &["mirror", "files", "tool", "--json"]);
    outcome.refused(4, &["install.sh", "not followed", "only this machine or its network can reach"]);
    assert!(inner.asked().is_empty());
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    let named = format!("[mirror]\ninner = [\"{}\"]\n", inner.url());
    world.file("hab.toml", config.replace("[mirror]\n", &named));
    world.run("data", &["mirror", "files", "tool"]).good();
    let asked = inner.asked();
    assert!(asked.len() == 1 && !asked[0].contains("authorization"), "{asked:?}");
    assert!(
        leading.asked().iter().all(|head| head.contains("authorization")),
        "a user of the operator's own"
    );
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
}

#[test]
fn an_encoded_document_is_refused_and_a_file_with_a_digest_is_what_its_digest_says() {
    let encoded = Host::start(|_, _| say(200, "Content-Encoding: x-gzip\r\n", SCRIPT));
    let world = with_file(&format!("{}/install.sh", encoded.url()));
    world.run("data", &["mirror", "files", "tool"]).good();
    assert!(encoded.asked().iter().all(|head| head.contains("accept-encoding: identity")));
    // The digest of an archive's index is not known beforehand.
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", config.replace(&world.server.address(), &encoded.url()));
    let outcome = world.build("data", "hello");
    outcome.refused(4, &["encoded as \"x-gzip\""]);
}

#[test]
fn a_proxy_of_the_environment_counts_for_files_and_not_for_registries() {
    let proxy = Host::start(|path, _| match path {
        "http://files.invalid/install.sh" => say(200, "", SCRIPT),
        _ => say(502, "", b""),
    });
    let world = with_file("http://files.invalid/install.sh");
    let run = |variable: &str, value: &str| {
        let mut command = world.command("data", &["mirror", "files", "tool"]);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env_remove("no_proxy").env_remove("NO_PROXY").env(variable, value);
        crate::harness::Outcome::of(&command.output().unwrap())
    };
    // A proxy of an unsupported kind is an error: the user does not want direct connections.
    let kind = run("all_proxy", &proxy.url().replace("http:", "socks5:"));
    kind.refused(4, &["install.sh", "proxy"]);
    assert!(proxy.asked().is_empty());
    run("http_proxy", &proxy.url()).good();
    assert_eq!(proxy.asked().len(), 1);
}
