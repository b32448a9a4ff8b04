//! Many packages in one root, and the options for toolchains and sources.

use std::os::unix::fs::MetadataExt;

use super::*;

fn merged() -> Options {
    Options { merged_usr: true, epoch: 5000, ..Options::default() }
}

#[test]
fn old_and_new_paths_meet_in_a_merged_usr() {
    let world = World::new();
    let old = deb(&xz(&tar(&[
        directory("./"),
        directory("./lib/"),
        file("./lib/x.so.1", "so"),
        link("./bin/sh", "dash"),
    ])));
    let new = deb(&xz(&tar(&[
        directory("./usr/lib/"),
        file("./usr/lib/x.so.1", "so"),
        file("./usr/bin/dash", "#!"),
    ])));
    let base = deb(&xz(&tar(&[link("./lib64", "usr/lib64"), link("./bin", "/usr/bin")])));
    world.packages(&[old, new, base], &merged()).unwrap();
    assert_eq!(fs::read_link(world.root().join("lib")).unwrap(), Path::new("usr/lib"));
    assert!(world.root().join("libx32").is_dir());
    assert_eq!((world.read("lib/x.so.1"), world.read("usr/bin/sh")), ("so".into(), "#!".into()));
}

#[test]
fn absolute_links_stay_within_a_root_that_becomes_a_sysroot() {
    let world = World::new();
    let package = deb(&xz(&tar(&[
        link("./usr/lib/t/libm.so", "/lib/t/libm.so.6"),
        link("./usr/lib/t/libx.so", "libx.so.1"),
        link("./etc", "/usr/etc"),
        file("./lib/t/libm.so.6", "libm"),
    ])));
    world.packages(&[package], &Options { relative_links: true, ..merged() }).unwrap();
    let target = |path: &str| fs::read_link(world.root().join(path)).unwrap();
    assert_eq!(target("usr/lib/t/libm.so"), Path::new("../../../lib/t/libm.so.6"));
    assert_eq!(target("usr/lib/t/libx.so"), Path::new("libx.so.1"));
    assert_eq!(target("etc"), Path::new("usr/etc"));
    assert_eq!(world.read("usr/lib/t/libm.so"), "libm");
}

#[test]
fn two_packages_may_share_directories_and_identical_files_only() {
    let package = |content: &str| deb(&tar(&[directory("./d"), file("./d/shared", content)]));
    World::new().packages(&[package("same"), package("same")], &Options::default()).unwrap();
    let error = World::new().packages(&[package("one"), package("two")], &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "p1: \"d/shared\" is also in p0, and differs there");
}

#[test]
fn the_first_package_decides_the_time_of_a_shared_file() {
    let package = |time, padding: &str| {
        let shared = Entry { mtime: time, ..file("shared", "same") };
        deb(&tar(&[shared, file(&format!("only-{time}"), padding)]))
    };
    let big = "x".repeat(100_000);
    for (one, two) in [("", big.as_str()), (big.as_str(), "")] {
        let world = World::new();
        world.packages(&[package(7, one), package(3, two)], &merged()).unwrap();
        assert_eq!(mtime(&world.root().join("shared")), 7);
    }
}

#[test]
fn a_link_of_one_package_leads_no_other_package_anywhere() {
    let evil = deb(&tar(&[link("./usr/share/doc", "../../..")]));
    let victim = deb(&tar(&[file("./usr/share/doc/made", "bad")]));
    for packages in [[evil.clone(), victim.clone()], [victim, evil]] {
        let world = World::new();
        let error = world.packages(&packages, &Options::default()).unwrap_err();
        assert!(matches!(error, UnpackError::ThroughLink { .. } | UnpackError::Conflict { .. }), "{error}");
        world.assert_nothing_outside();
    }
}

#[test]
fn a_damaged_package_is_named() {
    let good = deb(&xz(&tar(&[file("./a", "x")])));
    let cut = deb(&xz(&tar(&[file("./b", &"y".repeat(9000))])));
    let error =
        World::new().packages(&[good, cut[..cut.len() - 20].to_vec()], &Options::default()).unwrap_err();
    assert!(matches!(&error, UnpackError::Truncated { archive, .. } if archive == "p1"), "{error}");
}

#[test]
fn links_of_the_caller_come_last() {
    let world = World::new();
    let links =
        vec![("usr/bin/cc".to_owned(), "gcc-12".to_owned()), ("bin/awk".to_owned(), "mawk".to_owned())];
    let options = Options { links, ..merged() };
    world.packages(&[deb(&tar(&[file("./usr/bin/gcc-12", "gcc")]))], &options).unwrap();
    assert_eq!(world.read("usr/bin/cc"), "gcc");
    assert_eq!(fs::read_link(world.root().join("usr/bin/awk")).unwrap(), Path::new("mawk"));
    let world = World::new();
    let error = world.packages(&[deb(&tar(&[file("./usr/bin/cc", "other")]))], &options).unwrap_err();
    assert!(matches!(error, UnpackError::Conflict { .. }), "{error}");
    let options = Options { links: vec![("../x".into(), "y".into())], ..merged() };
    assert!(matches!(
        world.packages(&[], &options),
        Err(UnpackError::Name { problem: NameProblem::Parent, .. })
    ));
}

#[test]
fn progress_counts_to_the_end_and_cancelling_stops() {
    let world = World::new();
    let path = world.archive("p.deb", &deb(&tar(&[file("./a", "x")])));
    let packages = [("p".to_owned(), path.clone()), ("q".to_owned(), path)];
    let seen = std::sync::Mutex::new(Vec::new());
    let progress = |p: Progress<'_>| seen.lock().unwrap().push((p.packages, p.bytes == p.bytes_total));
    unpack_packages(&packages, &world.root(), &Options::default(), &progress, &RUN).unwrap();
    seen.lock().unwrap().sort_unstable();
    assert_eq!(*seen.lock().unwrap(), [(1, false), (2, true)]);
    let stop = AtomicBool::new(true);
    let error = unpack_packages(&packages, &world.root(), &Options::default(), &|_| {}, &stop).unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled) && !error.is_archives_fault());
}

#[test]
fn every_order_gives_the_same_tree() {
    let names: Vec<_> = (0..20).map(|n| format!("top/d{}/f{n}", n % 3)).collect();
    let mut entries: Vec<_> = names.iter().map(|n| file(n, n)).collect();
    entries.insert(0, directory("top/d1/"));
    entries.push(hard_link("top/a-link", "top/d1/f1"));
    let bytes = tar(&entries);
    let list = |order| {
        let world = World::new();
        let options = Options { order, strip_components: 1, ..Options::default() };
        world.unpack_with(&bytes, &options).unwrap();
        assert_eq!(world.read("a-link"), "top/d1/f1");
        (world.read("d2/f2"), world.read("d0/f18"))
    };
    let expected = list(Order::AsIs);
    for order in [Order::Sorted, Order::Reversed, Order::Shuffled(1), Order::Shuffled(2)] {
        assert_eq!(list(order), expected);
    }
}

#[test]
fn owners_are_set_where_that_is_allowed() {
    let world = World::new();
    let me = fs::metadata(world.folder.path()).unwrap();
    let options = Options { owner: Some((me.uid(), me.gid())), ..Options::default() };
    world.unpack_with(&tar(&[file("d/f", ""), link("l", "d")]), &options).unwrap();
    for path in ["d/f", "d", "l"] {
        let found = fs::symlink_metadata(world.root().join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (me.uid(), me.gid()));
    }
}
