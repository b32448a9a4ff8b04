//! Layouts as a stranger may write them, and as this crate does.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hab_layout::{Error, Fault, Layout};
use hab_oci::{Algorithm, Digest, media_type};
use serde_json::{Value, json};

/// A layout in the making.
struct World {
    folder: tempfile::TempDir,
    entries: Vec<Value>,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), entries: Vec::new() };
        fs::create_dir_all(world.path().join("blobs/sha256")).unwrap();
        fs::create_dir_all(world.path().join("blobs/sha512")).unwrap();
        world.write("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        self.blob_with(Algorithm::Sha256, kind, bytes)
    }

    fn blob_with(&self, algorithm: Algorithm, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of_with(algorithm, bytes);
        fs::write(self.file(&digest.to_string()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// An image of its own layer.
    fn image(&self, seed: &str, extra: &Value) -> Value {
        let config = self.blob(media_type::IMAGE_CONFIG, format!("{{\"seed\":\"{seed}\"}}").as_bytes());
        let layer = self.blob(media_type::LAYER_ZSTD, format!("layer of {seed}").as_bytes());
        let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        manifest.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.blob(media_type::IMAGE_MANIFEST, manifest.to_string().as_bytes())
    }

    fn index(&self, children: &[&Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": children});
        self.blob(media_type::IMAGE_INDEX, index.to_string().as_bytes())
    }

    fn list(&mut self, entry: &Value, name: Option<&str>) {
        let mut entry = entry.clone();
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.entries.push(entry);
    }

    fn open(&self) -> Result<Layout, Error> {
        self.write(
            "index.json",
            json!({"schemaVersion": 2, "manifests": self.entries}).to_string().as_bytes(),
        );
        Layout::open(&self.path())
    }
}

fn digest(entry: &Value) -> &str {
    entry["digest"].as_str().unwrap()
}

fn lower(world: &World, image: &Value) -> [String; 2] {
    let manifest: Value = serde_json::from_slice(&fs::read(world.file(digest(image))).unwrap()).unwrap();
    [&manifest["config"], &manifest["layers"][0]].map(|part| digest(part).to_owned())
}

/// Everything is read, hashed and has no error.
fn accepted(layout: &Layout) -> Result<(), Error> {
    layout.verify(&layout.everything()?)
}

#[test]
fn all_that_the_specification_allows_is_read() {
    let mut world = World::new();
    let (one, two) = (world.image("one", &json!({})), world.image("two", &json!({})));
    let absent = json!({"mediaType": media_type::IMAGE_MANIFEST, "digest": Digest::of(b"absent"), "size": 6});
    let inner = world.index(&[&two, &absent]);
    let outer = world.index(&[&one, &inner]);
    let config = world.blob("application/vnd.docker.container.image.v1+json", b"{}");
    let big = world.blob_with(Algorithm::Sha512, media_type::LAYER_GZIP, b"hashed by sha512");
    let foreign = json!({"mediaType": "l/t", "digest": Digest::of(b"away"), "size": 4, "urls": ["https://a.example/x"]});
    let docker = json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": [big, foreign]});
    let docker =
        world.blob_with(Algorithm::Sha512, media_type::DOCKER_MANIFEST, docker.to_string().as_bytes());
    world.list(&outer, Some("v1"));
    world.list(&docker, Some("docker.io/library/x:v2"));
    world.list(&world.blob("application/xml", b"<a/>"), Some("v3"));
    let layout = world.open().unwrap();
    let content = layout.everything().unwrap();
    layout.verify(&content).unwrap();
    let tags: Vec<_> = content.tags.iter().map(|(tag, at)| (tag.as_str(), at.to_string())).collect();
    assert_eq!(tags, [("v1", digest(&outer).to_owned()), ("v2", digest(&docker).to_owned())]);
    assert_eq!(content.manifests.len(), 5);
    assert_eq!(content.blobs.len(), 6);
    assert_eq!(content.missing.iter().cloned().collect::<Vec<_>>(), [Digest::of(b"absent")]);
}

#[test]
fn one_image_comes_with_what_is_said_about_it_and_with_nothing_else() {
    let mut world = World::new();
    let (one, two) = (world.image("one", &json!({})), world.image("two", &json!({})));
    let about = world.image("about", &json!({"subject": one}));
    let about_that = world.image("about that", &json!({"subject": about}));
    let about_two = world.image("about two", &json!({"subject": two}));
    // Before what it is about, so that order does not matter.
    for (entry, name) in
        [(&about_that, None), (&about_two, None), (&about, None), (&one, Some("v1")), (&two, Some("v2"))]
    {
        world.list(entry, name);
    }
    let layout = world.open().unwrap();
    let has = |content: &hab_layout::Content, entry: &Value| content.has(&digest(entry).parse().unwrap());
    let content = layout.one(&"v1".parse().unwrap()).unwrap();
    assert!([&one, &about, &about_that].into_iter().all(|entry| has(&content, entry)));
    assert!([&two, &about_two].into_iter().all(|entry| !has(&content, entry)));
    let none = layout.one(&"v9".parse().unwrap()).unwrap_err();
    assert!(none.to_string().contains("v1, v2") && none.fault() == Fault::Request, "{none}");
    assert_eq!(layout.everything().unwrap().nameless(&layout), BTreeSet::new());
}

#[test]
fn a_single_image_takes_any_tag_and_needs_one() {
    let mut world = World::new();
    let one = world.image("one", &json!({}));
    let about = world.image("about", &json!({"subject": one}));
    world.list(&one, None);
    world.list(&about, None);
    let layout = world.open().unwrap();
    assert!(matches!(layout.everything(), Err(Error::NoTag)));
    let content = layout.one(&"mine".parse().unwrap()).unwrap();
    assert_eq!(
        (content.manifests.len(), content.tags.values().next().unwrap().to_string()),
        (2, digest(&one).to_owned())
    );
}

#[test]
fn every_missing_cut_or_other_file_is_named() {
    type Break = fn(&World, &Path);
    let breaks: [(Break, &str); 4] = [
        (|_, file| fs::remove_file(file).unwrap(), "is not in the layout, though"),
        (|_, file| fs::write(file, &fs::read(file).unwrap()[1..]).unwrap(), "bytes in the layout, not"),
        (
            |_, file| {
                let mut bytes = fs::read(file).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(file, bytes).unwrap();
            },
            "the bytes at sha256:",
        ),
        (
            |world, file| {
                fs::rename(file, world.folder.path().join("elsewhere")).unwrap();
                symlink(world.folder.path().join("elsewhere"), file).unwrap();
            },
            "no link of a layout is followed",
        ),
    ];
    for (broken, words) in breaks {
        for which in 0..3 {
            let mut world = World::new();
            let image = world.image("one", &json!({}));
            world.list(&image, Some("v1"));
            let [config, layer] = lower(&world, &image);
            let name = [digest(&image).to_owned(), config, layer][which].clone();
            broken(&world, &world.file(&name));
            let error = accepted(&world.open().unwrap()).unwrap_err();
            let said = error.to_string();
            let hex = name.split(':').nth(1).unwrap();
            assert!(said.contains(words) && said.contains(hex), "{words} of {which}: {said}");
            assert_eq!(error.fault(), Fault::Layout);
        }
    }
}

#[test]
fn descriptors_that_lie_or_disagree_are_refused() {
    let mut world = World::new();
    let image = world.image("one", &json!({}));
    let mut as_docker = image.clone();
    as_docker["mediaType"] = json!(media_type::DOCKER_MANIFEST);
    for (first, second, words) in [
        (&image, &as_docker, "is listed twice"),
        (&as_docker, &image, "is listed twice"),
        (&world.blob(media_type::IMAGE_MANIFEST, b"<html>"), &image, "is not a manifest"),
    ] {
        world.entries.clear();
        world.list(first, Some("v1"));
        world.list(second, Some("v2"));
        let said = accepted(&world.open().unwrap()).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    world.entries.clear();
    let two = world.image("two", &json!({}));
    world.list(&image, Some("a.example/one:v1"));
    world.list(&two, Some("a.example/two:v1"));
    assert!(matches!(accepted(&world.open().unwrap()), Err(Error::TagTwice { .. })));
    let huge = json!({"mediaType": "l/t", "digest": Digest::of(b"x"), "size": 1_u64 << 60});
    let config = world.blob(media_type::IMAGE_CONFIG, b"{}");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [huge]});
    let manifest = world.blob(media_type::IMAGE_MANIFEST, manifest.to_string().as_bytes());
    world.entries.clear();
    world.list(&manifest, Some("v1"));
    assert!(matches!(accepted(&world.open().unwrap()), Err(Error::TooLarge { .. })));
    let large = world.blob(media_type::IMAGE_MANIFEST, &vec![b' '; (4 << 20) + 1]);
    world.entries.clear();
    world.list(&large, Some("v1"));
    assert!(matches!(accepted(&world.open().unwrap()), Err(Error::TooLarge { .. })));
}

#[test]
fn an_index_brings_whatever_it_lists_of_whatever_type() {
    let mut world = World::new();
    let image = world.image("one", &json!({}));
    let layer = world.blob(media_type::LAYER_GZIP, b"\x1f\x8b a layer of the cache");
    let cache = world.blob("application/vnd.buildkit.cacheconfig.v0", b"{\"layers\":[]}");
    let liar = world.blob(media_type::IMAGE_MANIFEST, b"\x1f\x8b another layer, called an image");
    let absent = json!({"mediaType": media_type::LAYER_ZSTD, "digest": Digest::of(b"absent"), "size": 6});
    let blob = world.blob("b/t", b"of an artifact");
    let index = json!({
        "schemaVersion": 2, "artifactType": "a/t", "manifests": [image, layer, cache, liar, absent],
        "blobs": [blob],
    });
    let index = world.blob(media_type::IMAGE_INDEX, index.to_string().as_bytes());
    let outer = world.index(&[&index]);
    world.list(&outer, Some("cache"));
    let layout = world.open().unwrap();
    let content = layout.everything().unwrap();
    layout.verify(&content).unwrap();
    assert_eq!(content.manifests.len(), 3);
    for listed in [&layer, &cache, &liar, &blob] {
        assert!(content.blobs.contains_key(&digest(listed).parse().unwrap()), "{listed}");
    }
    assert_eq!(content.missing.iter().cloned().collect::<Vec<_>>(), [Digest::of(b"absent")]);
    // What is said to be an image and looks like a document has to be one.
    let lie = world.blob(media_type::IMAGE_MANIFEST, b"{\"schemaVersion\":2}");
    world.entries.clear();
    let index = world.index(&[&lie]);
    world.list(&index, Some("v1"));
    let refused = accepted(&world.open().unwrap());
    assert!(matches!(refused, Err(Error::Manifest { .. })), "{refused:?}");
}

#[test]
fn a_document_that_could_be_read_in_two_ways_is_refused_wherever_it_is() {
    // With `layers` twice, of which other programs take another one.
    let world = || {
        let mut world = World::new();
        let image = world.image("one", &json!({}));
        world.list(&image, Some("v1"));
        (world, image)
    };
    let (mut one, image) = world();
    let text = fs::read_to_string(one.file(digest(&image))).unwrap();
    let twice = format!("{},\"LAYERS\":[]}}", text.strip_suffix('}').unwrap());
    let twice = one.blob(media_type::IMAGE_MANIFEST, twice.as_bytes());
    one.entries.clear();
    one.list(&twice, Some("v1"));
    let refused = accepted(&one.open().unwrap()).unwrap_err();
    assert!(matches!(refused, Error::Manifest { .. }), "{refused}");

    let (mut two, _) = world();
    let config = two.blob(media_type::IMAGE_CONFIG, br#"{"config":{"User":"1"},"Config":{"User":"0"}}"#);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    let manifest = two.blob(media_type::IMAGE_MANIFEST, manifest.to_string().as_bytes());
    two.list(&manifest, Some("v2"));
    let refused = accepted(&two.open().unwrap()).unwrap_err();
    assert!(matches!(&refused, Error::Json { what, .. } if what == digest(&config)), "{refused}");

    for (name, text) in [
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0","ImageLayoutVersion":"2.0.0"}"#),
        ("index.json", r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#),
        ("index.json", r#"{"schemaVersion":2,"manifests":[],"Manifests":[]}"#),
    ] {
        let (world, _) = world();
        world.open().unwrap();
        world.write(name, text.as_bytes());
        let refused = Layout::open(&world.path()).unwrap_err();
        assert!(matches!(&refused, Error::Json { what, .. } if what == name), "{text}: {refused}");
        assert_eq!(refused.fault(), Fault::Layout);
    }
}

#[test]
fn indexes_are_read_to_a_depth_and_no_further() {
    for (depth, good) in [(16, true), (17, false)] {
        let mut world = World::new();
        let mut top = world.image("one", &json!({}));
        for _ in 0..depth {
            top = world.index(&[&top]);
        }
        world.list(&top, Some("v1"));
        let read = accepted(&world.open().unwrap());
        assert_eq!(read.is_ok(), good, "{depth}: {read:?}");
    }
}

#[test]
fn what_is_no_layout_says_why() {
    let world = World::new();
    assert!(matches!(world.open(), Err(Error::Empty)));
    let said = |path: &Path| Layout::open(path).unwrap_err().to_string();
    world.write("oci-layout", b"{\"imageLayoutVersion\":\"2.0.0\"}");
    assert!(said(&world.path()).contains("imageLayoutVersion is not 1.0.0"));
    world.write("oci-layout", b"{");
    assert!(said(&world.path()).contains("oci-layout cannot be parsed"));
    world.write("oci-layout", &[b' '; 5000]);
    assert!(said(&world.path()).contains("at most 4096"));
    fs::remove_file(world.path().join("oci-layout")).unwrap();
    assert!(said(&world.path()).contains("has no file oci-layout"));
    fs::create_dir(world.path().join("oci-layout")).unwrap();
    assert!(said(&world.path()).contains("or no file"));
    assert!(said(&world.path().join("nothing")).contains("neither a folder nor a file"));
    let file = world.folder.path().join("file");
    for (bytes, words) in [
        (b"\x1f\x8b\x08\x00rest".as_slice(), "compressed"),
        (b"\x28\xb5\x2f\xfdrest", "compressed"),
        (b"", "ends in the middle of a header"),
        (b"text", "ends in the middle of a header"),
        (&[b'x'; 512], "checksum does not match"),
    ] {
        fs::write(&file, bytes).unwrap();
        assert!(said(&file).contains(words), "{}", said(&file));
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.folder.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(said(&world.folder.path().join("pipe")).contains("neither a folder nor a file"));
}
