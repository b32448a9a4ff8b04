//! Releases with signed lists of hashes, and plain files: mirrored and served, or refused as a whole.

use std::process::{Child, Command};

use crate::harness::{World, cert, detached};
use hab_oci::Digest;
use sequoia_openpgp::Cert;

const REQUIRE: &str = "[require.them]\nkind = \"signed-hashes\"\nthreshold = 2\n";
const TAR: &[u8] = b"a release\n";

/// A world whose project `tool` has releases at two upstreams, which two of `keys` must sign, and a plain file.
fn world() -> (World, [Cert; 2]) {
    let world = World::new();
    let keys = [cert("one"), cert("two")];
    world.policy("tool", REQUIRE, &[("one", &keys[0]), ("two", &keys[1])]);
    for (at, key) in keys.iter().enumerate() {
        world.file(&format!("certificates/{at}.gpg"), crate::harness::export(key));
    }
    let at = world.server.address();
    world.file(
        "data/projects/tool.toml",
        format!(
            "urls = [\"https://h.invalid/tool.git\"]\n\
             [release]\nurls = [\"{at}/first/{{version}}\", \"{at}/second/{{version}}\"]\nsums = \"SHA256SUMS\"\n\
             signatures = [\"SHA256SUMS.asc\", \"more-{{version}}.asc\"]\nfiles = [\"*.tar\"]\nversions = [\"1.0\"]\n\
             policy = \"tool\"\n\
             [[file]]\nname = \"install.sh\"\nurls = [\"{at}/raw/install.sh\"]\nsha256 = \"{}\"\nlimit = 100\n",
            Digest::of(b"echo hello\n").hex()
        ),
    );
    (world, keys)
}

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{}  {name}\n", Digest::of(bytes).hex())
}

/// Puts a release below `folder`, its list signed by `keys`, each in a file of its own.
fn publish(world: &World, folder: &str, list: &str, keys: &[&Cert]) {
    world.server.put(&format!("{folder}/1.0/SHA256SUMS"), list.as_bytes().to_vec());
    world.server.put(&format!("{folder}/1.0/tool.tar"), TAR.to_vec());
    for (name, key) in ["SHA256SUMS.asc", "more-1.0.asc"].iter().zip(keys) {
        world.server.put(&format!("{folder}/1.0/{name}"), detached(key, list.as_bytes()));
    }
}

struct Serving(Child, String);

impl Serving {
    fn start(world: &World) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut child = world.start("data", &["serve", "--listen", "127.0.0.1:0", "--json"]);
        let mut text = String::new();
        // Read the output to its end: a closed pipe would end the program.
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            text.push_str(&line);
            if line == "}" {
                break;
            }
        }
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        Self(child, told["listen"].as_str().unwrap().to_owned())
    }

    fn get(&self, path: &str) -> Option<Vec<u8>> {
        let url = format!("http://{}/{path}", self.1);
        let got = Command::new("curl").args(["--silent", "--fail", "--noproxy", "*", &url]).output().unwrap();
        got.status.success().then_some(got.stdout)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_accepted_release_is_served_with_its_list_and_signatures() {
    let (world, [one, two]) = world();
    let list = line("tool.tar", TAR) + &line("tool.zip", b"not wanted");
    publish(&world, "first", &list, &[&one, &two]);
    let released = world.run("data", &["mirror", "release", "tool", "--json"]).good();
    assert_eq!(
        released.json[0]["files"],
        serde_json::json!(["SHA256SUMS", "SHA256SUMS.asc", "more-1.0.asc", "tool.tar"])
    );
    let serving = Serving::start(&world);
    assert_eq!(serving.get("releases/tool/1.0/tool.tar").unwrap(), TAR);
    assert_eq!(serving.get("releases/tool/1.0/SHA256SUMS").unwrap(), list.as_bytes());
    assert!(serving.get("releases/tool/1.0/more-1.0.asc").unwrap().starts_with(b"-----BEGIN PGP SIGNATURE"));
    assert_eq!(serving.get("releases/tool/1.0/tool.zip"), None);
    // The decision can be made again from the stored documents.
    let decision = released.json[0]["decision"].as_str().unwrap();
    world.run("data", &["verify", "--evidence", decision, "--offline"]).good();
}

/// Nothing of the release is served.
fn nothing_is_served(world: &World) {
    let serving = Serving::start(world);
    for file in ["tool.tar", "SHA256SUMS", "SHA256SUMS.asc"] {
        assert_eq!(serving.get(&format!("releases/tool/1.0/{file}")), None, "{file}");
    }
}

#[test]
fn nothing_of_an_unsigned_release_is_served() {
    let (world, _) = world();
    publish(&world, "first", &line("tool.tar", TAR), &[]);
    world.run("data", &["mirror", "release", "tool", "--json"]).refused(3, &["SHA256SUMS", "policy tool"]);
    nothing_is_served(&world);
}

#[test]
fn nothing_of_a_release_with_too_few_signatures_is_served() {
    let (world, [one, _]) = world();
    publish(&world, "first", &line("tool.tar", TAR), &[&one, &cert("stranger")]);
    world.run("data", &["mirror", "release", "tool"]).refused(3, &["1 of 2", "policy tool"]);
    publish(&world, "first", &line("tool.tar", TAR), &[&one, &one]);
    world.run("data", &["mirror", "release", "tool"]).refused(3, &["1 of 2"]);
    nothing_is_served(&world);
}

#[test]
fn an_upstream_whose_list_is_refused_gives_way_to_the_next() {
    let (world, [one, two]) = world();
    publish(&world, "first", &line("tool.tar", b"forged"), &[&cert("a"), &cert("b")]);
    publish(&world, "second", &line("tool.tar", TAR), &[&one, &two]);
    world.run("data", &["mirror", "release", "tool", "1.0"]).good();
    assert_eq!(Serving::start(&world).get("releases/tool/1.0/tool.tar").unwrap(), TAR);
}

#[test]
fn a_file_that_is_not_the_listed_one_is_not_served() {
    let (world, [one, two]) = world();
    publish(&world, "first", &line("tool.tar", TAR), &[&one, &two]);
    world.server.tamper("first/1.0/tool.tar");
    world.run("data", &["mirror", "release", "tool"]).refused(3, &["tool.tar", "expected sha256:"]);
    assert_eq!(Serving::start(&world).get("releases/tool/1.0/tool.tar"), None);
}

#[test]
fn a_listed_path_is_refused_before_anything_is_fetched() {
    let (world, [one, two]) = world();
    for name in ["../tool.tar", "a/tool.tar", "/etc/tool.tar"] {
        publish(&world, "first", &line(name, TAR), &[&one, &two]);
        world.run("data", &["mirror", "release", "tool"]).refused(3, &["it must not be a path"]);
    }
    nothing_is_served(&world);
}

#[test]
fn a_released_file_does_not_change_even_where_the_new_list_is_signed() {
    let (world, [one, two]) = world();
    publish(&world, "first", &line("tool.tar", TAR), &[&one, &two]);
    world.run("data", &["mirror", "release", "tool"]).good();
    publish(&world, "first", &line("tool.tar", b"another"), &[&one, &two]);
    world
        .run("data", &["mirror", "release", "tool"])
        .refused(3, &["tool/1.0/tool.tar was", "keeps the old one"]);
    assert_eq!(Serving::start(&world).get("releases/tool/1.0/tool.tar").unwrap(), TAR);
}

#[test]
fn a_version_or_project_that_cannot_be_is_refused() {
    let (world, _) = world();
    world.run("data", &["mirror", "release", "tool", "../1.0"]).refused(4, &["\"../1.0\""]);
    world.run("data", &["mirror", "release", "tool", "2.0"]).refused(4, &["SHA256SUMS"]);
    world.run("data", &["mirror", "release", "lnd", "31.0"]).refused(2, &["[release]"]);
    world.run("data", &["mirror", "release", "nobody"]).refused(2, &["nobody"]);
}

#[test]
fn a_plain_file_is_served_only_as_it_is_pinned() {
    let (world, _) = world();
    world.server.put("raw/install.sh", b"echo other\n".to_vec());
    world.run("data", &["mirror", "files", "tool"]).refused(3, &["install.sh", "expected sha256:"]);
    world.server.put("raw/install.sh", vec![b'x'; 101]);
    world.run("data", &["mirror", "files", "tool"]).refused(4, &["install.sh", "more than the 100 bytes"]);
    assert_eq!(Serving::start(&world).get("files/install.sh"), None);
    world.server.put("raw/install.sh", b"echo hello\n".to_vec());
    world.run("data", &["mirror", "files", "tool"]).good();
    assert_eq!(Serving::start(&world).get("files/install.sh").unwrap(), b"echo hello\n");
}

#[test]
fn a_name_with_two_hashes_in_a_signed_list_is_not_mirrored_and_is_told() {
    let (world, [one, two]) = world();
    let list = line("tool.tar", TAR) + &line("other.tar", b"a") + &line("other.tar", b"b");
    publish(&world, "first", &list, &[&one, &two]);
    world.server.put("first/1.0/other.tar", b"a".to_vec());
    let released = world.run("data", &["mirror", "release", "tool", "--json"]).good();
    assert!(
        released.stderr.contains("other.tar stands in the list of tool 1.0 with several hashes"),
        "{}",
        released.stderr
    );
    let serving = Serving::start(&world);
    assert_eq!(serving.get("releases/tool/1.0/tool.tar").unwrap(), TAR);
    assert_eq!(serving.get("releases/tool/1.0/other.tar"), None);
}

#[test]
fn a_release_whose_list_has_windows_line_ends_is_mirrored() {
    let (world, [one, two]) = world();
    publish(&world, "first", &line("tool.tar", TAR).replace('\n', "\r\n"), &[&one, &two]);
    world.run("data", &["mirror", "release", "tool"]).good();
    assert_eq!(Serving::start(&world).get("releases/tool/1.0/tool.tar").unwrap(), TAR);
}
