//! The crates that a Cargo.lock names are mirrored and served to cargo.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::harness::{Serving, World};
use hab_oci::Digest;
use serde_json::Value;

/// Name, version, and further fields of the index line and the manifest.
const CRATES: &[(&str, &str, &str, &str)] = &[
    // Its index prefix is `dl`, which is also the name of the folder of files.
    ("dlib", "0.5.2+x.1", "\"links\":\"dl\",\"yanked\":true", "links = \"dl\"\n"),
    ("Under_Score", "1.0.0-rc.1", "\"yanked\":false,\"v\":2,\"features2\":{\"deep\":[]}", ""),
    ("abc", "3.1.4", "\"yanked\":false,\"rust_version\":\"1.60\"", ""),
];

/// An upstream registry with these crates, and a project that uses them, locked by cargo itself.
fn project(world: &World) -> PathBuf {
    let server = &world.server;
    server.put("config.json", format!("{{\"dl\":\"{}/files\"}}", server.address()).into_bytes());
    for (name, version, says, manifest) in CRATES {
        let bytes = packed(name, version, manifest);
        let line = line(name, version, &Digest::of(&bytes), &says.replace("true", "false"));
        // Other versions and lines of an unknown format must be ignored.
        let older = line.replacen(version, "0.0.1", 1);
        server.put(&entry(name), format!("{older}\n{{\"new\":\"format\"}}\n{line}\n").into_bytes());
        server.put(&format!("files/{name}/{version}/download"), bytes);
    }
    world.file(
        "project/Cargo.toml",
        "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ndlib = \"0.5.2\"\n\
         Under_Score = \"=1.0.0-rc.1\"\nabc = \"3.1.4\"\n",
    );
    world.file("project/src/lib.rs", "");
    cargo(world, "upstream", &format!("{}/", server.address()), "generate-lockfile").good();
    for (name, version, says, _) in CRATES {
        let bytes = server.get(&format!("files/{name}/{version}/download")).unwrap();
        let old = String::from_utf8(server.get(&entry(name)).unwrap()).unwrap();
        // A version that was yanked after the lock is still the one that the lock names.
        let (rest, _) = old.trim_end().rsplit_once('\n').unwrap();
        let line = line(name, version, &Digest::of(&bytes), says);
        server.put(&entry(name), format!("{rest}\n{line}\n").into_bytes());
    }
    world.path("project/Cargo.lock")
}

fn line(name: &str, version: &str, digest: &Digest, says: &str) -> String {
    format!(
        "{{\"name\":\"{name}\",\"vers\":\"{version}\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},{says}}}",
        digest.hex()
    )
}

fn entry(name: &str) -> String {
    let name = name.to_lowercase();
    if name.len() == 3 {
        format!("3/{}/{name}", &name[..1])
    } else {
        format!("{}/{}/{name}", &name[..2], &name[2..4])
    }
}

fn packed(name: &str, version: &str, manifest: &str) -> Vec<u8> {
    let text =
        format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{manifest}");
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in [("Cargo.toml", text.as_str()), ("src/lib.rs", ""), ("build.rs", "fn main() {}")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("{name}-{version}/{path}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// cargo with a home of its own, whose only registry is the one at `index`.
struct Cargo(Output);

fn cargo(world: &World, home: &str, index: &str, command: &str) -> Cargo {
    world.file(
        &format!("{home}/config.toml"),
        format!(
            "[source.crates-io]\nreplace-with = \"farm\"\n[source.farm]\nregistry = \"sparse+{index}\"\n"
        ),
    );
    let output = Command::new(env!("CARGO"))
        .args(command.split(' '))
        .current_dir(world.path("project"))
        .env("CARGO_HOME", world.path(home))
        .env_remove("http_proxy")
        .output();
    Cargo(output.unwrap())
}

impl Cargo {
    #[track_caller]
    fn good(self) {
        assert!(self.0.status.success(), "{}", String::from_utf8_lossy(&self.0.stderr));
    }
}

fn mirror(world: &World, lock: &std::path::Path) -> crate::harness::Outcome {
    world.run("data", &["mirror", "crates", lock.to_str().unwrap(), "--json"])
}

#[test]
fn cargo_fetches_what_a_lock_names_when_the_registry_is_gone() {
    let world = World::new();
    let lock = project(&world);
    let kept = mirror(&world, &lock).good();
    assert_eq!(kept.json["crates"], 3);
    let upstream = String::from_utf8(world.server.get(&entry("dlib")).unwrap()).unwrap();
    world.server.stop();
    let serving = Serving::start(&world);
    let index = format!("http://{}/crates/", serving.address);
    cargo(&world, "home", &index, "fetch --locked").good();
    let got = crate::harness::files_below(&world.path("home/registry/cache"));
    assert_eq!(got.len(), CRATES.len());
    // The served line is upstream's line of this version to the byte, and there is no other.
    let served = String::from_utf8(serving.get("/crates/dl/ib/dlib").1).unwrap();
    assert_eq!(served.lines().collect::<Vec<_>>(), [upstream.lines().last().unwrap()]);
    // Mirrored crates are not asked for again.
    mirror(&world, &lock).good();
    let offline = ["mirror", "crates", lock.to_str().unwrap(), "--offline"];
    world.run("data", &offline).good();
}

#[test]
fn an_index_line_with_another_checksum_is_refused() {
    let world = World::new();
    let lock = project(&world);
    let other = Digest::of(b"other");
    let text = line("abc", "3.1.4", &other, "\"yanked\":false");
    world.server.put(&entry("abc"), text.into_bytes());
    mirror(&world, &lock).refused(
        3,
        &["1 of 3 files that locks name are not kept", "the index entry of crate abc 3.1.4", other.hex()],
    );
    let serving = Serving::start(&world);
    assert_eq!(serving.get("/crates/3/a/abc").0, 404);
    assert_eq!(serving.get("/crates/dl/abc/3.1.4/download").0, 404);
    assert_eq!(serving.get("/crates/un/de/under_score").0, 200);
}

#[test]
fn a_crate_that_is_other_bytes_is_refused_and_its_line_is_not_served() {
    let world = World::new();
    let lock = project(&world);
    world.server.tamper("files/abc/3.1.4/download");
    mirror(&world, &lock).refused(3, &["1 of 3", "abc-3.1.4.crate", "not what the lock says"]);
    let serving = Serving::start(&world);
    assert_eq!(serving.get("/crates/3/a/abc").0, 404);
    assert_eq!(serving.get("/crates/dl/abc/3.1.4/download").0, 404);
}

#[test]
fn a_version_that_the_index_does_not_know_and_a_registry_that_is_gone_are_told_apart() {
    let world = World::new();
    let lock = project(&world);
    let older = line("abc", "3.1.3", &Digest::of(b""), "\"yanked\":false");
    world.server.put(&entry("abc"), older.into_bytes());
    mirror(&world, &lock).refused(4, &["version 3.1.4 of crate abc is not known to the crates index"]);
    world.server.stop();
    mirror(&world, &lock).refused(4, &["1 of 3", "could not be fetched"]);
}

#[test]
fn a_lock_that_names_no_crate_as_it_should_is_refused_before_anything_is_fetched() {
    let world = World::new();
    let lock = project(&world);
    let good = fs::read_to_string(&lock).unwrap();
    let before = world.server.requests();
    for (from, to, words) in [
        ("name = \"abc\"", "name = \"../abc\"", "crate \"../abc\" is not a crate's name"),
        ("version = \"3.1.4\"", "version = \"3.1.4/../..\"", "is not a version"),
        ("checksum = \"", "checksum = \"zz", "the checksum of"),
        ("version = 4", "version = 99", "version 99 is not read"),
    ] {
        fs::write(&lock, good.replacen(from, to, 1)).unwrap();
        mirror(&world, &lock).refused(2, &["Cargo.lock: ", words]);
    }
    fs::write(&lock, [0xff, 0xfe]).unwrap();
    mirror(&world, &lock).refused(2, &["Cargo.lock: "]);
    mirror(&world, &world.path("nothing")).refused(2, &["nothing: "]);
    assert_eq!(world.server.requests(), before);
}

#[test]
fn two_locks_that_name_one_version_differently_cannot_both_be_right() {
    let world = World::new();
    let lock = project(&world);
    mirror(&world, &lock).good();
    let good = fs::read_to_string(&lock).unwrap();
    let [abc, dlib] = [("abc", "3.1.4"), ("dlib", "0.5.2+x.1")].map(|(name, version)| {
        Digest::of(&world.server.get(&format!("files/{name}/{version}/download")).unwrap())
    });
    // The other digest is stored too, but as another crate's.
    fs::write(&lock, good.replace(abc.hex(), dlib.hex())).unwrap();
    mirror(&world, &lock).refused(3, &["the index entry of crate abc 3.1.4", "not what the lock says"]);
    let serving = Serving::start(&world);
    assert_eq!(Digest::of(&serving.get("/crates/dl/abc/3.1.4/download").1), abc);
}

#[test]
fn the_crate_of_a_recipe_is_served_too() {
    let world = World::new();
    world.crate_recipe("tiny-node", crate::harness::GOOD);
    let bytes = world.server.get("dl/tiny/1.2.3.crate").unwrap();
    let text = line("tiny", "1.2.3", &Digest::of(&bytes), "\"yanked\":false");
    world.server.put("ti/ny/tiny", text.clone().into_bytes());
    let kept = world.run("data", &["mirror", "packages", "--json"]).good();
    assert_eq!(kept.json["crates"], 1);
    let serving = Serving::start(&world);
    assert_eq!(serving.get("/crates/ti/ny/tiny"), (200, format!("{text}\n").into_bytes()));
    assert_eq!(serving.get("/crates/dl/tiny/1.2.3/download"), (200, bytes));
}

#[test]
fn an_entry_is_answered_only_where_it_has_changed() {
    let world = World::new();
    mirror(&world, &project(&world)).good();
    let serving = Serving::start(&world);
    let (status, head, body) = serving.ask("/crates/3/a/abc", "Host: x\r\n");
    let tag = format!("\"{}\"", Digest::of(&body));
    assert_eq!((status, head.contains(&format!("etag: {tag}"))), (200, true), "{head}");
    let with = |tag: &str| serving.ask("/crates/3/a/abc", &format!("Host: x\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!((with(&tag).0, with(&tag).2.len()), (304, 0));
    assert_eq!(with("\"sha256:0\"").0, 200);
}

#[test]
fn the_configuration_says_the_address_that_the_client_used_and_takes_no_other_words() {
    let world = World::new();
    let serving = Serving::start(&world);
    let dl = |headers: &str| {
        let (status, _, body) = serving.ask("/crates/config.json", headers);
        let json = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        (status, json["dl"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(dl("Host: farm.invalid:5000\r\n"), (200, "http://farm.invalid:5000/crates/dl".to_owned()));
    assert_eq!(dl("Host: [::1]:80\r\n").1, "http://[::1]:80/crates/dl");
    let behind = "Host: farm.invalid\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(
        dl(behind).1,
        "http://farm.invalid/crates/dl",
        "only a proxy that is named may say so: tests/serving/front.rs"
    );
    for host in ["a\"b", "user@x", "x/y", "{crate}", "", "x y", "x\\"] {
        assert_eq!(dl(&format!("Host: {host}\r\n")).0, 400, "{host}");
    }
}

#[test]
fn a_path_that_is_no_crate_is_not_found() {
    let world = World::new();
    mirror(&world, &project(&world)).good();
    let serving = Serving::start(&world);
    for path in [
        "../hab.toml",
        "%2e%2e/hab.toml",
        "3/a/..",
        "3/a/%2e%2e%2fabc",
        "ab/c/abc",
        "3/b/abc",
        "3/A/ABC",
        "é/é/éé",
        "dl/abc/3.1.4",
        "dl/abc/3.1.4/download/",
        "dl/../abc/3.1.4/download",
        "dl/abc/9.9.9/download",
        "un/de/under-score",
        "config.json/",
        "%00",
    ] {
        assert_eq!(serving.get(&format!("/crates/{path}")).0, 404, "{path}");
    }
}
