//! Archives that try to write elsewhere, or to fill the disk.

use super::*;

fn refusal(world: &World, entries: &[Entry<'_>]) -> UnpackError {
    let error = world.unpack(&tar(entries)).unwrap_err();
    world.assert_nothing_outside();
    error
}

#[test]
fn parents_and_absolute_paths_are_refused() {
    for path in ["../outside", "a/../../outside", "..", "a/..", "./../outside"] {
        let error = refusal(&World::new(), &[file(path, "bad")]);
        assert!(
            matches!(&error, UnpackError::Name { problem: NameProblem::Parent, entry, .. } if entry == path),
            "{error}"
        );
    }
    let error = refusal(&World::new(), &[file("/outside", "bad")]);
    assert!(matches!(error, UnpackError::Name { problem: NameProblem::Absolute, .. }), "{error}");
    let error = refusal(&World::new(), &[file("./.", "bad")]);
    assert!(matches!(error, UnpackError::Name { problem: NameProblem::Empty, .. }), "{error}");
}

#[test]
fn a_leading_slash_in_a_deb_is_its_root() {
    let world = World::new();
    world.unpack(&deb(&tar(&[file("/usr/share/x", "y")]))).unwrap();
    assert_eq!(world.read("usr/share/x"), "y");
}

#[test]
fn nothing_goes_through_a_link_that_the_archive_made() {
    let world = World::new();
    let outside = world.folder.path().to_str().unwrap().to_owned();
    for target in [outside.as_str(), "..", ".", "/"] {
        let world = World::new();
        for entry in
            [file("l/made", "bad"), directory("l/made"), link("l/made", "x"), file("l/deep/er", "bad")]
        {
            let error = refusal(&world, &[link("l", target), entry]);
            assert!(
                matches!(&error, UnpackError::ThroughLink { archive, .. } if archive == "a.tar"),
                "{error}"
            );
            fs::remove_dir_all(world.root()).unwrap();
        }
        let error = refusal(&world, &[link("l", target), file("l", "bad")]);
        assert!(matches!(error, UnpackError::Conflict { .. }), "{error}");
        fs::remove_dir_all(world.root()).unwrap();
        let error = refusal(&world, &[link("l", target), directory("l")]);
        assert!(matches!(error, UnpackError::Conflict { .. }), "{error}");
    }
}

#[test]
fn nothing_goes_through_a_link_that_was_there_before() {
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    std::os::unix::fs::symlink("..", world.root().join("up")).unwrap();
    std::os::unix::fs::symlink("../outside", world.root().join("f")).unwrap();
    let error = refusal(&world, &[file("up/made", "bad")]);
    assert!(matches!(error, UnpackError::ThroughLink { .. }), "{error}");
    assert!(world.unpack(&tar(&[file("f", "bad")])).is_err());
    world.assert_nothing_outside();
}

#[test]
fn hard_links_reach_only_earlier_files_of_the_archive() {
    for target in ["../outside", "/etc/passwd", "missing", "l/outside", "l", "d"] {
        let entries = [link("l", ".."), directory("d"), hard_link("h", target)];
        let error = refusal(&World::new(), &entries);
        assert!(
            matches!(error, UnpackError::HardLink { .. } | UnpackError::Name { .. }),
            "{target}: {error}"
        );
    }
    let world = World::new();
    world.unpack(&tar(&[file("./d/f", "x"), hard_link("./h", "./d/f")])).unwrap();
    assert_eq!(world.read("h"), "x");
}

#[test]
fn devices_are_refused_or_skipped() {
    for kind in [b'3', b'4', b'6'] {
        let node = || Entry { kind, ..file("dev/x", "") };
        let error = refusal(&World::new(), &[node()]);
        assert!(matches!(error, UnpackError::Special { .. }), "{error}");
        let world = World::new();
        let options = Options { special: Special::Skip, ..Options::default() };
        world.unpack_with(&tar(&[node(), file("f", "")]), &options).unwrap();
        assert!(!world.root().join("dev/x").exists());
    }
    // An entry that the reader cannot skip safely is an error: other readers would see other entries after it.
    for kind in [b'S', b'M', b'X', b'Z'] {
        let options = Options { special: Special::Skip, ..Options::default() };
        let error =
            World::new().unpack_with(&tar(&[Entry { kind, ..file("dev/x", "") }]), &options).unwrap_err();
        assert!(
            matches!(&error, UnpackError::Tar { entry: Some(e), offset: 0, .. } if e == "dev/x"),
            "{error}"
        );
    }
}

#[test]
fn bombs_stop_at_the_limits() {
    let limits =
        UnpackLimits { bytes: 100_000, entries: 50, path: 200, memory: 20_000, ..UnpackLimits::default() };
    let unpack = |bytes: &[u8], order| {
        let world = World::new();
        world.unpack_with(bytes, &Options { order, limits, ..Options::default() }).unwrap_err()
    };
    let zeros = "\0".repeat(200_000);
    let big = gzip(&tar(&[file("big", &zeros)]));
    assert!(matches!(unpack(&big, Order::AsIs), UnpackError::TooManyBytes { limit: 100_000, .. }));
    let kept = gzip(&tar(&[file("kept", &zeros[..50_000])]));
    assert!(matches!(unpack(&kept, Order::Reversed), UnpackError::TooMuchMemory { limit: 20_000, .. }));
    let after_the_end = gzip(&[tar(&[file("a", "")]), vec![0; 200_000]].concat());
    assert!(matches!(unpack(&after_the_end, Order::AsIs), UnpackError::TooManyBytes { .. }));
    let names: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    let many = tar(&names.iter().map(|n| file(n, "")).collect::<Vec<_>>());
    assert!(matches!(unpack(&many, Order::AsIs), UnpackError::TooManyEntries { limit: 50, .. }));
    assert!(matches!(unpack(&many, Order::Sorted), UnpackError::TooManyEntries { .. }));
}

#[test]
fn a_lie_about_a_length_allocates_nothing() {
    let mut bytes = tar(&[Entry { kind: b'x', ..file("pax", "") }]);
    let size = format!("{:011o}", 7_u64 << 30);
    let sum: u32 = bytes[124..135].iter().map(|b| u32::from(*b)).sum();
    let new: u32 = size.bytes().map(u32::from).sum();
    let old = u32::from_str_radix(str::from_utf8(&bytes[148..154]).unwrap(), 8).unwrap();
    bytes[124..135].copy_from_slice(size.as_bytes());
    bytes[148..154].copy_from_slice(format!("{:06o}", old + new - sum).as_bytes());
    let error = World::new().unpack(&bytes).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { .. }) && error.to_string().contains("65536"), "{error}");
}

#[test]
fn overlong_names_are_refused() {
    let component = "c".repeat(256);
    let path = format!("{}/", "p".repeat(99)).repeat(11);
    for name in [component, path] {
        let error = refusal(&World::new(), &[file(&name, "")]);
        assert!(matches!(error, UnpackError::Name { problem: NameProblem::TooLong, .. }), "{error}");
    }
}

#[test]
fn folders_lie_only_so_deep_within_each_other() {
    let error = refusal(&World::new(), &[file(&"p/".repeat(300), "")]);
    assert!(
        matches!(error, UnpackError::Limit { .. }) && error.to_string().contains("256 folders"),
        "{error}"
    );
}

#[test]
fn a_decompressor_that_wants_much_memory_gets_none() {
    let mut out = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    out.window_log(30).unwrap();
    out.write_all(&tar(&[file("a", "x")])).unwrap();
    let error = World::new().unpack(&out.finish().unwrap()).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { .. }) && error.to_string().contains("memory"), "{error}");
}

#[test]
fn what_follows_the_end_of_an_archive_is_refused() {
    let hidden = [tar(&[file("a", "x")]), tar(&[file("b", "y")])].concat();
    for bytes in
        [hidden.clone(), gzip(&hidden), deb(&hidden), [tar(&[file("a", "x")]), b"!".to_vec()].concat()]
    {
        let error = World::new().unpack(&bytes).unwrap_err();
        assert!(error.to_string().contains("bytes follow the archive's end"), "{error}");
    }
    let packages = [deb(&tar(&[file("a", "x")])), b"!<arch>\n".to_vec()].concat();
    assert!(World::new().unpack(&packages).is_err());
}

#[test]
fn two_declared_sizes_are_refused() {
    for record in ["12 size=999\n", "99 path=x\n", "9 nothing", "x"] {
        let error = refusal(&World::new(), &[Entry { kind: b'x', ..file("pax", record) }, file("f", "four")]);
        assert!(matches!(error, UnpackError::Tar { .. }), "{record:?}: {error}");
    }
}

#[test]
fn the_same_path_twice_is_an_error_unless_it_is_the_same() {
    let error = refusal(&World::new(), &[file("f", "one"), file("./f", "two")]);
    assert!(matches!(&error, UnpackError::Conflict { entry, .. } if entry == "f"), "{error}");
    World::new()
        .unpack(&tar(&[file("f", "one"), file("./f", "one"), link("l", "f"), link("l", "f")]))
        .unwrap();
    for second in [directory("f"), link("f", "x"), file("f/x", ""), Entry { mode: 0o755, ..file("f", "one") }]
    {
        let error = refusal(&World::new(), &[file("f", "one"), second]);
        assert!(matches!(error, UnpackError::Conflict { .. }), "{error}");
    }
    let error = refusal(&World::new(), &[file("d/x", ""), link("d", "e")]);
    assert!(matches!(error, UnpackError::Conflict { .. }), "{error}");
}

#[test]
fn a_layer_with_a_whiteout_is_refused() {
    let world = World::new();
    let bytes = tar(&[file("d/.wh.f", "")]);
    let error =
        unpack_layer("layer", &world.archive("l.tar", &bytes), &world.root(), &Options::default(), &RUN);
    assert!(matches!(error, Err(UnpackError::Name { problem: NameProblem::Whiteout, .. })));
    world.unpack(&bytes).unwrap();
}
