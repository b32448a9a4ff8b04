//! The same programs over TLS, by people and machines that have an account.

use std::fs;
use std::process::Command;

use hab_registry::{Access, AccessConfig, ClientCertificates, ServiceLimits, TlsConfig};

use crate::harness::programs::{Containerd, Desk, needs, run, succeeds, write_layout};
use crate::harness::secure::{Authority, Files};
use crate::harness::{Server, Setup};

/// A server over TLS where alice may do everything, bob and the certificate node-1 may read `team/*`, everybody `open/*`,
/// and ci pushes with a token. An image is at hand.
struct World {
    desk: Desk,
    server: Server,
    files: Files,
    token: String,
}

impl World {
    fn new() -> Self {
        let (files, desk) = (Files::new(), Desk::new());
        write_layout(&desk.path("layout"));
        let authority = Authority::new("authority");
        let rules = [
            ("alice", "*", "pull push delete"),
            ("ci", "team/*", "pull push"),
            ("bob node-1", "team/*", "pull"),
            ("anonymous", "open/*", "pull"),
        ];
        let token = files.tokens(&["ci"]).remove(0);
        let tokens = Some(files.path("tokens"));
        let access = AccessConfig { tokens, ..files.access(&["alice", "bob"], &rules) };
        let tls = files.tls(&authority);
        let client_ca = Some(files.write("clients.pem", authority.pem()));
        let tls = TlsConfig { client_ca, client: ClientCertificates::Optional, ..tls };
        let setup = Setup { access: Some(access), tls: Some(tls), ..Setup::default() };
        let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
        // What programs of this kind believe is in a folder; one more has a certificate of its own.
        for folder in ["certs", "node-certs"] {
            fs::create_dir(desk.path(folder)).unwrap();
            fs::write(desk.path(folder).join("ca.crt"), authority.pem()).unwrap();
        }
        let (certificate, key) = authority.vouch("node-1", None);
        fs::write(desk.path("node-certs/client.cert"), certificate).unwrap();
        fs::write(desk.path("node-certs/client.key"), key).unwrap();
        Self { desk, server, files, token }
    }

    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.server.address)
    }

    /// `PROGRAM login`, as `who` with the password that the files have for them, or another.
    fn login(&self, program: &str, who: &str, password: &str) -> Command {
        let mut login = if program == "podman" {
            self.desk.podman("login")
        } else {
            let mut skopeo = self.desk.command(program);
            skopeo.arg("login");
            skopeo
        };
        login.arg("--cert-dir").arg(self.desk.path("certs"));
        login.arg("--authfile").arg(self.desk.path(who)).args(["-u", who, "-p", password]);
        login.arg(self.server.address.to_string());
        login
    }

    /// `skopeo copy` of the image at hand.
    fn push(&self, who: &str, repository: &str) -> Command {
        let mut copy = self.desk.command("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--authfile"]).arg(self.desk.path(who));
        copy.arg("--dest-cert-dir").arg(self.desk.path("certs"));
        copy.arg(format!("oci:{}:v1", self.desk.path("layout").display()));
        copy.arg(format!("docker://{}:v1", self.name(repository)));
        copy
    }

    /// `skopeo inspect`, perhaps as somebody.
    fn inspect(&self, who: Option<&str>, certs: &str, repository: &str) -> Command {
        let mut inspect = self.desk.command("skopeo");
        inspect.arg("inspect").arg("--raw").arg("--cert-dir").arg(self.desk.path(certs));
        match who {
            Some(who) => inspect.arg("--authfile").arg(self.desk.path(who)),
            None => inspect.arg("--no-creds"),
        };
        inspect.arg(format!("docker://{}:v1", self.name(repository)));
        inspect
    }
}

/// It failed, and said so.
fn fails(command: Command, words: &[&str]) {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success() && words.iter().any(|word| said.contains(word)), "{said}");
}

#[test]
fn skopeo_logs_in_and_does_what_its_account_may() {
    if needs("skopeo").is_none() {
        return;
    }
    let world = World::new();
    fails(world.login("skopeo", "alice", "wrong"), &["invalid username/password", "unauthorized"]);
    succeeds(world.login("skopeo", "alice", "alice's"));
    succeeds(world.login("skopeo", "bob", "bob's"));
    succeeds(world.login("skopeo", "ci", &world.token));
    for repository in ["team/hello", "open/hello", "secret/hello"] {
        succeeds(world.push("alice", repository));
    }
    succeeds(world.push("ci", "team/again"));
    fails(world.push("bob", "team/hello"), &["denied"]);
    fails(world.push("ci", "open/hello"), &["denied"]);
    succeeds(world.inspect(Some("bob"), "certs", "team/hello"));
    fails(world.inspect(Some("bob"), "certs", "secret/hello"), &["denied"]);
    // Without an account, and with a certificate instead of one.
    succeeds(world.inspect(None, "certs", "open/hello"));
    fails(world.inspect(None, "certs", "team/hello"), &["unauthorized", "authentication required"]);
    succeeds(world.inspect(None, "node-certs", "team/hello"));
    fails(world.inspect(None, "node-certs", "secret/hello"), &["denied"]);
    for (who, works) in [("bob", false), ("alice", true)] {
        let mut delete = world.desk.command("skopeo");
        delete.arg("delete").arg("--cert-dir").arg(world.desk.path("certs"));
        delete.arg("--authfile").arg(world.desk.path(who));
        delete.arg(format!("docker://{}:v1", world.name("team/hello")));
        assert_eq!(run(delete).status.success(), works, "{who}");
    }
    fails(world.inspect(Some("alice"), "certs", "team/hello"), &["manifest unknown", "has no manifest"]);
}

#[test]
fn podman_logs_in_pulls_and_pushes() {
    if needs("podman").and_then(|()| needs("skopeo")).is_none() {
        return;
    }
    let world = World::new();
    succeeds(world.login("skopeo", "alice", "alice's"));
    succeeds(world.push("alice", "team/hello"));
    fails(world.login("podman", "ci", "wrong"), &["invalid username/password", "unauthorized"]);
    succeeds(world.login("podman", "ci", &world.token));
    succeeds(world.login("podman", "bob", "bob's"));
    let podman = |word: &str, who: &str| {
        let mut podman = world.desk.podman(word);
        podman.arg("--cert-dir").arg(world.desk.path("certs"));
        podman.arg("--authfile").arg(world.desk.path(who));
        podman
    };
    let image = format!("{}:v1", world.name("team/hello"));
    let mut pull = podman("pull", "ci");
    pull.arg(&image);
    succeeds(pull);
    let push = |who: &str, repository: &str| {
        let mut push = podman("push", who);
        push.arg(&image).arg(format!("docker://{}:v2", world.name(repository)));
        push
    };
    succeeds(push("ci", "team/by-podman"));
    fails(push("bob", "team/by-podman"), &["denied"]);
    succeeds(world.inspect(Some("alice"), "certs", "team/hello"));
}

#[test]
fn containerd_pulls_and_pushes_with_a_name_and_a_password() {
    let world = World::new();
    if needs("skopeo").is_none() {
        return;
    }
    let Some(containerd) = Containerd::start(&world.desk) else { return };
    succeeds(world.login("skopeo", "alice", "alice's"));
    for repository in ["team/hello", "open/hello"] {
        succeeds(world.push("alice", repository));
    }
    let address = world.server.address;
    let hosts = world.desk.path("hosts").join(address.to_string());
    fs::create_dir_all(&hosts).unwrap();
    let authority = world.files.path("ca.pem");
    let text = format!(
        "server = \"https://{address}\"\n[host.\"https://{address}\"]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  ca = {authority:?}\n"
    );
    fs::write(hosts.join("hosts.toml"), text).unwrap();
    let ctr = |word: &str, who: Option<&str>| {
        let mut ctr = containerd.images(word);
        ctr.arg("--hosts-dir").arg(world.desk.path("hosts"));
        if let Some(who) = who {
            ctr.args(["-u", who]);
        }
        ctr
    };
    let pull = |who: Option<&str>, repository: &str| {
        let mut pull = ctr("pull", who);
        pull.args(["--all-platforms", "--snapshotter", "native"]);
        pull.arg(format!("{}:v1", world.name(repository)));
        pull
    };
    succeeds(pull(None, "open/hello"));
    fails(pull(None, "team/hello"), &["authorization failed", "unauthorized"]);
    fails(pull(Some("bob:wrong"), "team/hello"), &["401", "unauthorized"]);
    succeeds(pull(Some("bob:bob's"), "team/hello"));
    let push = |who: &str, repository: &str| {
        let mut push = ctr("push", Some(who));
        push.arg(format!("{}:v2", world.name(repository))).arg(format!("{}:v1", world.name("team/hello")));
        push
    };
    fails(push("bob:bob's", "team/pushed"), &["403", "denied"]);
    succeeds(push(&format!("ci:{}", world.token), "team/pushed"));
    let mut again = ctr("pull", Some("alice:alice's"));
    again.args(["--snapshotter", "native"]).arg(format!("{}:v2", world.name("team/pushed")));
    succeeds(again);
}

#[test]
fn curl_is_known_by_its_certificate() {
    if needs("curl").is_none() {
        return;
    }
    let world = World::new();
    let status = |own: bool, path: &str| {
        let mut curl = world.desk.command("curl");
        curl.args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        curl.arg("--cacert").arg(world.files.path("ca.pem"));
        if own {
            curl.arg("--cert").arg(world.desk.path("node-certs/client.cert"));
            curl.arg("--key").arg(world.desk.path("node-certs/client.key"));
        }
        curl.arg(format!("https://{}{path}", world.server.address));
        succeeds(curl)
    };
    assert_eq!(status(true, "/v2/"), "200");
    assert_eq!(status(true, "/v2/team/hello/tags/list"), "404");
    assert_eq!(status(true, "/v2/secret/tags/list"), "403");
    assert_eq!(status(false, "/v2/"), "401");
}
