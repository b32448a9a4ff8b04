//! Which formats are supported, and how damage to a container is reported.

use super::*;

#[test]
fn every_compression_unpacks_to_the_same_tree() {
    let plain = tar(&[directory("./"), directory("./d/"), file("./d/f", "hello"), link("./l", "d/f")]);
    let zst = zstd::encode_all(plain.as_slice(), 3).unwrap();
    for bytes in
        [plain.clone(), gzip(&plain), xz(&plain), zst.clone(), deb(&plain), deb(&xz(&plain)), deb(&zst)]
    {
        let world = World::new();
        assert_eq!(world.unpack(&bytes).unwrap().entries, 4);
        assert_eq!(world.read("d/f"), "hello");
        assert_eq!(world.read("l"), "hello");
    }
}

#[test]
fn modes_times_and_setuid_bits_are_fixed() {
    let world = World::new();
    let suid = Entry { mode: 0o4711, mtime: 5, ..file("d/suid", "x") };
    let late = Entry { mode: 0o600, mtime: 9_000_000_000, ..file("d/late", "x") };
    let sticky = Entry { mode: 0o1777, ..directory("tmp") };
    world.unpack_with(&tar(&[suid, late, sticky]), &Options { epoch: 100, ..Options::default() }).unwrap();
    let root = world.root();
    assert_eq!((mode(&root.join("d/suid")), mtime(&root.join("d/suid"))), (0o755, 5));
    assert_eq!((mode(&root.join("d/late")), mtime(&root.join("d/late"))), (0o644, 100));
    for folder in [root.join("tmp"), root.join("d"), root.clone()] {
        assert_eq!((mode(&folder), mtime(&folder)), (0o755, 100), "{folder:?}");
    }
}

#[test]
fn long_names_of_both_dialects_are_read() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let world = World::new();
    let gnu = format!("{}/{}", "g".repeat(120), "h".repeat(200));
    let name = format!("{gnu}\0");
    let mut bytes = Vec::new();
    append(&mut bytes, &file(&long, "pax"));
    append(&mut bytes, &Entry { kind: b'L', ..file("././@LongLink", &name) });
    append(&mut bytes, &file("short", "gnu"));
    bytes.extend_from_slice(&[0; 1024]);
    world.unpack(&bytes).unwrap();
    assert_eq!((world.read(&long), world.read(&gnu)), ("pax".into(), "gnu".into()));
}

#[test]
fn a_truncated_archive_is_refused_wherever_it_is_cut() {
    let text = "text ".repeat(3000);
    let plain = tar(&[file("a", &text), file("b", &text)]);
    for whole in [
        plain.clone(),
        gzip(&plain),
        xz(&plain),
        zstd::encode_all(plain.as_slice(), 3).unwrap(),
        deb(&plain),
        deb(&xz(&plain)),
    ] {
        // The last block of the end marker may be missing: tar writes two, and one is enough to know the end.
        let last = whole.len() - if whole.len() == plain.len() { 1024 } else { 1 };
        for cut in [1, 7, 8, 40, 100, last / 3, last / 2, last].into_iter().filter(|c| *c <= last) {
            let world = World::new();
            let error = world.unpack(&whole[..cut]).unwrap_err();
            let named = matches!(
                error,
                UnpackError::Truncated { .. }
                    | UnpackError::Format { .. }
                    | UnpackError::Deb { .. }
                    | UnpackError::Tar { .. }
                    | UnpackError::Decode { .. }
            );
            assert!(named, "{cut} of {}: {error}", whole.len());
            assert!(error.is_archives_fault());
        }
    }
}

#[test]
fn a_flipped_byte_in_compressed_data_is_noticed() {
    let numbers: String = (0..5000).map(|n| (n * 7919 % 6007).to_string()).collect();
    let data = xz(&tar(&[file("a", &numbers)]));
    let whole = deb(&data);
    for from_end in (1..data.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[whole.len() - from_end] ^= 0x10;
        assert!(World::new().unpack(&damaged).is_err(), "{from_end} before the end of {}", data.len());
    }
}

#[test]
fn the_checksum_after_the_end_marker_is_read_too() {
    let mut damaged = gzip(&tar(&[file("a", "x")]));
    let crc = damaged.len() - 8;
    damaged[crc] ^= 1;
    let error = World::new().unpack(&damaged).unwrap_err();
    assert!(matches!(error, UnpackError::Decode { format: "gzip", .. }), "{error}");
}

#[test]
fn an_archive_without_entries_is_refused() {
    assert!(matches!(
        World::new().unpack(&[]).unwrap_err(),
        UnpackError::Format { looks_like: "an empty file", .. }
    ));
    for empty in [vec![0; 1024], gzip(&[0; 1024]), deb(&[0; 1024])] {
        assert!(matches!(World::new().unpack(&empty).unwrap_err(), UnpackError::Empty { .. }));
    }
}

#[test]
fn bzip2_is_named_in_the_refusal() {
    let error = World::new().unpack(b"BZh91AY&SY").unwrap_err();
    assert!(error.to_string().contains("bzip2, which is not supported"), "{error}");
}

#[test]
fn a_bad_ar_header_is_refused_with_its_offset() {
    let mut bytes = deb(&xz(&tar(&[file("a", "x")])));
    bytes[8 + 58] = b'!';
    let error = World::new().unpack(&bytes).unwrap_err();
    assert!(matches!(error, UnpackError::Deb { offset: 8, .. }), "{error}");
}

#[test]
fn a_deb_needs_its_three_members_in_order() {
    let (version, control): (&[u8], &[u8]) = (b"2.0\n", b"x");
    let data = tar(&[file("a", "x")]);
    for (members, missing) in [
        (vec![("debian-binary", version), ("control.tar.gz", control)], "no data.tar"),
        (vec![("debian-binary", version), ("data.tar", &data)], "no control.tar"),
        (vec![("control.tar.gz", control), ("data.tar", &data)], "no debian-binary"),
        (
            vec![("debian-binary", b"3.0\n"), ("control.tar.gz", control), ("data.tar", &data)],
            "version is not 2",
        ),
        (
            vec![("debian-binary", version), ("control.tar.gz", control), ("x", b""), ("data.tar", &data)],
            "no data.tar",
        ),
    ] {
        let error = World::new().unpack(&ar(&members)).unwrap_err();
        assert!(matches!(&error, UnpackError::Deb { .. }) && error.to_string().contains(missing), "{error}");
    }
    let members =
        [("debian-binary", version), ("control.tar", control), ("_gpgorigin", b"sig"), ("data.tar/", &data)];
    World::new().unpack(&ar(&members)).unwrap();
}

#[test]
fn a_damaged_tar_header_is_refused_with_its_offset() {
    let mut bytes = tar(&[file("a", "x"), file("b", "y")]);
    bytes[1024] ^= 1;
    let error = World::new().unpack(&bytes).unwrap_err();
    assert!(matches!(error, UnpackError::Tar { offset: 1024, .. }), "{error}");
}
