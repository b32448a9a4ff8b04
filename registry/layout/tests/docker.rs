//! What `docker save` wrote over the years, and what others could make of it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use hab_layout::{Content, Error, Fault, Layout};
use hab_oci::{Digest, media_type};
use serde_json::{Value, json};

/// One file of an archive: its name, and its bytes or where it leads.
enum Member {
    File(String, Vec<u8>),
    Link(String, String),
}

fn file(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Member {
    Member::File(name.into(), bytes.into())
}

fn link(name: &str, target: &str) -> Member {
    Member::Link(name.to_owned(), target.to_owned())
}

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, members: &[Member]) -> PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        for member in members {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(0);
            match member {
                Member::File(name, bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
                }
                Member::Link(name, target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, name, target).unwrap();
                }
            }
        }
        let path = self.0.path().join("saved.tar");
        std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
        path
    }

    fn read(&self, members: &[Member]) -> Result<(Layout, Content), Error> {
        everything(&self.write(members))
    }

    #[track_caller]
    fn refused(&self, members: &[Member], words: &[&str]) {
        let error = self.read(members).unwrap_err();
        for word in words {
            assert!(error.to_string().contains(word), "no {word:?} in {error}");
        }
        assert_eq!(error.fault(), Fault::Layout, "{error}");
    }
}

fn everything(path: &Path) -> Result<(Layout, Content), Error> {
    let layout = Layout::open(path)?;
    let content = layout.everything()?;
    layout.verify(&content)?;
    Ok((layout, content))
}

const ONE: &[u8] = b"layer one, which no registry looks into";
const TWO: &[u8] = b"layer two";

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex().to_owned()
}

fn listed(config: &str, tags: &[&str], layers: &[&str]) -> Value {
    json!({"Config": config, "RepoTags": tags, "Layers": layers})
}

fn manifest(images: &[Value]) -> Member {
    file("manifest.json", json!(images).to_string())
}

/// As docker 20 writes it: a folder for each layer, and one that two images share is a link the second time.
fn legacy() -> Vec<Member> {
    let (a, b) = (config(&[ONE, TWO]), config(&[ONE]));
    let names = [format!("{}.json", hex(&a)), format!("{}.json", hex(&b))];
    vec![
        file("1111/VERSION", "1.0"),
        file("1111/json", "{}"),
        file("1111/layer.tar", ONE),
        file("2222/VERSION", "1.0"),
        file("2222/json", "{}"),
        file("2222/layer.tar", TWO),
        file("3333/VERSION", "1.0"),
        link("3333/layer.tar", "../1111/layer.tar"),
        file(&names[0], a),
        file(&names[1], b),
        manifest(&[
            listed(&names[0], &["hab/a:v1", "localhost:5000/a:v2"], &["1111/layer.tar", "2222/layer.tar"]),
            listed(&names[1], &["hab/b:v3"], &["3333/layer.tar"]),
        ]),
        file("repositories", "{\"hab/a\":{\"v1\":\"2222\"}}"),
    ]
}

#[test]
fn images_of_the_old_kind_get_manifests_that_are_a_function_of_them() {
    let world = World::new();
    let (_, content) = world.read(&legacy()).unwrap();
    let tags: Vec<_> = content.tags.keys().map(ToString::to_string).collect();
    assert_eq!(tags, ["v1", "v2", "v3"]);
    assert_eq!((content.manifests.len(), content.blobs.len()), (2, 4));
    let made: Value = serde_json::from_slice(&content.manifests[0].bytes).unwrap();
    assert_eq!(made["mediaType"], media_type::IMAGE_MANIFEST);
    assert_eq!(made["config"]["digest"], Digest::of(&config(&[ONE, TWO])).to_string());
    assert_eq!(made["config"]["mediaType"], media_type::IMAGE_CONFIG);
    let layers: Vec<_> = made["layers"].as_array().unwrap().iter().map(|l| &l["digest"]).collect();
    assert_eq!(layers, [&json!(Digest::of(ONE)), &json!(Digest::of(TWO))]);
    assert_eq!(made["layers"][0]["mediaType"], media_type::LAYER);
    // Whatever lies where, and in whichever order.
    let mut moved = legacy();
    moved.reverse();
    let (_, again) = world.read(&moved).unwrap();
    assert_eq!(again.tags, content.tags);
    // One of them, by its tag.
    let layout = Layout::open(&world.write(&legacy())).unwrap();
    assert_eq!(layout.one(&"v3".parse().unwrap()).unwrap().blobs.len(), 2);
}

#[test]
fn an_image_without_a_name_or_without_layers_is_one_too() {
    let world = World::new();
    let bytes = config(&[]);
    let members =
        [file("c.json", bytes), manifest(&[json!({"Config": "c.json", "RepoTags": null, "Layers": null})])];
    let layout = Layout::open(&world.write(&members)).unwrap();
    assert!(matches!(layout.everything(), Err(Error::NoTag)));
    assert_eq!(layout.one(&"mine".parse().unwrap()).unwrap().blobs.len(), 1);
    let none = world.read(&[manifest(&[])]).unwrap_err();
    assert!(matches!(none, Error::Empty), "{none}");
}

#[test]
fn compressed_layers_stay_as_they_are_and_are_held_against_what_they_unpack_to() {
    let world = World::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(ONE).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(TWO, 1).unwrap();
    let saved = |second: &[u8]| {
        vec![
            file("c.json", config(&[ONE, TWO])),
            file("1.tar.gz", gzip.clone()),
            file("2.tar.zst", second),
            manifest(&[listed("c.json", &["a:v1"], &["1.tar.gz", "2.tar.zst"])]),
        ]
    };
    let (_, content) = world.read(&saved(&zstd)).unwrap();
    let kinds: Vec<_> = content.blobs.values().map(|blob| blob.media_type.as_str()).collect();
    assert!(kinds.contains(&media_type::LAYER_GZIP) && kinds.contains(&media_type::LAYER_ZSTD));
    assert!(content.blobs.contains_key(&Digest::of(&gzip)) && content.blobs.contains_key(&Digest::of(&zstd)));
    world.refused(&saved(&zstd::encode_all(ONE, 1).unwrap()), &["the bytes at", &hex(TWO)]);
    world.refused(&saved(&zstd[..zstd.len() - 1]), &["2.tar.zst does not decompress"]);
    world.refused(&saved(b"BZh91AY&SY"), &["no registry serves"]);
}

#[test]
fn what_manifest_json_says_and_the_archive_has_not_is_refused() {
    let world = World::new();
    let one = |config: &str, layers: &[&str]| manifest(&[listed(config, &["a:v1"], layers)]);
    let (good, layer) = (config(&[ONE]), || file("l.tar", ONE));
    let wrong_name = format!("{}.json", hex(b"another"));
    for (members, words) in [
        (vec![layer(), one("c.json", &["l.tar"])], vec!["manifest.json names c.json", "not in it"]),
        (vec![file("c.json", good.clone()), one("c.json", &["l.tar"])], vec!["manifest.json names l.tar"]),
        (
            vec![file("c.json", good.clone()), layer(), one("c.json", &[])],
            vec!["c.json names 1 layers, and manifest.json 0"],
        ),
        (
            vec![file("c.json", good.clone()), layer(), one("c.json", &["l.tar", "l.tar"])],
            vec!["manifest.json 2"],
        ),
        (
            vec![file("c.json", good.clone()), file("l.tar", TWO), one("c.json", &["l.tar"])],
            vec!["the bytes at", "sha256:"],
        ),
        (vec![file(&wrong_name, good.clone()), layer(), one(&wrong_name, &["l.tar"])], vec!["the bytes at"]),
        (vec![file("c.json", "{}"), layer(), one("c.json", &["l.tar"])], vec!["c.json cannot be parsed"]),
        (vec![file("manifest.json", "{")], vec!["manifest.json cannot be parsed"]),
        (vec![file("manifest.json", "[{\"Config\":7}]")], vec!["manifest.json cannot be parsed"]),
        (vec![file("manifest.json", vec![b' '; (4 << 20) + 1])], vec!["manifest.json has", "at most"]),
        (vec![file("c.json", vec![b' '; (4 << 20) + 1]), one("c.json", &[])], vec!["c.json has", "at most"]),
        (vec![manifest(&vec![listed("c", &[], &[]); 1001])], vec!["more than 1000 images"]),
        (vec![one("c", &["l"; 1001])], vec!["more than 1000 layers"]),
    ] {
        world.refused(&members, &words);
    }
}

#[test]
fn a_link_leads_to_a_layer_of_the_archive_or_the_image_is_refused() {
    let world = World::new();
    std::fs::write(world.0.path().join("layer.tar"), ONE).unwrap();
    let outside = world.0.path().join("layer.tar").display().to_string();
    let image = |target: &str| {
        vec![
            file("c.json", config(&[ONE])),
            link("a/layer.tar", target),
            manifest(&[listed("c.json", &["a:v1"], &["a/layer.tar"])]),
        ]
    };
    for target in [outside.as_str(), "../../layer.tar", "../../../etc/passwd", "/etc/passwd"] {
        world.refused(&image(target), &["leads out of it"]);
    }
    for target in ["layer.tar", "../b/layer.tar", "../a"] {
        world.refused(&image(target), &["names a/layer.tar, which is not in it"]);
    }
    // Where nothing was saved by docker, no link is accepted at all.
    let layout = [
        file("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"),
        file("index.json", "{}"),
        link("x", "index.json"),
    ];
    world.refused(&layout, &["that is a link"]);
    for path in ["../saved.tar", "/etc/passwd", "a/../c.json", ""] {
        let members = [file("c.json", config(&[ONE])), manifest(&[listed("c.json", &["a:v1"], &[path])])];
        world.refused(&members, &["which is not in it"]);
    }
}

type Change = fn(&mut Value, &mut Value);

/// As docker 25 and later write it: an OCI layout, and manifest.json names files of it.
fn twins(change: impl Fn(&mut Value, &mut Value)) -> Vec<Member> {
    let mut members = Vec::new();
    let mut blob = |kind: &str, bytes: &[u8]| {
        let name = format!("blobs/sha256/{}", hex(bytes));
        if !members.iter().any(|m| matches!(m, Member::File(n, _) if *n == name)) {
            members.push(file(name, bytes));
        }
        json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
    };
    let mut images = Vec::new();
    for layers in [[ONE], [TWO]] {
        let config = blob(media_type::IMAGE_CONFIG, &config(&layers));
        let layer = blob(media_type::LAYER, layers[0]);
        let image = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": [layer]});
        images.push(blob(media_type::IMAGE_MANIFEST, image.to_string().as_bytes()));
    }
    let within = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [images[1]]});
    let mut second = blob(media_type::IMAGE_INDEX, within.to_string().as_bytes());
    let mut first = images[0].clone();
    for (entry, tag) in [(&mut first, "v1"), (&mut second, "v2")] {
        let whole = format!("docker.io/hab/a:{tag}");
        entry["annotations"] =
            json!({"io.containerd.image.name": whole, "org.opencontainers.image.ref.name": tag});
    }
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let mut index = json!({"schemaVersion": 2, "manifests": [first, second]});
    let mut saved = json!([
        listed(&path(&config(&[ONE])), &["hab/a:v1"], &[&path(ONE)]),
        listed(&path(&config(&[TWO])), &["hab/a:v2"], &[&path(TWO)]),
    ]);
    change(&mut index, &mut saved);
    members.push(file("index.json", index.to_string()));
    members.push(file("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"));
    members.push(file("manifest.json", saved.to_string()));
    members
}

#[test]
fn a_file_that_is_both_must_say_the_same_in_both() {
    let world = World::new();
    let (_, content) = world.read(&twins(|_, _| {})).unwrap();
    // As the layout has them: nothing is made anew.
    assert_eq!((content.tags.len(), content.manifests.len(), content.blobs.len()), (2, 3, 4));
    let changes: [(Change, &str); 7] = [
        (|_, saved| saved[0]["RepoTags"][0] = json!("hab/a:v2"), "is not the image that is tagged v2"),
        (|_, saved| saved[0]["RepoTags"][0] = json!("hab/a:v9"), "is not the image that is tagged v9"),
        (|_, saved| saved[0]["Layers"] = saved[1]["Layers"].clone(), "is not the image that is tagged v1"),
        (|_, saved| saved[0]["Config"] = saved[1]["Config"].clone(), "is not the image that is tagged v1"),
        (|_, saved| drop(saved.as_array_mut().unwrap().remove(1)), "the tag v2 is only in index.json"),
        (
            |index, _| drop(index["manifests"].as_array_mut().unwrap().remove(0)),
            "is not the image that is tagged v1",
        ),
        (|_, saved| saved[0]["RepoTags"][0] = json!("no tag"), "is no name of an image"),
    ];
    for (change, words) in changes {
        world.refused(&twins(change), &[words]);
    }
}

#[test]
fn the_twin_of_a_folder_is_looked_at_too_and_leads_nowhere() {
    let world = World::new();
    let folder = world.0.path().join("layout");
    for member in twins(|_, saved| saved[0]["Layers"][0] = json!("../saved.tar")) {
        let Member::File(name, bytes) = member else { continue };
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let error = everything(&folder).unwrap_err();
    assert!(error.to_string().contains("names ../saved.tar, which is not in it"), "{error}");
}

#[test]
fn what_docker_saved_is_refused_where_it_could_be_read_in_two_ways() {
    let world = World::new();
    let saved = |config: &[u8], more: &str| {
        let name = format!("{}.json", hex(config));
        let image = format!(r#"[{{"Config":"{name}","RepoTags":["a:v1"],"Layers":["1.tar"]{more}}}]"#);
        vec![file("1.tar", ONE), file(name, config), file("manifest.json", image)]
    };
    let good = config(&[ONE]);
    world.read(&saved(&good, "")).unwrap();
    for more in [r#","layers":["2.tar"]"#, r#","Layers":["1.tar"]"#, r#","config":"x.json""#] {
        world.refused(&saved(&good, more), &["manifest.json cannot be parsed"]);
    }
    let text = String::from_utf8(good).unwrap();
    for more in [r#","RootFS":{"type":"layers","diff_ids":[]}"#, r#","os":"linux""#] {
        let config = format!("{}{more}}}", text.strip_suffix('}').unwrap());
        world.refused(&saved(config.as_bytes(), ""), &[".json cannot be parsed"]);
    }
}
