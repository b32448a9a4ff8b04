//! Hostile builds: their outputs (names, links, ELF files, sparse files), their image in the smoke test, their unpacked
//! source, and their log.

use std::io::Write as _;

use crate::harness::{GOOD, Outcome, World};

/// Builds with the good script followed by `attack`.
fn build(world: &World, attack: &str) -> Outcome {
    world.recipe("hello", &format!("{GOOD}{attack}\n"));
    world.build("data", "hello")
}

/// Asserts that the error is short and that nothing in it deceives a reader.
#[track_caller]
fn harmless(outcome: &Outcome) {
    let text = &outcome.stderr;
    assert!(text.len() < 64 << 10, "{} bytes: {text:.2000}", text.len());
    let bad = text.chars().find(|c| *c != '\n' && hab_oci::deceives(*c));
    assert_eq!(bad, None, "{text}");
    // A verdict begins at the margin, or with two spaces and a platform.
    let forged = ["evil", "  linux/amd64  sha256:00", "  linux-amd64"];
    let forged = text.lines().find(|line| forged.iter().any(|start| line.starts_with(start)));
    assert_eq!(forged, None, "{text}");
    assert!(outcome.json.to_string().len() < 64 << 10);
}

/// The bytes as escapes for the shell's printf.
fn printf(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The start of a shared library whose dynamic section has `entries`. Its string table of `size` bytes must follow.
fn library(entries: &[(u64, u64)], size: u64) -> Vec<u8> {
    let dynamic = 64 + 2 * 56;
    let table = dynamic + 16 * (entries.len() as u64 + 2);
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0_u64, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([0; 4]);
    for half in [64_u16, 56, 2, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for (kind, offset, size) in [(1_u64, 0, table + size), (2, dynamic, table - dynamic)] {
        bytes.extend((kind | 4 << 32).to_le_bytes());
        for word in [offset, offset, offset, size, size, 4096] {
            bytes.extend(word.to_le_bytes());
        }
    }
    for (tag, value) in [&[(5, table)], entries, &[(0, 0)]].concat() {
        bytes.extend(u64::to_le_bytes(tag));
        bytes.extend(u64::to_le_bytes(value));
    }
    bytes
}

#[test]
fn names_of_outputs_cannot_forge_a_verdict() {
    let world = World::new();
    for (attack, words) in [
        (r"echo x > $OUT/a$'\n''evil 0.2.0-2 built and verified'$'\e''[31mred'", "control character"),
        (r"echo $RANDOM > $OUT/a$'\n''  linux-amd64  sha256:00  2 runs identical'", "control character"),
        (r"echo x > $OUT/a$'\xe2\x80\xae'dlo", r"a\u{202e}dlo"),
        (r"ln -s x$'\n''evil built' $OUT/l", r"x\nevil built"),
        (r"echo x > $OUT/bad$'\xff\xfe'", "not UTF-8"),
        (r"mkdir $OUT/'.. '; echo x > $OUT/'.. /y'", "white space"),
        (r"echo x > $OUT/usr/bin/.wh.hello", "removes files in an image"),
        (
            r"n=$(printf 'p%.0s' {1..200}); cd $OUT; for i in {1..25}; do mkdir $n; cd -P $n 2>/dev/null || break; done",
            "too long",
        ),
    ] {
        let outcome = build(&world, attack);
        outcome.refused(3, &["left in out are refused", words]);
        harmless(&outcome);
    }
}

#[test]
fn what_no_image_holds_is_refused_by_name() {
    let world = World::new();
    for (attack, words) in [
        ("mkfifo $OUT/f", &["\"f\": neither a file"][..]),
        ("chmod 6755 $OUT/usr/bin/hello", &["usr/bin/hello", "mode 6755", "setuid"]),
        ("mkdir $OUT/q; chmod 000 $OUT/q", &["\"q\" has mode 0000"]),
        ("chmod 000 $OUT/usr/bin/hello", &["mode 0000", "cannot read it"]),
        ("ln -s ../../../../etc/shadow $OUT/shadow", &["\"shadow\"", "leads out of the image"]),
        ("mkfifo $DEBUG/f", &["left in debug are refused", "neither a file"]),
    ] {
        let outcome = build(&world, attack);
        outcome.refused(3, words);
        harmless(&outcome);
    }
    // A link to a folder of the host stays a link in the image, and is not followed while the image is made.
    let outcome = build(&world, "ln -s /etc $OUT/host; ln $OUT/etc/message $OUT/again").good();
    let outputs = outcome.json["platforms"][0]["outputs"].to_string();
    assert!(outputs.contains(r#""link":"/etc""#) && outputs.contains("again"), "{outputs}");
}

#[test]
fn a_folder_whose_mode_forbids_to_enter_is_no_way_to_hide() {
    let world = World::new();
    build(&world, "chmod 000 /build").good();
    let outcome = build(&world, "chmod 000 $OUT");
    outcome.refused(3, &["left in out are refused", "cannot read"]);
}

#[test]
fn sparse_files_count_in_full() {
    let world = World::new();
    for attack in [
        "for n in 1 2 3; do truncate -s 100M $OUT/$n; done",
        "truncate -s 250M $OUT/one; truncate -s 250M $OUT/two",
        "printf '\\x7fELF' > $OUT/s.so; truncate -s 255M $OUT/s.so; truncate -s 2M $OUT/again.so",
        "truncate -s 200M $OUT/one; truncate -s 100M $DEBUG/two",
    ] {
        let outcome = build(&world, attack);
        outcome.refused(3, &["are refused", "sparse ones count in full", "build.disk_mib"]);
        harmless(&outcome);
    }
}

#[test]
fn an_elf_file_that_was_made_to_be_read_slowly_is_refused_in_a_sentence() {
    let world = World::new();
    // 600 needed names of 1 MiB each, all in the same bytes.
    let bomb = library(&(0..600).map(|n| (1, n % 7)).collect::<Vec<_>>(), 1 << 20);
    let attack = format!("printf '{}' > $OUT/b.so; yes | head -c 1048576 >> $OUT/b.so", printf(&bomb));
    let outcome = build(&world, &attack);
    outcome.refused(3, &["b.so", "not a valid ELF file", "more than 4095 bytes in a name"]);
    harmless(&outcome);
    // The same name 3,000 times, to look for in the same folder 3,000 times.
    let entries: Vec<_> = [(29, 8)].into_iter().chain((0..3000).map(|_| (1, 0))).collect();
    let strings = format!("nolib.so{}", "x:".repeat(3000));
    let slow = [library(&entries, strings.len() as u64), strings.into_bytes()].concat();
    let outcome = build(&world, &format!("printf '{}' > $OUT/b.so", printf(&slow)));
    outcome.refused(3, &["b.so", "more than 4095 bytes in a name"]);
    harmless(&outcome);
}

#[test]
fn six_hundred_missing_libraries_are_told_by_the_first_and_a_count() {
    let world = World::new();
    let strings = (0..600).map(|n| format!("{n:04}\u{1b}\u{202e}\0")).collect::<Vec<_>>().concat();
    let head = library(&(0..600).map(|n| (1, n * 9)).collect::<Vec<_>>(), strings.len() as u64);
    let attack = format!("printf '{}' > $OUT/b.so", printf(&[&head[..], strings.as_bytes()].concat()));
    let outcome = build(&world, &attack);
    outcome
        .refused(3, &["is not whole", r"b.so needs the library 0000\u{1b}\u{202e}, which", "… and 595 more"]);
    harmless(&outcome);
}

#[test]
fn more_files_than_an_image_may_have_are_refused() {
    let world = World::new();
    let outcome = build(&world, "cd $OUT; for i in {1..60}; do mkdir $i; touch $i/{1..1000}; done");
    // Which limit comes first depends on how many files the host allows the sandbox.
    let limits =
        ["more than 50000 files, links and directories", "it made more than 49152 files and folders"];
    outcome.refused(3, &["more than"]);
    assert!(limits.iter().any(|limit| outcome.stderr.contains(limit)), "{}", outcome.stderr);
    harmless(&outcome);
}

#[test]
fn a_chain_of_folders_without_end_is_refused_and_does_not_stop_the_next_build() {
    let world = World::new();
    // 600 levels, made in two steps because a path cannot be so long.
    let deep = "cd $OUT; d=$(printf 'dddddddddd/%.0s' {1..300}); mkdir -p $d; cd $d; mkdir -p $d";
    for _ in 0..2 {
        let outcome = build(&world, deep);
        outcome.refused(3, &["too long"]);
        harmless(&outcome);
    }
}

#[test]
fn two_runs_that_differ_are_told_apart_by_escaped_names_of_sections() {
    let world = World::new();
    // The second run has another umask.
    let attack = r"v=1; [ $(umask) = 0027 ] && v=2; printf 'a\x1b[31m\n%s\n' $v > $OUT/f";
    let outcome = build(&world, attack);
    outcome.refused(5, &["not reproducible", "f: offset 0x7 (byte 0x31 vs 0x32)"]);
    harmless(&outcome);
}

#[test]
fn the_last_lines_of_a_failing_script_show_what_is_in_them() {
    let world = World::new();
    let attack = r"printf '\033]0;x\007\033[2J\033[31mRED \342\200\256 reversed \r over\n'
        printf '\x1b[2K\x1b[1A\nevil 1.0 built\n  linux/amd64  sha256:00  2 runs identical\n'
        head -c 3000000 /dev/zero; exit 3";
    let outcome = build(&world, attack);
    outcome.refused(
        3,
        &["exit status 3", r"\u{1b}[2J\u{1b}[31mRED \u{202e} reversed \r over", "evil 1.0 built"],
    );
    harmless(&outcome);
}

#[test]
fn what_an_image_prints_when_it_is_tried_is_shown_escaped_and_kept_exactly() {
    let world = World::new();
    let print = r"printf 'coreutils \033]0;x\007\033[31mRED \342\200\256 good\n' > $OUT/etc/message";
    let smoke = r#"command = ["/usr/bin/hello", "--version"]"#;
    world.recipe("hello", &format!("{GOOD}{print}\n"));
    world.edit_recipe("hello", smoke, r#"command = ["/usr/bin/hello", "/etc/message"]"#);
    let outcome = world.build("data", "hello").good();
    harmless(&outcome);
    assert!(outcome.stderr.contains(r"\u{1b}[31mRED \u{202e} good"), "{}", outcome.stderr);
    let line = &outcome.json["platforms"][0]["smoke"]["passed"]["line"];
    assert_eq!(line, "coreutils \u{1b}]0;x\u{7}\u{1b}[31mRED \u{202e} good");

    let long = r"yes 'evil built' | head -c 4000000 > $OUT/etc/message; head -c 100000 /dev/zero >> $OUT/etc/message";
    world.recipe("hello", &format!("{GOOD}{long}\n"));
    world.edit_recipe("hello", smoke, r#"command = ["/usr/bin/hello", "/etc/message"]"#);
    let outcome = world.build("data", "hello");
    outcome.refused(3, &["did not print \"coreutils\"", "more lines"]);
    harmless(&outcome);
}

#[test]
fn an_image_that_is_tried_writes_no_more_than_its_build_may() {
    let world = World::new();
    for of in ["/tmp/x", "/home/x", "/dev/shm/x"] {
        world.recipe("hello", "mkdir -p $OUT/usr/bin; cp /usr/bin/dd $OUT/usr/bin/hello");
        world.edit_recipe("hello", "disk_mib = 256", "disk_mib = 64");
        let smoke = r#"command = ["/usr/bin/hello", "--version"]"#;
        let write =
            format!(r#"command = ["/usr/bin/hello", "if=/dev/zero", "of={of}", "bs=1M", "count=2000"]"#);
        world.edit_recipe("hello", smoke, &write);
        let outcome = world.build("data", "hello");
        outcome.refused(3, &["did not succeed"]);
        assert!(!outcome.stderr.contains("2000+0 records out"), "{}", outcome.stderr);
    }
}

/// A crate with these files.
fn krate(files: &[(String, u64)]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut tar = tar::Builder::new(encoder);
    for (path, size) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(*size);
        tar.append_data(&mut header, path, std::io::Read::take(std::io::repeat(0), *size)).unwrap();
    }
    let mut encoder = tar.into_inner().unwrap();
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_source_takes_no_more_disk_than_its_build_may() {
    let world = World::new();
    let many = (0..5000).map(|n| (format!("tiny-1.2.3/inner/{n}"), 0)).collect::<Vec<_>>();
    for (files, words) in [
        (vec![("tiny-1.2.3/inner/big".to_owned(), 100 << 20)], "tiny-1.2.3.crate"),
        // Empty files take room too.
        (many, "tiny-1.2.3.crate"),
    ] {
        let script = "mkdir -p $OUT/usr/bin; cp /usr/bin/cat $OUT/usr/bin/hello";
        world.recipe_over_crate("tiny-node", script, krate(&files));
        world.edit_recipe("tiny-node", "disk_mib = 256", "disk_mib = 16");
        let outcome = world.build("data", "tiny-node");
        outcome.refused(3, &["needs more disk than the 16 MiB of build.disk_mib", words]);
        harmless(&outcome);
    }
}
