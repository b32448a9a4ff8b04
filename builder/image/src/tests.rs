//! Layers and images as callers make them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use hab_oci::{Descriptor, Digest, Platform};
use proptest::prelude::*;

use super::*;

/// Bytes that can be compressed, but not to almost nothing; the same on every machine.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    // These are more than three of zstd's jobs.
    (0..25 << 20).map(|_| next()).collect()
});

fn sample() -> Layer<'static> {
    let mut layer = Layer::new(1_700_000_000).unwrap();
    layer.file("usr/bin/bitcoind", true, NOISE.len() as u64, || Ok(NOISE.as_slice())).unwrap();
    layer.bytes("etc/passwd", false, "bitcoin:x:1000:1000::/:\n").unwrap();
    layer.link("bin", "usr/bin").unwrap();
    layer.directory("data", Directory { mode: 0o700, uid: 1000, gid: 1000 }).unwrap();
    layer.bytes(&format!("usr/{}/{}", "d".repeat(140), "f".repeat(120)), false, "long").unwrap();
    layer.bytes(&format!("usr/{}/file", "d".repeat(140)), false, "divided").unwrap();
    layer.link("usr/ünïcode", &"t".repeat(120)).unwrap();
    layer
}

fn pack(layer: Layer<'_>, compression: Compression, threads: usize) -> (PackedLayer, Vec<u8>) {
    let mut blob = Vec::new();
    let packed = layer.pack(compression, threads, &mut blob).unwrap();
    (packed, blob)
}

fn unpacked(blob: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Zstd => zstd::decode_all(blob).unwrap(),
        Compression::Gzip => {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(blob).read_to_end(&mut tar).unwrap();
            tar
        }
    }
}

#[test]
fn both_digests_are_of_what_was_written() {
    for compression in [Compression::Zstd, Compression::Gzip] {
        let (packed, blob) = pack(sample(), compression, 2);
        assert_eq!(packed.descriptor, Descriptor::of(compression.media_type(), &blob));
        let tar = unpacked(&blob, compression);
        assert_eq!((packed.diff_id, packed.tar_size), (Digest::of(&tar), tar.len() as u64));
    }
}

#[test]
fn a_tar_reader_sees_sorted_entries_with_fixed_metadata() {
    let tar = unpacked(&pack(sample(), Compression::Zstd, 1).1, Compression::Zstd);
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), 1_700_000_000);
        assert_eq!((header.username(), header.groupname()), (Ok(Some("")), Ok(Some(""))));
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        seen.push((path, header.mode().unwrap(), header.uid().unwrap()));
    }
    let long = "d".repeat(140);
    let expected = [
        ("bin".to_owned(), 0o777, 0),
        ("data/".to_owned(), 0o700, 1000),
        ("etc/".to_owned(), 0o755, 0),
        ("etc/passwd".to_owned(), 0o644, 0),
        ("usr/".to_owned(), 0o755, 0),
        ("usr/bin/".to_owned(), 0o755, 0),
        ("usr/bin/bitcoind".to_owned(), 0o755, 0),
        (format!("usr/{long}/"), 0o755, 0),
        (format!("usr/{long}/{}", "f".repeat(120)), 0o644, 0),
        (format!("usr/{long}/file"), 0o644, 0),
        ("usr/ünïcode".to_owned(), 0o777, 0),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    for compression in [Compression::Zstd, Compression::Gzip] {
        let one = pack(sample(), compression, 1);
        for threads in [0, 2, 3, 8] {
            assert!(pack(sample(), compression, threads) == one, "{compression:?} with {threads} threads");
        }
    }
}

/// If the first of these changes, every image's identity changes: bump the plan's version with it. If the others do, a
/// compressor has changed (zstd by Cargo.lock, zlib-rs by Cargo.toml to the last digit): images built before keep their
/// diffIDs, but a rebuild of them gets another manifest digest.
#[test]
fn digests_are_pinned() {
    let (zstd, _) = pack(sample(), Compression::Zstd, 2);
    let (gzip, _) = pack(sample(), Compression::Gzip, 2);
    assert_eq!(zstd.diff_id, gzip.diff_id);
    let digests = [zstd.diff_id, zstd.descriptor.digest, gzip.descriptor.digest].map(|d| d.to_string());
    assert_eq!(
        digests,
        [
            "sha256:b31150d8d666895c32c415d7b2b4fa36a270a7f02a601af359ef09d9e68d314b",
            "sha256:9b87f51712679ef5b25a30bc2f9432fd3fec3c29b6429a844dd74cadeb7b89c9",
            "sha256:5405ed2ecf42ada80d22b94ddd1a334b2ff765cb139a63095a12f6f129f6ef54",
        ]
    );
}

#[test]
fn an_image_is_compressed_so_that_every_docker_reads_it_unless_its_recipe_says_otherwise() {
    let (packed, blob) = pack(sample(), Compression::default(), 2);
    assert_eq!(packed.descriptor.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(blob[..2], [0x1f, 0x8b]);
}

#[test]
fn one_frame_with_a_checksum_and_the_pinned_window() {
    let (_, blob) = pack(sample(), Compression::Zstd, 2);
    // RFC 8878, 3.1.1.1: no dictionary, a checksum, no single segment, no content size; then the window: 2^22.
    assert_eq!(blob[..6], [0x28, 0xb5, 0x2f, 0xfd, 0b0000_0100, (22 - 10) << 3]);
    let one = zstd::zstd_safe::find_frame_compressed_size(&blob).unwrap();
    assert_eq!(one, blob.len());
    let (_, blob) = pack(sample(), Compression::Gzip, 1);
    assert_eq!(blob[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
}

#[test]
fn bad_paths_and_contradictions_are_refused() {
    let mut layer = Layer::new(0).unwrap();
    for bad in ["/etc", "", "a//b", "a/", "./a", "../a", "a/../b", "a\0b", "a/.wh.b", ".wh..wh..opq"] {
        assert!(matches!(layer.bytes(bad, false, ""), Err(ImageError::Path { .. })), "{bad:?}");
    }
    layer.bytes("a/f", false, "").unwrap();
    layer.link("l", "a").unwrap();
    assert!(matches!(layer.bytes("a/f", false, ""), Err(ImageError::Duplicate { .. })));
    assert!(matches!(layer.bytes("a", false, ""), Err(ImageError::Duplicate { .. })));
    assert!(matches!(layer.bytes("a/f/g", false, ""), Err(ImageError::Parent { .. })));
    assert!(matches!(layer.bytes("l/g", false, ""), Err(ImageError::Parent { .. })));
    assert!(matches!(layer.link("x", ""), Err(ImageError::Path { .. })));
    let wrong = Directory { mode: 0o10_000, ..Directory::default() };
    assert!(matches!(layer.directory("d", wrong), Err(ImageError::Mode { .. })));
    layer.directory("a", Directory::default()).unwrap();
    assert!(matches!(
        layer.directory("a", Directory { mode: 0o700, uid: 0, gid: 0 }),
        Err(ImageError::Duplicate { .. })
    ));
    assert!(matches!(Layer::new(-1), Err(ImageError::Epoch(-1))));
}

#[test]
fn a_file_that_changed_its_size_or_fails_is_named() {
    for (size, said) in [(3, "longer"), (5, "shorter")] {
        let mut layer = Layer::new(0).unwrap();
        layer.file("f", false, size, || Ok(&b"four"[..])).unwrap();
        let error = layer.pack(Compression::Zstd, 1, &mut Vec::new()).unwrap_err();
        assert!(matches!(&error, ImageError::Size { relation, .. } if *relation == said), "{error}");
    }
    let mut layer = Layer::new(0).unwrap();
    layer.file("f", false, 1, || Err::<&[u8], _>(io::Error::other("gone"))).unwrap();
    let error = layer.pack(Compression::Zstd, 1, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, ImageError::Read { path, .. } if path == "f"), "{error}");
}

struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_the_packing_at_once() {
    let mut layer = Layer::new(0).unwrap();
    for n in 0..100 {
        layer.file(&format!("endless-{n}"), false, 1 << 40, || Ok(io::repeat(7))).unwrap();
    }
    let error = layer.pack(Compression::Gzip, 1, &mut Full).unwrap_err();
    assert!(matches!(error, ImageError::Write(_)), "{error}");
}

fn spec(platform: Platform) -> ImageSpec {
    let strings = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect();
    ImageSpec {
        entrypoint: strings(&["/usr/bin/bitcoind"]),
        cmd: strings(&["-datadir=/data"]),
        user: "1000:1000".into(),
        ports: strings(&["8333/tcp", "8332"]),
        volumes: strings(&["/data"]),
        env: BTreeMap::from([("PATH".into(), "/usr/bin".into())]),
        workdir: "/data".into(),
        stop_signal: "SIGTERM".into(),
        annotations: BTreeMap::from([(hab_oci::annotations::VERSION.into(), "31.1".into())]),
        ..ImageSpec::new(platform, 1_231_006_505)
    }
}

#[test]
fn a_configuration_says_what_the_spec_says() {
    let (packed, _) = pack(sample(), Compression::Gzip, 1);
    let image = assemble(&spec(Platform::LinuxArm64), std::slice::from_ref(&packed)).unwrap();
    let text = String::from_utf8(image.config.clone()).unwrap();
    let expected = format!(
        "{{\"created\":\"2009-01-03T18:15:05Z\",\"architecture\":\"arm64\",\"os\":\"linux\",\"config\":{{\
         \"User\":\"1000:1000\",\"ExposedPorts\":{{\"8332\":{{}},\"8333/tcp\":{{}}}},\"Env\":[\"PATH=/usr/bin\"],\
         \"Entrypoint\":[\"/usr/bin/bitcoind\"],\"Cmd\":[\"-datadir=/data\"],\"Volumes\":{{\"/data\":{{}}}},\
         \"WorkingDir\":\"/data\",\"Labels\":{{\"org.opencontainers.image.created\":\"2009-01-03T18:15:05Z\",\
         \"org.opencontainers.image.version\":\"31.1\"}},\"StopSignal\":\"SIGTERM\"}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{}\"]}}}}",
        packed.diff_id
    );
    assert_eq!(text, expected);
    assert_eq!(image.config_descriptor.digest, Digest::of(&image.config));
    assert_eq!(image.descriptor.digest, Digest::of(&image.manifest));
    assert_eq!(image.descriptor.platform, Some(Platform::LinuxArm64));
}

#[test]
fn an_index_is_sorted_and_has_each_platform_once() {
    let images = Platform::ALL.map(|p| assemble(&spec(p), &[]).unwrap().descriptor);
    let [amd64, arm64] = images;
    let notes = BTreeMap::new;
    let straight = index(&[amd64.clone(), arm64.clone()], notes()).unwrap();
    assert_eq!(index(&[arm64, amd64.clone()], notes()).unwrap(), straight);
    assert!(index(&[], notes()).is_err());
    assert!(index(&[amd64.clone(), amd64.clone()], notes()).is_err());
    assert!(index(&[Descriptor { platform: None, ..amd64 }], notes()).is_err());
}

#[test]
fn values_that_a_runtime_would_not_understand_are_refused() {
    let base = || spec(Platform::LinuxAmd64);
    for bad in [
        ImageSpec { ports: vec!["http".into()], ..base() },
        ImageSpec { ports: vec!["0/tcp".into()], ..base() },
        ImageSpec { volumes: vec!["data".into()], ..base() },
        ImageSpec { workdir: "data".into(), ..base() },
        ImageSpec { env: BTreeMap::from([("A=B".into(), String::new())]), ..base() },
    ] {
        assert!(matches!(assemble(&bad, &[]), Err(ImageError::Spec { .. })));
    }
}

/// Writes an OCI image layout, as `skopeo` and `podman` read it.
fn layout(folder: &Path, compression: Compression) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    let (packed, blob) = pack(sample(), compression, 2);
    let image = assemble(&spec(Platform::LinuxAmd64), &[packed]).unwrap();
    put(&blob);
    put(&image.config);
    put(&image.manifest);
    let (bytes, _) = index(&[image.descriptor], BTreeMap::new()).unwrap();
    std::fs::write(folder.join("index.json"), bytes).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn skopeo_reads_and_copies_the_image() {
    for compression in [Compression::Zstd, Compression::Gzip] {
        let folder = tempfile::tempdir().unwrap();
        let image = format!("oci:{}", folder.path().join("image").display());
        layout(&folder.path().join("image"), compression);
        let Ok(inspected) = Command::new("skopeo").args(["inspect", &image]).output() else {
            return hab_skip::skip(hab_skip::Lack::Program, "no skopeo");
        };
        let text = String::from_utf8_lossy(&inspected.stdout);
        assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
        assert!(text.contains("\"Created\": \"2009-01-03T18:15:05Z\"") && text.contains("amd64"), "{text}");
        // A copy that decompresses checks both the blob's digest and the diffID.
        let copy = format!("dir:{}", folder.path().join("copy").display());
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-decompress", &image, &copy])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_insertion_does_not_matter(
        files in proptest::collection::btree_map("[a-c]{1,2}(/[a-c.é]{1,3}x){0,3}", ".{0,40}", 1..12),
        rotate in 0_usize..12,
        reverse: bool,
    ) {
        let build = |order: &[(&String, &String)]| {
            let mut layer = Layer::new(1).unwrap();
            let added = order.iter().try_for_each(|(path, content)| layer.bytes(path, true, content.as_bytes()));
            // Whether entries contradict each other does not depend on the order either.
            added.is_ok().then(|| pack(layer, Compression::Zstd, 1))
        };
        let straight: Vec<_> = files.iter().collect();
        let mut other = straight.clone();
        other.rotate_left(rotate % straight.len());
        if reverse {
            other.reverse();
        }
        prop_assert!(build(&straight) == build(&other));
    }
}
