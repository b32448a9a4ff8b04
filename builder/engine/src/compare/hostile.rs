//! Outputs that a build made to mislead or to wear out the program that checks them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;

const LIMITS: TreeLimits = TreeLimits { entries: 50_000, bytes: 1 << 30, names: 8 << 20 };

fn scan(root: &Path) -> Result<Tree, CompareError> {
    Tree::scan(root, &LIMITS)
}

/// A shared library whose dynamic section has `entries`, with `strings` as its table of strings.
fn library(entries: &[(u64, u64)], strings: &[u8]) -> Vec<u8> {
    let dynamic = 64 + 2 * 56;
    let table = dynamic + 16 * (entries.len() as u64 + 2);
    let end = table + strings.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    for half in [3_u16, 62] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes());
    for word in [0_u64, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for (kind, offset, size) in [(1_u32, 0, end), (2, dynamic, table - dynamic)] {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(4_u32.to_le_bytes());
        for word in [offset, offset, offset, size, size, 4096] {
            bytes.extend(word.to_le_bytes());
        }
    }
    for (tag, value) in [&[(5, table)], entries, &[(0, 0)]].concat() {
        bytes.extend(u64::to_le_bytes(tag));
        bytes.extend(u64::to_le_bytes(value));
    }
    bytes.extend(strings);
    bytes
}

fn missing(bytes: &[u8]) -> Result<Lacking, CompareError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("l.so"), bytes).unwrap();
    missing_libraries(folder.path(), &LIMITS)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, CompareError>, words: &str) {
    let error = result.unwrap_err();
    let source = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
    let said = format!("{error}{source}");
    assert!(said.contains(words), "{said}");
    assert!(said.len() < 1000 && !said.contains(hab_oci::deceives), "{} bytes: {said:.500}", said.len());
}

#[test]
fn a_library_that_needs_the_same_name_a_thousand_times_needs_it_once() {
    let lacking = missing(&library(&vec![(1, 0); 3000], b"nolib.so\0")).unwrap();
    assert_eq!((lacking.total, lacking.told.len()), (1, 1));
    assert_eq!(lacking.to_string(), "l.so needs the library nolib.so, which is not in the image");
}

#[test]
fn six_hundred_missing_libraries_make_a_short_sentence() {
    let strings: Vec<u8> = (0..600).flat_map(|n| format!("lib{n:04}.so\0").into_bytes()).collect();
    let entries: Vec<_> = (0..600).map(|n| (1, n * 11)).collect();
    let lacking = missing(&library(&entries, &strings)).unwrap();
    assert_eq!((lacking.total, lacking.told.len()), (600, 20));
    let said = lacking.to_string();
    assert!(said.ends_with("; … and 595 more") && said.len() < 1000, "{said}");
}

#[test]
fn names_of_libraries_have_a_longest_length_and_stay_within_their_file() {
    let bomb: Vec<_> = (0..600).map(|n| (1, n % 7)).collect();
    refused(missing(&library(&bomb, &vec![b'a'; 1 << 20])), "more than 4095 bytes in a name");
    refused(
        missing(&library(&[(1, 1 << 40)], b"a\0")),
        "the name of a dynamic entry lies outside of the file",
    );
    refused(missing(&library(&[(1, u64::MAX)], b"a\0")), "lies outside of the file");
    let unended = missing(&library(&[(1, 0)], &[b'a'; 4000])).unwrap();
    assert_eq!(unended.total, 1);
}

#[test]
fn more_libraries_or_folders_than_any_linker_writes_are_refused() {
    let strings: Vec<u8> = (0..1001).flat_map(|n| format!("{n:05}\0").into_bytes()).collect();
    let entries: Vec<_> = (0..1001).map(|n| (1, n * 6)).collect();
    refused(missing(&library(&entries, &strings)), "more than 1000 needed libraries");
    let folders = (0..101).map(|n| format!("{n}:")).collect::<Vec<_>>().concat();
    refused(missing(&library(&[(29, 0)], folders.as_bytes())), "more than 100 library folders");
    let same = "x:".repeat(2000);
    missing(&library(&[(29, 0)], same.as_bytes())).unwrap();
    refused(missing(&library(&vec![(21, 0); 20_000], b"")), "more than 20000 dynamic entries");
}

#[test]
fn all_programs_together_may_look_in_so_many_places_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let strings: Vec<u8> = (0..1000).flat_map(|n| format!("{n:05}\0").into_bytes()).collect();
    let search = (0..100).map(|n| format!("{n}:")).collect::<Vec<_>>().concat();
    let entries: Vec<_> = (0..1000).map(|n| (1, n * 6)).chain([(29, 6000)]).collect();
    let bytes = library(&entries, &[&strings[..], search.trim_end_matches(':').as_bytes()].concat());
    for n in 0..12 {
        fs::write(folder.path().join(format!("{n}.so")), &bytes).unwrap();
    }
    refused(missing_libraries(folder.path(), &LIMITS), "in more than 1000000 places");
}

#[test]
fn tables_of_an_elf_file_are_held_against_limits_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.so");
    let mut bytes = library(&[], b"");
    // Section headers of 64 bytes at 4096, as many as 16 bits can say, in a file with nothing but a hole there.
    bytes[0x28..0x30].copy_from_slice(&4096_u64.to_le_bytes());
    bytes[0x3a..0x40].copy_from_slice(&[64, 0, 0xff, 0xff, 1, 0]);
    fs::write(&file, &bytes).unwrap();
    refused(hardening(&file), "sections lies outside");
    fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
    let weak = hardening(&file).unwrap().unwrap();
    assert!(!weak.stack_canary);
    // A table of symbols, and one of names, that fill the hole.
    for (entry, kind, size, said) in
        [(0, 2_u32, 1_u64 << 39, "more than 4000000 symbols"), (1, 3, 1 << 39, "bytes in symbols' names")]
    {
        let mut section = vec![0; 64];
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[32..40].copy_from_slice(&size.to_le_bytes());
        section[40..44].copy_from_slice(&1_u32.to_le_bytes());
        let written = fs::File::options().write(true).open(&file).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&written, &section, 4096 + 64 * entry).unwrap();
        refused(hardening(&file), said);
    }
    // Extended numbering: the first section has the count.
    bytes[0x3c..0x3e].copy_from_slice(&[0, 0]);
    fs::write(&file, &bytes).unwrap();
    let grown = fs::File::options().write(true).open(&file).unwrap();
    grown.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&grown, &(1_u64 << 30).to_le_bytes(), 4096 + 32).unwrap();
    refused(hardening(&file), "more than 100000 sections");
}

#[test]
fn a_sparse_file_counts_in_full_and_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s"), "\x7fELF").unwrap();
    fs::File::options().write(true).open(folder.path().join("s")).unwrap().set_len(1 << 40).unwrap();
    refused(scan(folder.path()), "bytes of files, of which sparse ones count in full");
    let small = TreeLimits { bytes: 10, ..LIMITS };
    fs::write(folder.path().join("s"), "12345").unwrap();
    Tree::scan(folder.path(), &small).unwrap();
    for n in 0..2 {
        fs::hard_link(folder.path().join("s"), folder.path().join(format!("h{n}"))).unwrap();
    }
    // A second name does not count as a second file, neither on disk nor in an image; a second file does.
    Tree::scan(folder.path(), &small).unwrap();
    fs::write(folder.path().join("t"), "123456").unwrap();
    refused(Tree::scan(folder.path(), &small), "more than 10 bytes");
}

#[test]
fn a_difference_deep_in_a_sparse_file_is_found_without_its_content_in_memory() {
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (root, last) in roots.iter().zip([b"1", b"2"]) {
        let file = fs::File::create(root.path().join("s")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"\x7fELF\x02", 0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, last, 300 << 20).unwrap();
    }
    let [a, b] = roots.each_ref().map(|root| Folder::open(root.path()).unwrap());
    let place = locate(&a, &b, "s").unwrap().unwrap();
    assert_eq!((place.offset, place.region), (300 << 20, Region::Unknown));
}

#[test]
fn names_that_are_not_read_as_what_they_are_are_refused() {
    for (name, words) in [
        (&b"a\n  linux-amd64  sha256:00  2 runs identical"[..], "control character"),
        (b"a\x1b[31mred", "control character"),
        ("a\u{202e}dlo".as_bytes(), "control character"),
        ("a\u{2066}b".as_bytes(), "control character"),
        ("a\u{200b}".as_bytes(), "control character"),
        ("a\u{feff}".as_bytes(), "control character"),
        (b"\xff\xfe", "not UTF-8"),
        (b"trailing ", "white space"),
        (b" leading", "white space"),
        (b".. ", "white space"),
        ("wide\u{3000}".as_bytes(), "white space"),
        (b".wh.e", "removes files"),
        (b".wh..wh..opq", "removes files"),
    ] {
        for folder in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(OsStr::from_bytes(name));
            if folder {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("f"), "").unwrap();
            } else {
                fs::write(&path, "").unwrap();
            }
            refused(scan(root.path()), words);
        }
    }
    let root = tempfile::tempdir().unwrap();
    for name in ["...", "Grüße", "日本語", "a b", "a..b", "\\n", &"n".repeat(255)] {
        fs::write(root.path().join(name), "").unwrap();
    }
    assert_eq!(scan(root.path()).unwrap().entries().len(), 7);
}

#[test]
fn links_that_mislead_or_lead_out_of_the_image_are_refused() {
    for (target, words) in [
        (&b"x\nbuilt"[..], "control character"),
        ("\u{202e}x".as_bytes(), "control character"),
        (b"\xff", "not UTF-8"),
        (b"../../x", "leads out of the image"),
        (b"../../../../../../etc/shadow", "leads out of the image"),
        (b"/../x", "leads out of the image"),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        symlink(OsStr::from_bytes(target), root.path().join("d/l")).unwrap();
        refused(scan(root.path()), words);
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    for (name, target) in [("up", "../x"), ("root", "/etc/../x"), ("through", "e/../../x")] {
        symlink(target, root.path().join("d").join(name)).unwrap();
    }
    assert_eq!(scan(root.path()).unwrap().entries().len(), 3);
}

#[test]
fn no_link_is_followed_on_the_way_to_a_file() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    fs::write(root.path().join("d/f"), "").unwrap();
    symlink("d", root.path().join("l")).unwrap();
    symlink("d/f", root.path().join("m")).unwrap();
    let folder = Folder::open(root.path()).unwrap();
    folder.file("d/f").unwrap();
    for path in ["l/f", "m", "/etc/passwd", "../x", "d"] {
        folder.file(path).unwrap_err();
    }
    refused(Folder::open(&root.path().join("l")), "the folder was replaced by something else");
    refused(Folder::open(&root.path().join("d/f")), "something else");
}

#[test]
fn a_folder_as_deep_as_a_path_is_long_is_walked_and_a_deeper_one_refused() {
    let root = tempfile::tempdir().unwrap();
    let deep = |levels: usize| vec!["d"; levels].join("/");
    fs::create_dir_all(root.path().join(deep(1000))).unwrap();
    assert_eq!(scan(root.path()).unwrap().entries().len(), 1);
    // Make a folder deeper than any path can say, step by step.
    let mut at =
        rustix::fs::open(root.path().join(deep(1000)), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
            .unwrap();
    for _ in 0..2000 {
        rustix::fs::mkdirat(&at, "d", 0o755.into()).unwrap();
        at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    refused(scan(root.path()), "too long");
    drop(at);
    assert!(std::process::Command::new("rm").arg("-rf").arg(root.path()).status().unwrap().success());
}

#[test]
fn too_many_files_and_too_many_names_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for n in 0..30 {
        fs::write(root.path().join(format!("{n}{}", "x".repeat(90))), "").unwrap();
    }
    refused(Tree::scan(root.path(), &TreeLimits { entries: 29, ..LIMITS }), "more than 29 files");
    refused(Tree::scan(root.path(), &TreeLimits { names: 2000, ..LIMITS }), "more than 2000 bytes of paths");
}

#[test]
fn programs_that_run_as_their_owner_and_files_that_nobody_may_read_are_refused() {
    for (mode, words) in [
        (0o4755, "setuid"),
        (0o2755, "setuid or setgid"),
        (0o6755, "mode 6755"),
        (0o000, "cannot read it"),
        (0o200, "mode 0200"),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("f"), "").unwrap();
        fs::set_permissions(root.path().join("f"), fs::Permissions::from_mode(mode)).unwrap();
        refused(scan(root.path()), words);
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    fs::set_permissions(root.path().join("d"), fs::Permissions::from_mode(0o000)).unwrap();
    refused(scan(root.path()), "cannot read it");
    fs::set_permissions(root.path().join("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.path().join("p"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    refused(scan(root.path()), "neither a file, a directory nor a symbolic link");
    Folder::open(root.path()).unwrap().file("p").unwrap_err();
}

#[test]
fn a_record_with_a_path_that_no_image_may_have_is_no_record() {
    for path in ["/etc/passwd", "a/../b", "", "a//b", "a\\u001b", "a/.wh.b", "\\u202e"] {
        let text = format!(r#"[{{"path":"{path}","link":"x"}}]"#);
        assert!(serde_json::from_str::<Tree>(&text).is_err(), "{path}");
    }
    assert!(serde_json::from_str::<Tree>(r#"[{"path":"a","link":"../../x"}]"#).is_err());
}

#[test]
fn a_static_library_with_names_from_nowhere_is_described_without_them() {
    let header = |name: &str, size: &str| format!("{name:<16}{:<32}{size:<10}`\n", "0");
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (root, last) in roots.iter().zip(["1", "2"]) {
        let text = format!("!<arch>\n{}{last}\n", header("/99999999999", "2"));
        fs::write(root.path().join("l.a"), text).unwrap();
    }
    let [a, b] = roots.each_ref().map(|root| Folder::open(root.path()).unwrap());
    let place = locate(&a, &b, "l.a").unwrap().unwrap();
    assert_eq!(place.offset, 68);
    assert!(place.to_string().starts_with("member /99999999999, "), "{place}");
}
