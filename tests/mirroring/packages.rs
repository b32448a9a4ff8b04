//! The packages of a Debian archive that locks name are mirrored and served to apt.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::harness::{DATE, Serving, World, cert};
use hab_oci::Digest;

const LATER: &str = "Sun, 12 Jan 2025 10:05:31 UTC";
const IN_RELEASE: &str = "/debian/dists/stable/InRelease";

/// This machine's apt-get, with a state of its own and the mirror as its only source.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(world: &World, serving: &Serving) -> Self {
        let folder = world.path("apt");
        for sub in
            ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "got"]
        {
            fs::create_dir_all(folder.join(sub)).unwrap();
        }
        let signed = format!(
            "[signed-by={}] http://{}/debian stable main\n",
            world.path("keyring/archive.gpg").display(),
            serving.address
        );
        fs::write(folder.join("etc/sources.list"), format!("deb {signed}deb-src {signed}")).unwrap();
        fs::write(folder.join("state/status"), "").unwrap();
        // apt reads this file before the host's configuration, from which it leads away. apt must not change its user,
        // because only the owner may enter the world's folder.
        let conf = format!(
            "Dir::State \"{0}/state\"; Dir::State::status \"{0}/state/status\"; Dir::Cache \"{0}/cache\"; \
             Dir::Etc \"{0}/etc\"; APT::Sandbox::User \"root\"; APT::Architecture \"amd64\"; \
             APT::Architectures \"amd64\"; Acquire::Languages \"de\";\n",
            folder.display()
        );
        fs::write(folder.join("apt.conf"), conf).unwrap();
        Self { folder }
    }

    /// Runs apt-get; `None` if it is not installed.
    fn run(&self, words: &[&str]) -> Option<Output> {
        let output = Command::new("apt-get")
            .args(words)
            .current_dir(self.folder.join("got"))
            .env("LC_ALL", "C")
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env_remove("http_proxy")
            .output();
        if output.is_err() {
            hab_skip::skip(hab_skip::Lack::Program, "no apt-get");
        }
        output.ok()
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> bool {
        let Some(output) = self.run(words) else { return false };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("E:") && !said.contains("W:"), "{said}");
        true
    }

    fn got(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join("got").join(file)).unwrap()
    }
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap()
}

#[test]
fn apt_has_from_the_mirror_what_locks_name_when_the_archive_is_gone() {
    let world = World::new();
    let kept = world.run("data", &["mirror", "packages", "--json"]).good();
    assert_eq!((&kept.json["files"], &kept.json["crates"]), (&5.into(), &0.into()));
    assert_eq!(
        (&kept.json["suites"][0]["suite"], &kept.json["suites"][0]["indexes"]),
        (&"stable".into(), &4.into())
    );
    world.server.stop();
    let serving = Serving::start(&world);
    let apt = Apt::new(&world, &serving);
    if !apt.good(&["update"]) {
        return;
    }
    apt.good(&["download", "tools", "target"]);
    assert_eq!(apt.got("tools_1_amd64.deb"), world.server.get("pool/tools.deb").unwrap());
    apt.good(&["source", "--download-only", "hello"]);
    assert_eq!(apt.got("hello_1.0-1.dsc"), world.server.get("pool/h/hello_1.0-1.dsc").unwrap());
    // Nothing has changed: apt has the served index already, and it is not sent again.
    let again = apt.run(&["update"]).unwrap();
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && said.contains("Hit:") && !said.contains("Get:"), "{said}");
}

#[test]
fn a_suite_is_as_old_as_its_inrelease_says() {
    let world = World::new();
    world.run("data", &["mirror", "packages"]).good();
    let serving = Serving::start(&world);
    let date = DATE.replace("UTC", "GMT");
    for path in [IN_RELEASE, "/debian/dists/stable/main/binary-amd64/Packages.xz"] {
        let (status, head, _) = serving.ask(path, "Host: x\r\n");
        assert_eq!(status, 200);
        assert!(head.contains(&format!("last-modified: {}", date.to_lowercase())), "{head}");
        let asked = |date: &str| serving.ask(path, &format!("Host: x\r\nIf-Modified-Since: {date}\r\n")).0;
        assert_eq!(asked(&date), 304);
        // Any other date, older or newer, gets the whole file: a farm may have gone back.
        assert_eq!((asked(&LATER.replace("UTC", "GMT")), asked("yesterday")), (200, 200));
        let stale = format!("Host: x\r\nIf-None-Match: \"sha256:0\"\r\nIf-Modified-Since: {date}\r\n");
        assert_eq!(serving.ask(path, &stale).0, 200, "an entity tag says more than a date");
    }
    let (status, body) = serving.get("/debian/dists/trixie/InRelease");
    assert_eq!((status, text(body)), (404, "this suite is not mirrored; these are: stable\n".to_owned()));
}

#[test]
fn a_packages_index_that_changed_after_its_inrelease_is_refused_and_the_old_suite_stays_served() {
    let world = World::new();
    world.run("data", &["mirror", "packages"]).good();
    let packages = "dists/stable/main/binary-amd64/Packages.xz";
    let old = world.server.get(packages).unwrap();
    world.publish_archive_of(LATER);
    world.recipe("hello", crate::harness::GOOD);
    let new = world.server.get(packages).unwrap();
    world.server.tamper(packages);
    world.run("data", &["mirror", "packages", "--json"]).refused(
        3,
        &[
            "1 of 6 files that locks name are not kept",
            "binary-amd64/Packages.xz of stable",
            "not what the lock says",
        ],
    );
    // A build accepts the new InRelease, but apt could not use it yet.
    world.build("data", "hello").good();
    let serving = Serving::start(&world);
    assert!(text(serving.get(IN_RELEASE).1).contains(DATE));
    assert_eq!(serving.get(&format!("/debian/{packages}")).1, old);
    Apt::new(&world, &serving).good(&["update"]);

    world.server.put(packages, new.clone());
    world.run("data", &["mirror", "packages"]).good();
    assert!(text(serving.get(IN_RELEASE).1).contains(LATER));
    assert_eq!(serving.get(&format!("/debian/{packages}")).1, new);
    Apt::new(&world, &serving).good(&["update"]);
    // A client with the old InRelease still finds the files that it names.
    let by_hash = format!("/debian/dists/stable/main/binary-amd64/by-hash/SHA256/{}", Digest::of(&old).hex());
    assert_eq!(serving.get(&by_hash), (200, old));
}

#[test]
fn an_inrelease_that_was_only_seen_is_not_served_but_the_packages_of_the_locks_are() {
    let world = World::new();
    world.publish_archive_by(&cert("somebody"), DATE);
    world.recipe("hello", crate::harness::GOOD);
    world.run("data", &["mirror", "packages", "--json"]).refused(3, &["1 of 6", "InRelease of stable"]);
    let serving = Serving::start(&world);
    let (status, body) = serving.get(IN_RELEASE);
    assert_eq!((status, text(body).contains("not mirrored")), (404, true));
    let seen = Digest::of(&world.server.get("dists/stable/InRelease").unwrap());
    assert_eq!(serving.get(&format!("/debian/dists/stable/by-hash/SHA256/{}", seen.hex())).0, 404);
    assert_eq!(serving.get("/debian/pool/tools.deb"), (200, world.server.get("pool/tools.deb").unwrap()));
}

#[test]
fn one_package_that_is_other_bytes_keeps_none_of_the_others_away() {
    let world = World::new();
    world.server.tamper("pool/tools.deb");
    world
        .run("data", &["mirror", "packages", "--json"])
        .refused(3, &["1 of 6", "tools.deb", "not what the lock says"]);
    let serving = Serving::start(&world);
    assert_eq!(serving.get("/debian/pool/tools.deb").0, 404);
    assert_eq!(serving.get("/debian/pool/target.deb").0, 200);
    assert_eq!(serving.get(IN_RELEASE).0, 200);
}

#[test]
fn offline_only_says_what_is_missing() {
    let world = World::new();
    world.run("data", &["mirror", "packages", "--offline", "--json"]).refused(
        4,
        &["6 of 6 files that locks name", "is not mirrored here, and nothing is fetched offline"],
    );
    assert_eq!(world.server.requests().0, 0);
    world.run("data", &["mirror", "packages"]).good();
    let before = world.server.requests();
    world.run("data", &["mirror", "packages", "--offline"]).good();
    assert_eq!(world.server.requests(), before);
}

#[test]
fn what_a_build_fetched_is_served_by_its_path() {
    let world = World::new();
    world.build("data", "hello").good();
    let serving = Serving::start(&world);
    for path in ["pool/tools.deb", "pool/h/hello_1.0-1.dsc", "pool/h/hello_1.0.orig.tar.xz"] {
        assert_eq!(serving.get(&format!("/debian/{path}")), (200, world.server.get(path).unwrap()));
    }
}

#[test]
fn a_path_that_leads_elsewhere_is_not_found() {
    let world = World::new();
    world.run("data", &["mirror", "packages"]).good();
    let serving = Serving::start(&world);
    for path in [
        "../catalog.sqlite",
        "pool/../../catalog.sqlite",
        "pool/%2e%2e/%2e%2e/hab.toml",
        "pool/..%2f..%2fhab.toml",
        "dists/../../hab.toml",
        "dists/stable/main/binary-amd64/by-hash/SHA256/../../../InRelease",
        "dists/stable",
        "dists/",
        "/etc/passwd",
        "pool/tools.deb/",
        "pool/tools.deb%00",
    ] {
        assert_eq!(serving.get(&format!("/debian/{path}")).0, 404, "{path}");
    }
    // A package is not served as an index, even by its digest.
    let tools = Digest::of(&world.server.get("pool/tools.deb").unwrap());
    assert_eq!(serving.get(&format!("/debian/dists/stable/by-hash/SHA256/{}", tools.hex())).0, 404);
}

#[test]
fn a_file_is_asked_for_by_what_it_is_and_never_by_when_it_came() {
    let world = World::new();
    world.run("data", &["mirror", "packages"]).good();
    let serving = Serving::start(&world);
    let in_release = world.server.get("dists/stable/InRelease").unwrap();
    let tag = format!("\"{}\"", Digest::of(&in_release));
    let ask = |headers: &str| serving.ask(IN_RELEASE, &format!("Host: x\r\n{headers}\r\n"));
    assert_eq!(
        ask("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT").0,
        200,
        "it is another file than that one"
    );
    assert_eq!(ask(&format!("If-None-Match: W/\"x\", {tag}")).0, 304);
    assert_eq!(ask("If-None-Match: \"x\"").0, 200);
    assert_eq!(ask("If-None-Match: *").0, 304);
    assert_eq!(ask(&format!("If-Match: \"x\", {tag}")).0, 200);
    assert_eq!(ask("If-Match: *").0, 200);
    assert_eq!(ask("If-Match: \"x\"").0, 412);
    assert_eq!(ask(&format!("Range: bytes=5-\r\nIf-Range: {tag}")).2, in_release[5..]);
    assert_eq!(ask("Range: bytes=5-\r\nIf-Range: \"x\"").2, in_release);
}
