//! `hab-build mirror export` and `import`: a mirror in one file, carried by hand.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::harness::{GOOD, Outcome, Upstream, World};
use hab_oci::Digest;
use serde_json::Value;

/// A world with a Debian recipe, a crate recipe and a git recipe, all built in the folder `data`.
fn built() -> (World, Upstream, [String; 3]) {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&world.maintainer));
    world.git_recipe("node", GOOD, &upstream.url());
    world.crate_recipe("tiny", "mkdir -p $OUT/usr/bin\ncp /usr/bin/cat $OUT/usr/bin/hello\n");
    let digest = Digest::of(&world.server.get("dl/tiny/1.2.3.crate").unwrap());
    let line = format!(
        "{{\"name\":\"tiny\",\"vers\":\"1.2.3\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\"yanked\":false}}",
        digest.hex()
    );
    world.server.put("ti/ny/tiny", line.into_bytes());
    let indexes = builds(&world, "data", &[]);
    world.run("data", &["mirror", "packages"]).good();
    (world, upstream, indexes)
}

fn builds(world: &World, data: &str, more: &[&str]) -> [String; 3] {
    let recipes: [&[&str]; 3] = [&["hello"], &["tiny"], &["node", "v1.0"]];
    recipes.map(|recipe| {
        let words = [recipe, &["--platform", "linux/amd64", "--json"], more].concat();
        world.run(data, &words).good().index()
    })
}

fn export(world: &World, file: &str, more: &[&str]) -> Value {
    let path = world.path(file).display().to_string();
    world.run("data", &[&["mirror", "export", &path, "--json"], more].concat()).good().json
}

fn import(world: &World, data: &str, file: &str) -> Outcome {
    world.run(data, &["mirror", "import", &world.path(file).display().to_string(), "--json"])
}

/// Copies the export `from` to `to`, with its manifest changed.
fn doctor(world: &World, from: &str, to: &str, change: impl Fn(&mut Value)) {
    let mut tar = tar::Archive::new(zstd::Decoder::new(File::open(world.path(from)).unwrap()).unwrap());
    let mut out = tar::Builder::new(zstd::Encoder::new(File::create(world.path(to)).unwrap(), 1).unwrap());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if path == Path::new("manifest.json") {
            let mut manifest = serde_json::from_slice(&bytes).unwrap();
            change(&mut manifest);
            bytes = manifest.to_string().into_bytes();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    out.into_inner().unwrap().finish().unwrap();
}

#[test]
fn what_was_exported_builds_the_same_images_without_a_network() {
    let (world, _upstream, indexes) = built();
    let exported = export(&world, "all.tar.zst", &[]);
    assert_eq!(exported["projects"], 1);
    // Both this farm's data and the upstreams are gone.
    fs::rename(world.path("data"), world.path("gone")).unwrap();
    fs::remove_dir_all(world.path("upstream.git")).unwrap();
    world.server.stop();
    let imported = import(&world, "data", "all.tar.zst").good();
    assert_eq!(imported.json["projects"]["node"]["frozen"], Value::Array(Vec::new()));
    assert_eq!(builds(&world, "data", &["--offline"]), indexes);
    // The import has the whole journal.
    let log = |data: &str| world.run(data, &["mirror", "log", "node", "--json"]).good().json;
    assert_eq!(log("data"), log("gone"));
    world.run("data", &["mirror", "verify", "--json"]).good();
    // A second import changes nothing.
    let again = import(&world, "data", "all.tar.zst").good();
    assert_eq!(
        (again.json["names"].as_u64(), again.json["projects"]["node"]["changes"].as_u64()),
        (Some(0), Some(0))
    );
}

#[test]
fn an_increment_holds_what_is_new_and_needs_what_it_continues() {
    let (world, upstream, _) = built();
    let first = export(&world, "first.tar.zst", &[]);
    let next = upstream.commit("two\n");
    upstream.tag("v1.1", next, Some(&world.maintainer));
    world.run("data", &["mirror", "sync", "node"]).good();
    let since = world.path("first.tar.zst").display().to_string();
    let second = export(&world, "second.tar.zst", &["--since", &since]);
    assert_eq!(second["blobs"], 0);
    assert!(second["bytes"].as_u64() < first["bytes"].as_u64());
    import(&world, "other", "second.tar.zst").refused(3, &["import the export before it first"]);
    import(&world, "other", "first.tar.zst").good();
    let synced = import(&world, "other", "second.tar.zst").good().json["projects"]["node"].clone();
    assert_eq!(synced["moved"], 2);
    let plan = ["plan", "node", "v1.1", "--platform", "linux/amd64", "--offline", "--json"];
    let planned = world.run("other", &plan).good();
    assert!(planned.json.to_string().contains(&next.to_string()));
    // Nothing is new, so the increment has no bundle.
    let third = world.path("second.tar.zst").display().to_string();
    export(&world, "third.tar.zst", &["--since", &third]);
    let synced = import(&world, "other", "third.tar.zst").good().json["projects"]["node"].clone();
    assert_eq!(synced["changes"], 0);
}

#[test]
fn a_tag_that_moved_where_it_was_exported_is_frozen_where_it_is_imported() {
    let (world, upstream, _) = built();
    export(&world, "first.tar.zst", &[]);
    import(&world, "other", "first.tar.zst").good();
    let moved = upstream.commit("moved\n");
    upstream.tag("v1.0", moved, Some(&world.maintainer));
    world.run("data", &["mirror", "sync", "node"]).good();
    // At the exporting farm a person accepted the ref; at this one nobody has.
    world.run("data", &["mirror", "accept", "node", "v1.0"]).good();
    export(&world, "second.tar.zst", &[]);
    let imported = import(&world, "other", "second.tar.zst").good();
    assert_eq!(imported.json["projects"]["node"]["frozen"], serde_json::json!(["refs/tags/v1.0"]));
    let row = world.run("other", &["mirror", "list", "--json"]).good().json[0].clone();
    assert_eq!(row["frozen"], serde_json::json!(["refs/tags/v1.0"]));
    world.run("other", &["mirror", "verify", "--json"]).good();
}

#[test]
fn a_file_that_was_changed_on_the_way_is_refused_and_nothing_of_it_is_served() {
    let (world, _upstream, _) = built();
    export(&world, "all.tar.zst", &[]);
    let whole = fs::read(world.path("all.tar.zst")).unwrap();
    for (name, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("flipped", {
            let mut bytes = whole.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
            bytes
        }),
        ("empty", Vec::new()),
        ("html", b"<html>login</html>".to_vec()),
    ] {
        File::create(world.path(name)).unwrap().write_all(&bytes).unwrap();
        let data = format!("{name}-data");
        let outcome = import(&world, &data, name);
        assert_eq!(outcome.code, Some(3), "{name}: {}", outcome.stderr);
        assert!(!world.path(&data).join("git/node.git").exists());
    }
    let other = "0".repeat(40);
    let refuse = |what: &str, words: &[&str], change: &dyn Fn(&mut Value)| {
        let (file, data) = (format!("{what}.tar.zst"), format!("{what}-data"));
        doctor(&world, "all.tar.zst", &file, change);
        import(&world, &data, &file).refused(3, words);
        let refs =
            fs::read_dir(world.path(&data).join("git/node.git/refs/tags")).into_iter().flatten().count();
        assert_eq!(refs, 0, "{what}");
    };
    refuse("object", &["is neither in it nor here"], &|m| {
        m["projects"][0]["refs"]["refs/tags/v1.0"] = other.clone().into();
    });
    refuse("refs", &["differ about refs/tags/v1.0"], &|m| {
        let head = m["projects"][0]["refs"]["refs/heads/main"].clone();
        m["projects"][0]["refs"]["refs/tags/v1.0"] = head;
    });
    refuse("name", &["is not a project's name"], &|m| m["projects"][0]["name"] = "../../x".into());
    refuse("size", &["bytes, not"], &|m| m["blobs"][0][1] = 1.into());
    refuse("huge", &["more than the 4294967296 allowed"], &|m| {
        m["blobs"][0][1] = (1_u64 << 40).into();
    });
    refuse("digest", &["found blobs/"], &|m| m["blobs"][0][0] = format!("sha256:{}", "0".repeat(64)).into());
    refuse("format", &["it is of format 9"], &|m| m["format"] = 9.into());
    // This farm judges by itself what the other farm accepted.
    import(&world, "names", "all.tar.zst").good();
    doctor(&world, "all.tar.zst", "names.tar.zst", |m| {
        let digest = m["blobs"][0][0].clone();
        for named in m["names"].as_array_mut().unwrap() {
            named["digest"] = digest.clone();
        }
    });
    import(&world, "names", "names.tar.zst").refused(3, &["InRelease of stable carries no signature"]);
    import(&world, "nowhere", "missing.tar.zst").refused(2, &["does not exist"]);
}

#[test]
fn of_a_project_that_nobody_here_knows_nothing_is_taken_unless_a_person_says_so() {
    let (world, upstream, _) = built();
    world.run("data", &["mirror", "add", "other", &upstream.url(), "--policy", "maintainers"]).good();
    world.run("data", &["mirror", "sync", "other"]).good();
    export(&world, "all.tar.zst", &[]);
    let imported = import(&world, "strange", "all.tar.zst").good();
    assert_eq!(imported.json["projects"].as_object().unwrap().keys().collect::<Vec<_>>(), ["node"]);
    assert!(imported.stderr.contains("other is left out"), "{}", imported.stderr);
    assert!(!world.path("strange/git/other.git").exists());
    let file = world.path("all.tar.zst").display().to_string();
    let taken = world.run("strange", &["mirror", "import", &file, "--new-projects", "--json"]).good();
    assert_eq!(taken.json["projects"]["other"]["frozen"], Value::Array(Vec::new()));
    world.run("strange", &["mirror", "verify", "other", "--json"]).good();
}
