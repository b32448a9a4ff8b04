//! Sources of depends packages are mirrored, served to a checkout's make, and written to a folder for a machine without
//! a network.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use crate::harness::{World, files_below};
use git2::{Repository, Signature, Time};
use hab_oci::Digest;

const HOST: &str = "aarch64-linux-gnu";
const FILES: [&str; 5] =
    ["alpha-1.0.tar.gz", "beta-2.1.tar.xz", "beta-docs-2.1.tar.xz", "extra.txt-2.1", "tool-x86.tar.gz"];

/// The content of the source file with this name, as the tree in testdata pins it.
fn source(name: &str) -> Vec<u8> {
    format!("{name} is a source\n").into_bytes()
}

/// The tree in testdata, with every package's address below `base`.
fn tree(base: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("mirror/testdata/depends");
    let files = files_below(&root).into_iter().map(|(path, bytes)| {
        let text = String::from_utf8(bytes).unwrap();
        let text = ["alpha", "beta", "tool", "gamma"].iter().fold(text, |text, name| {
            text.replace(&format!("http://{name}.invalid"), &format!("{base}/{name}"))
        });
        (path.strip_prefix(&root).unwrap().to_owned(), text.into_bytes())
    });
    files.collect()
}

/// A world in which project `bitcoin` is mirrored, with a tag `v1` whose packages have their sources below `base`.
fn world(base: impl Fn(&World) -> String) -> World {
    let world = World::new();
    let base = base(&world);
    let repo = Repository::init_bare(world.path("data/git/bitcoin.git")).unwrap();
    let mut folders: BTreeMap<String, Vec<(String, git2::Oid)>> = BTreeMap::new();
    for (path, bytes) in tree(&base) {
        let folder = path.parent().unwrap().to_str().unwrap().to_owned();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        folders.entry(folder).or_default().push((name, repo.blob(&bytes).unwrap()));
    }
    let mut root = repo.treebuilder(None).unwrap();
    for (folder, files) in folders {
        let mut sub = repo.treebuilder(None).unwrap();
        for (name, id) in files {
            if folder.is_empty() {
                root.insert(name, id, 0o100_644).unwrap();
            } else {
                sub.insert(name, id, 0o100_644).unwrap();
            }
        }
        if !folder.is_empty() {
            root.insert(folder, sub.write().unwrap(), 0o040_000).unwrap();
        }
    }
    let mut top = repo.treebuilder(None).unwrap();
    top.insert("depends", root.write().unwrap(), 0o040_000).unwrap();
    let top = repo.find_tree(top.write().unwrap()).unwrap();
    let who = Signature::new("n", "e@x.invalid", &Time::new(1_600_000_000, 0)).unwrap();
    let commit = repo.commit(None, &who, &who, "x", &top, &[]).unwrap();
    repo.reference("refs/tags/v1", commit, true, "test").unwrap();
    world
}

/// A world whose server has every source at the address in its package.
fn published() -> World {
    let world = world(|world| world.server.address());
    // Makefiles may only name addresses outside; allow this one, which is on loopback.
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    let inner = format!("[mirror]\ninner = [\"{}\"]\n", world.server.address());
    world.file("hab.toml", config.replace("[mirror]\n", &inner));
    for (path, file) in [
        ("alpha/1.0/v1.0.tar.gz", FILES[0]),
        ("beta/releases/beta-2.1.tar.xz", FILES[1]),
        ("beta/releases/beta-docs-2.1.tar.xz", FILES[2]),
        ("beta/raw/extra.txt", FILES[3]),
        ("tool/tool-x86.tar.gz", FILES[4]),
        ("tool/tool-arm.tar.gz", "tool-arm.tar.gz"),
    ] {
        world.server.put(path, source(file));
    }
    world
}

const MIRROR: [&str; 8] =
    ["mirror", "depends", "bitcoin", "v1", "--host", HOST, "--build", "x86_64-pc-linux-gnu"];

/// A checkout whose packages name addresses at which nobody answers.
fn checkout(world: &World) -> PathBuf {
    let folder = world.path("checkout/depends");
    for (path, bytes) in tree("http://127.0.0.1:1") {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

fn make(checkout: &Path, sources: &Path, words: &[&str]) -> Output {
    let mut command = Command::new("make");
    command.arg("-C").arg(checkout).arg(format!("SOURCES_PATH={}", sources.display()));
    command.args([&format!("HOST={HOST}"), "download-one"]).args(words).env_remove("MAKEFLAGS");
    command.output().expect("these tests need GNU make and curl")
}

struct Serving(Child, String);

impl Serving {
    fn start(world: &World) -> Self {
        let mut child = world.start("data", &["serve", "--listen", "127.0.0.1:0", "--json"]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut text = String::new();
        // Read the output to its end: a closed pipe would end the program.
        for line in lines {
            text.push_str(&line);
            if line == "}" {
                break;
            }
        }
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        Self(child, told["listen"].as_str().unwrap().to_owned())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_checkouts_make_finds_its_sources_here_and_writes_the_stamps_that_we_write() {
    let world = published();
    world.run("data", &MIRROR).good();
    let serving = Serving::start(&world);
    let checkout = checkout(&world);
    let theirs = world.path("theirs");
    let fallback = format!("FALLBACK_DOWNLOAD_PATH=http://{}/depends-sources", serving.1);
    let made = make(&checkout, &theirs, &[&fallback]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let ours = world.path("ours");
    let words = ["--build", "x86_64-pc-linux-gnu", "--host", HOST];
    let export = ["mirror", "export-depends", ours.to_str().unwrap(), "v1", "--offline"];
    world.run("data", &[&export[..], &words].concat()).good();
    let relative = |root: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        files_below(root).into_iter().map(|(p, b)| (p.strip_prefix(root).unwrap().to_owned(), b)).collect()
    };
    assert_eq!(relative(&ours), relative(&theirs));
    assert_eq!(relative(&ours).len(), FILES.len() + 3, "five files and three packages' stamps");
}

#[test]
fn make_takes_what_was_exported_without_fetching_anything() {
    let world = published();
    let sources = world.path("sources");
    let export = ["mirror", "export-depends", sources.to_str().unwrap(), "v1", "--host", HOST];
    let exported = world.run("data", &[&export[..], &["--json"]].concat()).good();
    assert_eq!(exported.json["files"], 6, "with the tool of the other build platform");
    let checkout = checkout(&world);
    let made = make(&checkout, &sources, &["build_DOWNLOAD=false"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!String::from_utf8_lossy(&made.stdout).contains("Fetching"));
    // make would have noticed a wrong file.
    fs::write(sources.join(FILES[0]), "other").unwrap();
    assert!(!make(&checkout, &sources, &["build_DOWNLOAD=false"]).status.success());
}

#[test]
fn a_list_fetches_nothing_and_names_every_source() {
    let world = published();
    let before = world.server.requests();
    let listed = world.run("data", &[&MIRROR[..], &["--list", "--json"]].concat()).good();
    let names: Vec<_> =
        listed.json["sources"].as_array().unwrap().iter().map(|s| s["file"].as_str().unwrap()).collect();
    assert_eq!(names, FILES);
    assert_eq!(world.server.requests(), before);
}

#[test]
fn a_mirror_of_the_operators_is_asked_where_upstream_is_away() {
    let world = world(|_| "http://127.0.0.1:1".to_owned());
    for file in FILES {
        world.server.put(&format!("theirs/{file}"), source(file));
    }
    world.run("data", &MIRROR).refused(4, &["could not be fetched"]);
    let config = fs::read_to_string(world.path("hab.toml")).unwrap();
    let theirs = format!("[mirror]\ndepends = [\"{}/theirs/\"]\n", world.server.address());
    assert!(config.contains("[mirror]\n"));
    fs::write(world.path("hab.toml"), config.replace("[mirror]\n", &theirs)).unwrap();
    world.run("data", &MIRROR).good();
    let asked = world.server.requests();
    world.run("data", &MIRROR).good();
    assert_eq!(world.server.requests(), asked, "what is here is not asked for again");
}

#[test]
fn what_a_makefile_names_leads_to_no_inner_host_and_to_no_file() {
    let world = world(|world| world.server.address());
    let named = |world: &World, words: &str| {
        let outcome = world.run("data", &[&MIRROR[..], &["--json"]].concat());
        outcome.refused(4, &["could not be fetched", words]);
    };
    world.server.put("alpha/1.0/v1.0.tar.gz", source(FILES[0]));
    named(&world, "only this machine or its network can reach");
    assert_eq!(world.server.requests().0, 0, "nobody was asked");
    let world = self::world(|world| format!("file://{}", world.path("files").display()));
    world.file("files/alpha/1.0/v1.0.tar.gz", source(FILES[0]));
    named(&world, "must not name files of this machine");
    let kept = files_below(&world.path("data/blobs/sha256"));
    assert!(!kept.values().any(|bytes| *bytes == source(FILES[0])));
}

#[test]
fn other_bytes_are_refused_and_keep_no_other_source_away() {
    let world = published();
    world.server.tamper("tool/tool-x86.tar.gz");
    world
        .run("data", &[&MIRROR[..], &["--json"]].concat())
        .refused(3, &["tool-x86.tar.gz", "expected sha256:"]);
    let serving = Serving::start(&world);
    let get = |file: &str| {
        let url = format!("http://{}/depends-sources/{file}", serving.1);
        Command::new("curl").args(["--silent", "--fail", "--noproxy", "*", &url]).output().unwrap()
    };
    assert!(!get("tool-x86.tar.gz").status.success());
    assert_eq!(get("alpha-1.0.tar.gz").stdout, source("alpha-1.0.tar.gz"));
    assert_eq!(get("v1.0.tar.gz").stdout, source("alpha-1.0.tar.gz"), "by its upstream's name too");
}

#[test]
fn a_file_that_broke_in_the_store_is_not_exported() {
    let world = published();
    world.run("data", &MIRROR).good();
    let hex = Digest::of(&source(FILES[0])).hex().to_owned();
    let blob = world.path(&format!("data/blobs/sha256/{}/{hex}", &hex[..2]));
    fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&blob, "alpha-1.0.tar.gz is another \n").unwrap();
    let sources = world.path("sources");
    let export = ["mirror", "export-depends", sources.to_str().unwrap(), "v1", "--host", HOST];
    let words = [&export[..], &["--build", "x86_64-pc-linux-gnu", "--offline"]].concat();
    world.run("data", &words).refused(3, &[FILES[0], "expected sha256:"]);
    assert!(!sources.join(FILES[0]).exists());
    assert!(files_below(&sources.join("download-stamps")).is_empty());
}

#[test]
fn what_cannot_be_asked_is_said_in_one_sentence() {
    let world = published();
    world.run("data", &["mirror", "depends", "bitcoin", "v2"]).refused(2, &["no revision v2"]);
    world.run("data", &["mirror", "depends", "other", "v1"]).refused(2, &["other is not mirrored here"]);
    world.run("data", &["mirror", "depends", "bitcoin", "v1", "--host", "vax"]).refused(2, &["\"vax\""]);
    world.run("data", &["mirror", "depends", "bitcoin", "v1", "--set", "NO_QT"]).refused(2, &["--set"]);
    let bsd = ["mirror", "depends", "bitcoin", "v1", "--host", "x86_64-unknown-freebsd"];
    world
        .run("data", &[&bsd[..], &["--json"]].concat())
        .refused(3, &["bitcoin v1", "Makefile line", "hosts/.mk"]);
    world.run("data", &[&MIRROR[..], &["--offline"]].concat()).refused(4, &["nothing is fetched offline"]);
}
