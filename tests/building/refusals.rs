//! Bad input gets one sentence and the right exit code, and nothing is served.

use std::fs;

use crate::harness::{GOOD, World};

/// Nothing of a build that failed may be visible in the registry.
#[track_caller]
fn nothing_is_tagged(world: &World) {
    let catalog = fs::read(world.path("data/catalog.sqlite")).unwrap_or_default();
    let wal = fs::read(world.path("data/catalog.sqlite-wal")).unwrap_or_default();
    let needle = b"test/hello";
    let found = [catalog, wal].iter().any(|bytes| bytes.windows(needle.len()).any(|w| w == needle));
    assert!(!found, "the repository is known to the catalog");
}

#[test]
fn a_tampered_package_is_refused() {
    let world = World::new();
    world.server.tamper("pool/tools.deb");
    world.build("data", "hello").refused(3, &["tools.deb", "not what the lock says", "expected sha256:"]);
    nothing_is_tagged(&world);
}

#[test]
fn a_package_that_changes_in_the_store_is_refused() {
    let world = World::new();
    world.build("data", "hello").good();
    fs::remove_dir_all(world.path("data/roots")).unwrap();
    world.recipe("hello", &format!("{GOOD}echo > $OUT/etc/more\n"));
    let package = world.server.get("pool/tools.deb").unwrap();
    for (path, mut bytes) in crate::harness::files_below(&world.path("data/blobs")) {
        if bytes == package {
            bytes[100] ^= 1;
            // Stored files are read-only, so replace the file; a bad disk changes it without permission.
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
    world.build("data", "hello").refused(3, &["tools_1", "in the store is not what its name says", "remove"]);
}

#[test]
fn a_truncated_and_a_longer_package_are_refused() {
    let world = World::new();
    let package = world.server.get("pool/tools.deb").unwrap();
    for wrong in [package[..package.len() / 2].to_vec(), [&package[..], b"x"].concat()] {
        world.server.put("pool/tools.deb", wrong);
        world.build("data", "hello").refused(3, &["tools.deb", "not what the lock says", "bytes"]);
        let partial = crate::harness::files_below(&world.path("data/work/partial"));
        assert!(partial.values().all(Vec::is_empty), "{:?}", partial.keys());
    }
}

#[test]
fn a_half_fetched_file_that_rotted_is_fetched_anew() {
    let world = World::new();
    world.server.cut("pool/tools.deb", 1000);
    world.build("data", "hello").refused(4, &["tools.deb"]);
    world.server.cut("pool/tools.deb", 0);
    for (path, mut bytes) in crate::harness::files_below(&world.path("data/work/partial")) {
        bytes[10] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    world.build("data", "hello").good();
}

#[test]
fn a_tampered_source_description_is_refused() {
    let world = World::new();
    world.server.tamper("pool/h/hello_1.0-1.dsc");
    world.build("data", "hello").refused(3, &["hello_1.0-1.dsc", "expected sha256:"]);
    nothing_is_tagged(&world);
}

#[test]
fn a_tampered_tarball_is_refused() {
    let world = World::new();
    world.server.tamper("pool/h/hello_1.0.orig.tar.xz");
    world.build("data", "hello").refused(3, &["hello_1.0.orig.tar.xz"]);
}

#[test]
fn an_unsigned_archive_index_is_refused() {
    let world = World::new();
    world.server.put("dists/stable/InRelease", b"Codename: stable\nSHA256:\n".to_vec());
    world.build("data", "hello").refused(3, &["InRelease of stable", "carries no signature"]);
}

#[test]
fn an_archive_index_signed_by_somebody_else_is_refused() {
    let world = World::new();
    let other = World::new();
    world.server.put("dists/stable/InRelease", other.server.get("dists/stable/InRelease").unwrap());
    world.build("data", "hello").refused(3, &["refused by policy debian", "0 of 1"]);
}

#[test]
fn an_unknown_recipe_names_the_known_ones() {
    let world = World::new();
    world.build("data", "goodbye").refused(2, &["no recipe goodbye", "hello"]);
}

#[test]
fn an_unknown_version_names_the_locked_ones() {
    let world = World::new();
    world.run("data", &["hello", "9.9"]).refused(2, &["9.9", "1.0-1", "hab-build lock recipe hello"]);
}

#[test]
fn malformed_toml_is_shown_with_file_and_line() {
    let world = World::new();
    let path = world.path("recipes/hello/recipe.toml");
    let text = fs::read_to_string(&path).unwrap().replace("summary = \"test\"", "summary = ");
    fs::write(&path, text).unwrap();
    world.build("data", "hello").refused(2, &["hello/recipe.toml", "line 2"]);
    let text = fs::read_to_string(&path).unwrap().replace("summary = ", "sumary = \"test\"");
    fs::write(&path, text).unwrap();
    world.build("data", "hello").refused(2, &["unknown field `sumary`", "expected one of"]);
}

#[test]
fn a_lock_that_does_not_match_its_recipe_is_refused() {
    let world = World::new();
    let path = world.path("recipes/hello/recipe.toml");
    let text = fs::read_to_string(&path).unwrap().replace("package = \"hello\"", "package = \"other\"");
    fs::write(&path, text).unwrap();
    world.build("data", "hello").refused(2, &["hello/recipe.lock", "hab-build lock recipe hello"]);
}

#[test]
fn a_lock_that_names_another_source_than_the_signed_one_is_refused() {
    let world = World::new();
    let path = world.path("recipes/hello/recipe.lock");
    let text = fs::read_to_string(&path).unwrap();
    let dsc = hab_oci::Digest::of(&world.server.get("pool/h/hello_1.0-1.dsc").unwrap());
    fs::write(&path, text.replace(dsc.hex(), &"0".repeat(64))).unwrap();
    world.build("data", "hello").refused(3, &["not the one in the lock", "hab-build lock recipe hello"]);
}

#[test]
fn nothing_mirrored_and_offline_is_said() {
    let world = World::new();
    world.run("data", &["hello", "--offline"]).refused(4, &["not mirrored", "nothing is fetched offline"]);
}

#[test]
fn a_bad_index_that_was_seen_does_not_spoil_the_accepted_one() {
    let world = World::new();
    world.build("data", "hello").good();
    world.recipe("hello", &format!("{GOOD}echo > $OUT/etc/more\n"));
    world.server.put("dists/stable/InRelease", b"Codename: stable\nSHA256:\n".to_vec());
    world.build("data", "hello").refused(3, &["carries no signature"]);
    world.server.stop();
    world.build("data", "hello").good();
}

#[test]
fn an_older_index_than_the_accepted_one_is_not_used() {
    let world = World::new();
    world.build("data", "hello").good();
    world.recipe("hello", &format!("{GOOD}echo > $OUT/etc/more\n"));
    // A correctly signed InRelease of the day before, as from an upstream that holds back security fixes.
    world.publish_archive_of("Fri, 10 Jan 2025 10:05:31 UTC");
    let built = world.build("data", "hello").good();
    assert!(built.stderr.contains("older than the one of 2025-01-11"), "{}", built.stderr);
    let documents = built.json["source"]["evidence"]["documents"].to_string();
    let accepted = crate::harness::accepted_index(&world);
    assert!(documents.contains(&accepted), "{documents} without {accepted}");
}

#[test]
fn an_upstream_with_other_signatures_does_not_hide_the_next_one() {
    let (world, vendor) = (World::new(), World::new());
    world.write_config_with(&[vendor.server.address()]);
    world.build("data", "hello").good();
    // If no upstream has a good one, the error is the refusal, not the upstream that does not answer.
    world.server.stop();
    fs::remove_dir_all(world.path("data")).unwrap();
    world.build("data", "hello").refused(3, &["0 of 1 required signatures"]);
}

#[test]
fn an_upstream_that_is_away_is_said() {
    let world = World::new();
    world.server.stop();
    world.build("data", "hello").refused(4, &["InRelease of stable", "could not be fetched"]);
}

#[test]
fn a_recipe_that_embeds_the_time_is_not_reproducible() {
    let world = World::new();
    world.recipe("hello", &format!("{GOOD}date +%s.%N > $OUT/etc/when\n"));
    let built = world.build("data", "hello");
    built.refused(5, &["not reproducible", "etc/when", "line 1", "both outputs are kept"]);
    assert!(
        built.stderr.contains("second run") && !built.stderr.contains("second/elsewhere run"),
        "{}",
        built.stderr
    );
    for run in ["first", "second"] {
        let kept = crate::harness::files_below(&world.path("data/work/builds"));
        let is_runs = |path: &std::path::PathBuf| {
            let path = path.display().to_string();
            path.contains(&format!("/{run}/")) && path.ends_with("/out/etc/when")
        };
        assert!(kept.keys().any(is_runs), "{run}");
    }
    nothing_is_tagged(&world);
}

#[test]
fn what_must_not_matter_is_changed_between_the_runs() {
    let world = World::new();
    for (what, line) in [
        ("job count", "echo $JOBS"),
        ("umask", "umask"),
        ("file order", "ls -U $SRC/many"),
        ("uptime", "read -r up _ < /proc/uptime; echo ${up%%.*} | head -c 4"),
    ] {
        world.recipe("hello", &format!("{GOOD}{{ {line}; }} > $OUT/etc/x\n"));
        let built = world.build("data", "hello");
        built.refused(5, &["etc/x"]);
        println!("{what}: {}", built.stderr);
    }
}

#[test]
fn a_build_that_fails_shows_its_last_lines_and_the_log() {
    let world = World::new();
    world.recipe("hello", "echo about to fail; exit 7");
    let built = world.build("data", "hello");
    built.refused(3, &["exit status 7", "about to fail", "first.log"]);
    nothing_is_tagged(&world);
}

#[test]
fn a_build_cannot_put_the_host_into_its_image() {
    for (name, link) in [("out", "rmdir $OUT; ln -s /etc $OUT"), ("debug", "rmdir $DEBUG; ln -s /etc $DEBUG")]
    {
        let world = World::new();
        let script = if name == "out" { link.to_owned() } else { format!("{GOOD}{link}") };
        world.recipe("hello", &script);
        world.build("data", "hello").refused(3, &[name, "the folder was replaced by something else"]);
        nothing_is_tagged(&world);
    }
}

#[test]
fn a_build_that_writes_nothing_is_said() {
    let world = World::new();
    world.recipe("hello", "true");
    world.build("data", "hello").refused(3, &["wrote no file to $OUT"]);
}

#[test]
fn a_program_without_its_library_is_not_an_image() {
    let world = World::new();
    // tar needs more than the C library.
    world.recipe("hello", "mkdir -p $OUT/usr/bin; cp /usr/bin/tar $OUT/usr/bin/hello");
    world.build("data", "hello").refused(3, &["not whole", "usr/bin/hello"]);
}

#[test]
fn an_image_that_does_not_do_what_it_should_is_not_published() {
    let world = World::new();
    world.recipe(
        "hello",
        "mkdir -p $OUT/usr/bin; cp /usr/bin/sort $OUT/usr/bin/hello; cp /usr/bin/cat $OUT/usr/bin/x",
    );
    let path = world.path("recipes/hello/recipe.toml");
    let text = fs::read_to_string(&path).unwrap().replace("expect = \"coreutils\"", "expect = \"bitcoin\"");
    fs::write(&path, text).unwrap();
    world.build("data", "hello").refused(3, &["did not print \"bitcoin\""]);
    nothing_is_tagged(&world);
}

#[test]
fn a_build_beyond_its_limits_is_stopped() {
    let world = World::new();
    world.recipe("hello", "dd if=/dev/zero of=$WORK/big bs=1M count=400; sleep 30");
    world.build("data", "hello").refused(3, &["disk space"]);
}

#[test]
fn an_argument_that_is_no_platform_is_usage() {
    let world = World::new();
    let output = world.run("data", &["hello", "--platform", "linux/riscv", "--json"]);
    output.refused(2, &["linux/riscv"]);
    assert!(output.stderr.contains("linux/amd64"), "{}", output.stderr);
}
