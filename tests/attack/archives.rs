//! Archives, exports and documents from a stranger.

use std::fs;
use std::process::Stdio;

use hab_oci::Digest;
use serde_json::{Value, json};

use crate::harness::{Outcome, Upstream, World, files_below};

/// A tar header with the right checksum.
fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = [header(name, b'0', content.len() as u64), content.to_vec()].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

const END: [u8; 1024] = [0; 1024];

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A zstd frame of `count` times 128 KiB of zeros, four bytes each (RFC 8878, "Blocks": RLE).
fn zeros(count: usize) -> Vec<u8> {
    let block = |last: u32| (((128 << 10) << 3) | (1 << 1) | last).to_le_bytes()[..3].to_vec();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for at in 1..=count {
        frame.extend(block(u32::from(at == count)));
        frame.push(0);
    }
    frame
}

/// The manifest of an export, with a change.
fn manifest(change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = json!({"format": 1, "created": 0, "since": null, "projects": [], "certificates": [],
                              "blobs": [], "assumed": [], "names": []});
    change(&mut manifest);
    manifest
}

fn with_manifest(manifest: &Value, rest: &[Vec<u8>]) -> Vec<u8> {
    [entry("manifest.json", manifest.to_string().as_bytes()), rest.concat(), END.to_vec()].concat()
}

fn blob(bytes: &[u8]) -> Vec<u8> {
    entry(&format!("blobs/{}", Digest::of(bytes).hex()), bytes)
}

fn import(world: &World, data: &str, bytes: &[u8]) -> Outcome {
    let file = world.file(&format!("{data}.tar.zst"), bytes);
    world.run(data, &["mirror", "import", &file, "--json"])
}

/// No byte of the refused file is in the store or beside it.
#[track_caller]
fn nothing_stayed(world: &World, data: &str) {
    for folder in ["blobs/sha256", "blobs/tmp", "work/partial"] {
        let found = files_below(&world.path(data).join(folder));
        assert!(found.is_empty(), "{folder}: {:?}", found.keys());
    }
}

/// Runs the program with a limit of address space. A program that asks for more dies without an error message.
fn within(world: &World, mebibytes: u64, data: &str, words: &[&str]) -> Outcome {
    let inner = world.command(data, words);
    let mut outer = std::process::Command::new("sh");
    outer.args(["-c", &format!("ulimit -v {}; exec \"$@\"", mebibytes << 10), "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args()).env("NO_COLOR", "1").stdin(Stdio::null());
    Outcome::of(&outer.output().unwrap())
}

#[test]
fn a_name_of_gigabytes_takes_no_memory() {
    let world = World::new();
    for (kind, words) in [
        (b'L', "the name is longer than"),
        (b'K', "target is longer than"),
        (b'x', "the pax header is larger than"),
        (b'g', "the pax header is larger than"),
    ] {
        // 8 GiB of zeros in 262 kB, before the manifest and after it.
        let long = [zstd(&header("././@LongLink", kind, 8 << 30)), zeros(8 << 13)].concat();
        let ordinary = zstd(&with_manifest(&manifest(|_| {}), &[])[..1024]);
        for bytes in [long.clone(), [ordinary, long].concat()] {
            let file = world.file("long.tar.zst", bytes);
            within(&world, 6 << 10, "data", &["mirror", "import", &file]).refused(3, &[words]);
            nothing_stayed(&world, "data");
        }
    }
}

#[test]
fn a_manifest_of_gigabytes_is_not_read() {
    let world = World::new();
    let huge = [zstd(&header("manifest.json", b'0', 1 << 30)), zeros(8 << 10)].concat();
    let file = world.file("huge.tar.zst", huge);
    within(&world, 6 << 10, "data", &["mirror", "import", &file])
        .refused(3, &["manifest.json", "larger than"]);
    // A list of many tiny items takes many times its size in memory.
    let tiny = format!("{{\"format\":1,\"assumed\":[{}0]}}", "0,".repeat(2_100_000));
    let bytes = [entry("manifest.json", tiny.as_bytes()), END.to_vec()].concat();
    import(&world, "data", &zstd(&bytes)).refused(3, &["lists more than 2000000 items"]);
    nothing_stayed(&world, "data");
}

#[test]
fn a_document_of_megabytes_that_calls_itself_an_in_release_is_not_read() {
    let world = World::new();
    let large = vec![0; 40 << 20];
    let digest = Digest::of(&large);
    let manifest = manifest(|m| {
        m["blobs"] = json!([[digest, large.len()]]);
        m["names"] =
            json!([{"kind": "debian-in-release-accepted", "name": "stable", "digest": digest, "size": 1}]);
    });
    let bytes = zstd(&with_manifest(&manifest, &[blob(&large)]));
    assert!(bytes.len() < 100_000);
    import(&world, "data", &bytes).refused(3, &["has 41943040 bytes: at most 33554432 are read"]);
    nothing_stayed(&world, "data");
}

#[test]
fn what_nothing_here_names_is_not_kept_and_counted() {
    let world = World::new();
    let (large, line) = (vec![7; 8 << 20], b"{\"name\":\"a\",\"vers\":\"1.0.0\",\"cksum\":\"00\"}".to_vec());
    let (large_digest, line_digest) = (Digest::of(&large), Digest::of(&line));
    let named = |kind: &str, name: &str, digest: &Digest| json!({"kind": kind, "name": name, "digest": digest, "size": 1});
    // The names in an export do not make anything known here, whatever their kind.
    let kinds =
        ["debian-pool", "debian-index", "crate", "depends-source", "release-file", "plain-file", "made-up"];
    let mut names: Vec<_> = kinds.iter().map(|kind| named(kind, "a/b/c", &large_digest)).collect();
    names.push(named("crate-line", "a 1.0.0", &line_digest));
    let manifest = manifest(|m| {
        m["blobs"] = json!([[large_digest, large.len()], [line_digest, line.len()]]);
        m["names"] = json!(names);
    });
    let outcome =
        import(&world, "data", &zstd(&with_manifest(&manifest, &[blob(&large), blob(&line)]))).good();
    assert_eq!(outcome.json["nameless"], json!({"blobs": 2, "bytes": large.len() + line.len()}));
    assert!(outcome.stderr.contains("0 of 2 files are kept"), "{}", outcome.stderr);
    nothing_stayed(&world, "data");
}

#[test]
fn a_file_that_holds_other_things_than_it_announces_is_refused_as_a_whole() {
    let world = World::new();
    let announced = |size: usize| manifest(|m| m["blobs"] = json!([[Digest::of(b"one"), size]]));
    let whole = with_manifest(&announced(3), &[blob(b"one")]);
    import(&world, "whole", &zstd(&whole)).good();
    let twice = manifest(|m| m["blobs"] = json!([[Digest::of(b"one"), 3], [Digest::of(b"one"), 3]]));
    let end = whole.len() - END.len();
    for (what, bytes, words) in [
        (
            "a last entry that nobody announced",
            with_manifest(&announced(3), &[blob(b"one"), blob(b"two")]),
            "the archive should have ended before it",
        ),
        (
            "a folder behind it",
            with_manifest(&announced(3), &[blob(b"one"), header("d/", b'5', 0)]),
            "the archive should have ended before it",
        ),
        (
            "a link behind it",
            with_manifest(&announced(3), &[blob(b"one"), header("l", b'2', 0)]),
            "a link without a target",
        ),
        ("a shorter entry", with_manifest(&announced(4), &[blob(b"one")]), "has 3 bytes, not 4"),
        ("a longer entry", with_manifest(&announced(2), &[blob(b"one")]), "has 3 bytes, not 2"),
        ("another entry", with_manifest(&announced(3), &[blob(b"two")]), "found blobs/"),
        (
            "other bytes",
            with_manifest(&announced(3), &[entry(&format!("blobs/{}", Digest::of(b"one").hex()), b"two")]),
            "could not be kept",
        ),
        ("one announced twice", with_manifest(&twice, &[blob(b"one"), blob(b"one")]), "twice"),
        ("no end", whole[..end].to_vec(), "before its end marker"),
        ("a second archive", [whole.clone(), whole.clone()].concat(), "bytes follow the archive's end"),
        ("a word behind it", [whole.clone(), b"x".to_vec()].concat(), "bytes follow the archive's end"),
        ("a cut entry", whole[..end - 512].to_vec(), "ends in the middle of"),
    ] {
        let outcome = import(&world, "data", &zstd(&bytes));
        assert_eq!(outcome.code, Some(3), "{what}: {}", outcome.stderr);
        outcome.refused(3, &[words]);
        nothing_stayed(&world, "data");
    }
    let cut = zstd(&whole);
    for bytes in [&cut[..cut.len() - 1], &[&cut[..], b"x"].concat()] {
        import(&world, "data", bytes).refused(3, &["an export of a mirror"]);
    }
    nothing_stayed(&world, "data");
}

#[test]
fn a_bomb_stops_before_it_fills_the_disk() {
    let world = World::new();
    // 1 GiB of zeros in 33 kB; the manifest and the tar header state that size.
    let digest = Digest::of(b"never read that far");
    let manifest = manifest(|m| m["blobs"] = json!([[digest, 1_u64 << 30]]));
    let start = [
        entry("manifest.json", manifest.to_string().as_bytes()),
        header(&format!("blobs/{}", digest.hex()), b'0', 1 << 30),
    ];
    let bytes = [zstd(&start.concat()), zeros(8 << 10)].concat();
    import(&world, "data", &bytes).refused(3, &["decompresses to more than 1000 times its size"]);
    nothing_stayed(&world, "data");
}

#[test]
fn an_import_tells_what_it_did_in_whole_sentences() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&world.maintainer));
    world.git_recipe("node", crate::harness::GOOD, &upstream.url());
    world.run("data", &["mirror", "sync", "node"]).good();
    let file = world.path("all.tar.zst").display().to_string();
    world.run("data", &["mirror", "export", &file]).good();
    let outcome = world.run("other", &["mirror", "import", &file, "--json"]).good();
    let said = &outcome.stderr;
    assert!(said.contains("node: new here, with 2 refs"), "{said}");
    assert_eq!(
        (&outcome.json["projects"]["node"]["new"], &outcome.json["projects"]["node"]["refs"]),
        (&json!(true), &json!(2))
    );
    // The message does not mention --offline, which nobody gave. All missing files that locks name are one line.
    assert!(!said.contains("--offline"), "{said}");
    let missing = outcome.json["missing"].as_u64().unwrap();
    assert!(missing > 1);
    assert_eq!(said.matches("locks here name").count(), 1, "{said}");
    assert!(said.contains(&format!("{missing} files that locks here name were not in {file}")), "{said}");
    let again = world.run("other", &["mirror", "import", &file]).good().stderr;
    assert!(again.contains("node: 0 changes"), "{again}");
    // With --offline the message mentions it, also in one line.
    let packages = world.run("third", &["mirror", "packages", "--offline"]);
    assert_eq!(packages.stderr.matches("other files are not here either").count(), 1, "{}", packages.stderr);
}

#[test]
fn an_image_that_docker_saved_brings_nothing_from_outside_and_nothing_that_is_wrong() {
    let world = World::new();
    world.file("secret", "outside");
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [Digest::of(b"outside")]}}).to_string();
    let saved = json!([{"Config": "c.json", "RepoTags": ["a:v1"], "Layers": ["l.tar"]}]).to_string();
    let link = |target: &str| {
        let mut link = tar::Header::new_gnu();
        link.as_mut_bytes().copy_from_slice(&header("l.tar", b'2', 0));
        link.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        link.set_cksum();
        link.as_bytes().to_vec()
    };
    let file = |layer: Vec<u8>| {
        let parts = [
            entry("c.json", config.as_bytes()),
            layer,
            entry("manifest.json", saved.as_bytes()),
            END.to_vec(),
        ];
        world.file("saved.tar", parts.concat())
    };
    let import = |file: &str| world.run("data", &["registry", "import", file, "from/docker", "--json"]);
    for (layer, words) in [
        (link("secret"), "which is not in it"),
        (link("../secret"), "leads out of it"),
        (link(&world.path("secret").display().to_string()), "leads out of it"),
        (entry("l.tar", b"another"), "the bytes at"),
        (header("l.tar", b'1', 0), "a link without a target"),
        (header("l.tar", b'3', 0), "neither a file nor a folder"),
    ] {
        import(&file(layer)).refused(3, &[words]);
        assert!(files_below(&world.path("data/blobs/sha256")).is_empty());
    }
    import(&file(entry("l.tar", b"outside"))).good();
    assert_eq!(fs::read(world.path("secret")).unwrap(), b"outside");
}
