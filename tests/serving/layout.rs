//! Images are exported to folders and files, and imported from them: `hab-build registry export` and `import`.

use std::fs;
use std::path::Path;

use crate::harness::{Outcome, Serving, World, files_below};
use hab_oci::{Algorithm, Digest, media_type};
use serde_json::{Value, json};

pub fn registry(world: &World, data: &str, words: &[&str]) -> Outcome {
    world.run(data, &[&["registry"], words, &["--json"]].concat())
}

/// Writes a layout with one of everything: an index of two platforms, one of them missing; a Docker manifest with a
/// layer by its sha512; and a referrer of the index.
pub fn write_layout(folder: &Path) -> [String; 3] {
    for name in ["blobs/sha256", "blobs/sha512"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let blob = |algorithm, kind: &str, bytes: &[u8]| {
        let digest = Digest::of_with(algorithm, bytes);
        fs::write(folder.join("blobs").join(algorithm.name()).join(digest.hex()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let sha256 = |kind: &str, value: &Value| blob(Algorithm::Sha256, kind, value.to_string().as_bytes());
    let (plain, packed) = layer();
    let config = sha256(
        media_type::IMAGE_CONFIG,
        &json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
                "rootfs": {"type": "layers", "diff_ids": [Digest::of(&plain)]}}),
    );
    let gzip = blob(Algorithm::Sha256, media_type::LAYER_GZIP, &packed);
    let image = sha256(
        media_type::IMAGE_MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": [gzip]}),
    );
    let with = |mut entry: Value, key: &str, value: Value| {
        entry[key] = value;
        entry
    };
    let amd64 = with(image, "platform", json!({"architecture": "amd64", "os": "linux"}));
    let absent = json!({"mediaType": media_type::IMAGE_MANIFEST, "digest": Digest::of(b"absent"), "size": 6,
                        "platform": {"architecture": "arm64", "os": "linux"}});
    let index = sha256(
        media_type::IMAGE_INDEX,
        &json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [amd64, absent]}),
    );
    let other =
        blob(Algorithm::Sha512, "application/vnd.docker.image.rootfs.diff.tar.gzip", b"not unpacked here");
    let docker = sha256(
        media_type::DOCKER_MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": [other]}),
    );
    let empty = blob(Algorithm::Sha256, "application/vnd.oci.empty.v1+json", b"{}");
    let about = sha256(
        media_type::IMAGE_MANIFEST,
        &json!({"schemaVersion": 2, "artifactType": "application/vnd.example.sbom", "config": empty, "layers": [empty],
                "subject": index}),
    );
    let digests = [&index, &docker, &about].map(|entry| entry["digest"].as_str().unwrap().to_owned());
    let name = |tag: &str| json!({"org.opencontainers.image.ref.name": tag});
    let entries = json!([
        with(index, "annotations", name("v1")),
        with(docker, "annotations", name("docker.io/library/x:v2")),
        with(about, "artifactType", json!("application/vnd.example.sbom")),
    ]);
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string())
        .unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    digests
}

/// A layer of one file, plain and compressed.
pub fn layer() -> (Vec<u8>, Vec<u8>) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(5);
    archive.append_data(&mut header, "hello", b"hello".as_slice()).unwrap();
    let plain = archive.into_inner().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &plain).unwrap();
    (plain, packed.finish().unwrap())
}

/// The blobs of a layout, by name, with their bytes.
fn blobs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let found = files_below(&folder.join("blobs"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    found.into_iter().map(|(path, bytes)| (name(&path), bytes)).collect()
}

/// A world whose `data` has the layout's images as `test/all`.
pub fn imported() -> (World, [String; 3]) {
    let world = World::new();
    let digests = write_layout(&world.path("layout"));
    let said = registry(&world, "data", &["import", &path(&world, "layout"), "test/all"]).good().json;
    assert_eq!(said["tags"], json!({"v1": digests[0], "v2": digests[1]}));
    assert_eq!(said["missing"], json!([Digest::of(b"absent")]));
    (world, digests)
}

pub fn path(world: &World, name: &str) -> String {
    world.path(name).display().to_string()
}

#[test]
fn what_was_imported_is_served_and_comes_out_again_byte_for_byte() {
    let (world, [index, docker, about]) = imported();
    let serving = Serving::start(&world);
    for (tag, digest) in [("v1", &index), ("v2", &docker), (about.as_str(), &about)] {
        let (status, bytes) = serving.get(&format!("/v2/test/all/manifests/{tag}"));
        assert_eq!((status, &Digest::of(&bytes).to_string()), (200, digest));
    }
    let (_, referrers) = serving.get(&format!("/v2/test/all/referrers/{index}"));
    assert!(String::from_utf8(referrers).unwrap().contains(&about));
    registry(&world, "data", &["export", "test/all", &path(&world, "out")]).good();
    assert_eq!(blobs(&world.path("out")), blobs(&world.path("layout")));
    for name in ["one.tar", "two.tar"] {
        registry(&world, "data", &["export", "test/all", &path(&world, name)]).good();
    }
    assert_eq!(fs::read(world.path("one.tar")).unwrap(), fs::read(world.path("two.tar")).unwrap());
    // Import a folder with all images and an archive with one into other farms.
    for (from, data) in [("out", "second"), ("one.tar", "third")] {
        let said = registry(&world, data, &["import", &path(&world, from), "mine"]).good().json;
        assert_eq!(said["tags"], json!({"v1": index, "v2": docker}));
        let said = registry(&world, data, &["import", &path(&world, from), "mine/one:v1"]).good().json;
        assert_eq!((&said["tags"], &said["manifests"]), (&json!({"v1": index}), &json!(3)));
        registry(&world, data, &["gc"]).good();
        let kept = registry(&world, data, &["list"]).good().json;
        assert_eq!((&kept[0]["manifests"], &kept[1]["manifests"]), (&json!(4), &json!(3)));
    }
}

#[test]
fn a_cache_that_lists_layers_comes_in_stays_and_goes_out_whole() {
    let world = World::new();
    let folder = world.path("layout");
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    // A cache as BuildKit writes it, and a layer that is listed as an image.
    let members = [
        blob(media_type::LAYER_GZIP, b"\x1f\x8b a layer"),
        blob("application/vnd.buildkit.cacheconfig.v0", b"{\"layers\":[]}"),
        blob(media_type::IMAGE_MANIFEST, b"\x1f\x8b another layer"),
    ];
    let index = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": members});
    let index = blob(media_type::IMAGE_INDEX, index.to_string().as_bytes());
    let outer = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [index]});
    let mut outer = blob(media_type::IMAGE_INDEX, outer.to_string().as_bytes());
    outer["annotations"] = json!({"org.opencontainers.image.ref.name": "cache"});
    let listed = json!({"schemaVersion": 2, "manifests": [outer]}).to_string();
    fs::write(folder.join("index.json"), listed).unwrap();
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    let said = registry(&world, "data", &["import", &path(&world, "layout"), "test/cache"]).good().json;
    assert_eq!((&said["manifests"], &said["blobs"], &said["missing"]), (&json!(2), &json!(3), &json!([])));
    let text = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file("hab.toml", format!("{text}[registry]\ngrace = \"0s\"\n"));
    registry(&world, "data", &["gc"]).good();
    let said = registry(&world, "data", &["export", "test/cache", &path(&world, "out")]).good().json;
    assert_eq!((&said["manifests"], &said["blobs"], &said["missing"]), (&json!(2), &json!(3), &json!([])));
    assert_eq!(blobs(&world.path("out")), blobs(&folder));
    let said = registry(&world, "second", &["import", &path(&world, "out"), "mine"]).good().json;
    assert_eq!(said["tags"], json!({"cache": outer["digest"]}));
}

#[test]
fn an_export_is_of_what_was_asked_for() {
    let (world, [index, docker, about]) = imported();
    let listed = |name: &str| {
        let index: Value =
            serde_json::from_slice(&fs::read(world.path(name).join("index.json")).unwrap()).unwrap();
        let digest = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
        index["manifests"].as_array().unwrap().iter().map(digest).collect::<Vec<_>>()
    };
    for (n, (words, wanted)) in [
        (vec!["test/all:v2"], vec![docker.clone()]),
        (vec!["test/all:v1"], vec![index.clone(), about.clone()]),
        (vec!["test/all:v1", "--no-referrers"], vec![index.clone()]),
        (vec!["test/all:v1", "test/all:v2"], vec![index.clone(), docker.clone(), about.clone()]),
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("out{n}");
        let (images, flags): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| !word.starts_with('-'));
        registry(&world, "data", &[&["export"], &images[..], &[&path(&world, &to)], &flags].concat()).good();
        assert_eq!(listed(&to), wanted, "{to}");
    }
    let by_digest = format!("test/all@{docker}");
    registry(&world, "data", &["export", &by_digest, &path(&world, "digest")]).good();
    assert_eq!(listed("digest"), [docker]);
    registry(&world, "data", &["export", "test/all", &path(&world, "digest")])
        .refused(2, &["exists already"]);
    registry(&world, "data", &["export", "test/all:v9", &path(&world, "no")])
        .refused(2, &["no test/all:v9 here"]);
    registry(&world, "data", &["export", "none", &path(&world, "no")]).refused(2, &["no repository none"]);
    registry(&world, "data", &["export", "a:v1", "b:v1", &path(&world, "no")]).refused(2, &["one by one"]);
    registry(&world, "data", &["export", "a@sha256:00", &path(&world, "no")]).refused(2, &["not a digest"]);
    assert!(!world.path("no").exists());
}

#[test]
fn an_export_over_a_damaged_layer_leaves_nothing() {
    let (world, _) = imported();
    let hex = Digest::of(&layer().1).hex().to_owned();
    let file = world.path("data/blobs/sha256").join(&hex[..2]).join(&hex);
    let mut bytes = fs::read(&file).unwrap();
    bytes[3] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    for to in ["out", "out.tar"] {
        let to = path(&world, to);
        registry(&world, "data", &["export", "test/all", &to]).refused(3, &["the bytes at", &hex]);
    }
    let left = fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> =
        left.filter(|name| name.to_string_lossy().trim_start_matches('.').starts_with("out")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_layout_with_one_wrong_byte_changes_nothing() {
    let world = World::new();
    let [index, ..] = write_layout(&world.path("layout"));
    let layout = path(&world, "layout");
    for (path, bytes) in files_below(&world.path("layout/blobs")) {
        let mut wrong = bytes.clone();
        *wrong.last_mut().unwrap() ^= 1;
        fs::write(&path, &wrong).unwrap();
        registry(&world, "data", &["import", &layout, "test/all"]).refused(3, &["the bytes at"]);
        fs::write(&path, bytes).unwrap();
    }
    let hex = index.split(':').nth(1).unwrap().to_owned();
    fs::rename(world.path("layout/blobs/sha256").join(&hex), world.path("aside")).unwrap();
    registry(&world, "data", &["import", &layout, "test/all"])
        .refused(3, &["not in the layout", "index.json"]);
    fs::rename(world.path("aside"), world.path("layout/blobs/sha256").join(&hex)).unwrap();
    registry(&world, "data", &["import", &layout, "test/all:v9"]).refused(2, &["none is tagged v9"]);
    registry(&world, "data", &["import", &layout, &format!("test/all@{index}")])
        .refused(2, &["its own digest"]);
    registry(&world, "data", &["import", &path(&world, "hab.toml"), "a"]).refused(3, &["tar archive"]);
    assert_eq!(registry(&world, "data", &["list"]).good().json, json!([]));
    assert!(files_below(&world.path("data/blobs/sha256")).is_empty());
    registry(&world, "data", &["import", &layout, "test/all"]).good();
}

#[test]
fn an_immutable_tag_keeps_a_whole_layout_out() {
    let (world, [_, docker, _]) = imported();
    let text = fs::read_to_string(world.path("hab.toml")).unwrap();
    world.file(
        "hab.toml",
        format!("{text}[registry]\nimmutable = [{{ repository = \"test/*\", tag = \"v1\" }}]\n"),
    );
    let mut index: Value =
        serde_json::from_slice(&fs::read(world.path("layout/index.json")).unwrap()).unwrap();
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!("v2");
    index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"] = json!("v1");
    world.file("layout/index.json", index.to_string());
    registry(&world, "data", &["import", &path(&world, "layout"), "test/all"])
        .refused(3, &["v1 is immutable"]);
    // Neither tag has moved, although only one is immutable.
    assert_eq!(registry(&world, "data", &["list", "test/all"]).good().json[1]["digest"], docker.as_str());
}

/// After kill -9 at any point both tags exist or neither, and the next import and collection work.
#[test]
fn a_killed_import_is_there_as_a_whole_or_not_at_all() {
    let world = World::new();
    let [index, docker, _] = write_layout(&world.path("layout"));
    let layout = path(&world, "layout");
    let tags = |name: &str| -> Vec<Value> {
        let listed = registry(&world, "data", &["list", name]);
        let rows = if listed.code == Some(0) { listed.json.as_array().cloned() } else { None };
        rows.unwrap_or_default().iter().map(|row| row["digest"].clone()).collect()
    };
    let whole = [json!(index), json!(docker)];
    let mut killed = 0;
    for round in 0..10_u64 {
        let name = format!("test/r{round}");
        let mut import = world.start("data", &["registry", "import", &layout, &name]);
        std::thread::sleep(std::time::Duration::from_millis(15 * round + 5));
        import.kill().unwrap();
        killed += u32::from(import.wait().unwrap().code().is_none());
        let there = tags(&name);
        assert!(there.is_empty() || there == whole, "round {round}: {there:?}");
        registry(&world, "data", &["import", &layout, &name]).good();
        assert_eq!(tags(&name), whole);
    }
    assert!(killed > 0, "every import was quicker than its kill");
    registry(&world, "data", &["gc"]).good();
    let scrubbed = registry(&world, "data", &["scrub"]).good().json;
    assert_eq!((&scrubbed["damaged"], &scrubbed["missing"]), (&json!([]), &json!([])));
    assert_eq!(fs::read_dir(world.path("data/blobs/tmp")).unwrap().count(), 0);
}
