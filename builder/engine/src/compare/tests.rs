//! Compares trees as two runs leave them. Real programs come from this machine's compiler; a test without one says so.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Two folders with the same content, to be changed.
fn runs() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let roots = [1, 2].map(|run| {
        let root = folder.path().join(run.to_string());
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("var/empty")).unwrap();
        fs::write(root.join("usr/bin/x"), b"#!\x01\none\n").unwrap();
        fs::set_permissions(root.join("usr/bin/x"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("usr/text"), "one\ntwo\nthree\n").unwrap();
        symlink("x", root.join("usr/bin/y")).unwrap();
        root
    });
    let [one, two] = roots;
    (folder, one, two)
}

fn scan(root: &Path) -> Tree {
    Tree::scan(root, &TreeLimits::default()).unwrap()
}

fn said(one: &Path, two: &Path) -> String {
    let mut difference = compare(&scan(one), &scan(two)).unwrap_err();
    if let What::Content(place) = &mut difference.what {
        let [one, two] = [one, two].map(|root| Folder::open(root).unwrap());
        *place = locate(&one, &two, &difference.path).unwrap();
    }
    difference.to_string()
}

#[test]
fn identical_trees_are_identical_whatever_their_times() {
    let (_folder, one, two) = runs();
    fs::File::open(two.join("usr/text")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(compare(&scan(&one), &scan(&two)), Ok(()));
    assert_eq!(scan(&one), scan(&two));
}

#[test]
fn the_first_difference_is_named_by_kind() {
    let (_folder, one, two) = runs();
    fs::write(one.join("usr/z"), "").unwrap();
    assert_eq!(said(&one, &two), "usr/z: only the first run wrote it");
    fs::write(two.join("usr/text"), "one\ntwO\nthree\n").unwrap();
    assert_eq!(said(&one, &two), "usr/text: line 2, offset 0x6 (byte 0x6f vs 0x4f)");
    fs::write(two.join("usr/text"), "one\ntwo\n").unwrap();
    assert_eq!(said(&one, &two), "usr/text: line 3, offset 0x8 (byte 0x74 vs the end of the file)");
    fs::remove_file(two.join("usr/bin/y")).unwrap();
    symlink("z", two.join("usr/bin/y")).unwrap();
    assert_eq!(said(&one, &two), "usr/bin/y: link to \"x\" vs \"z\"");
    fs::remove_file(two.join("usr/bin/y")).unwrap();
    fs::create_dir(two.join("usr/bin/y")).unwrap();
    assert_eq!(said(&one, &two), "usr/bin/y: a symbolic link in the first run, a directory in the second");
    fs::set_permissions(two.join("usr/bin/x"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(said(&one, &two), "usr/bin/x: mode 0755 vs 0644");
    fs::write(two.join("usr/bin/x"), b"#!\x02\none\n").unwrap();
    assert_eq!(said(&one, &two), "usr/bin/x: offset 0x2 (byte 0x01 vs 0x02)");
    fs::write(two.join("usr/a"), "").unwrap();
    assert_eq!(differing(&scan(&one), &scan(&two)), 5);
}

#[test]
fn an_empty_tree_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
    assert!(scan(folder.path()).is_empty());
    symlink("x", folder.path().join("l")).unwrap();
    assert!(!scan(folder.path()).is_empty());
}

#[test]
fn a_tree_is_written_as_outputs_and_read_back() {
    let (_folder, one, _) = runs();
    let tree = scan(&one);
    let json = serde_json::to_value(&tree).unwrap();
    assert_eq!(json[0]["path"], "usr/bin/x");
    assert_eq!(json[0]["mode"], "0755");
    assert_eq!(json[0]["size"], 8);
    assert_eq!(json[1], serde_json::json!({"path": "usr/bin/y", "link": "x"}));
    assert_eq!(json[3], serde_json::json!({"path": "var/empty", "directory": true}));
    assert_eq!(serde_json::from_value::<Tree>(json).unwrap(), tree);
    for bad in [
        r#"[{"path":"a"}]"#,
        r#"[{"path":"a","sha256":"00","size":1,"mode":"0755"}]"#,
        r#"[{"path":"a","link":"b","size":1}]"#,
    ] {
        assert!(serde_json::from_str::<Tree>(bad).is_err(), "{bad}");
    }
    assert!(serde_json::from_str::<Tree>(r#"[{"path":"b","link":"x"},{"path":"a","link":"x"}]"#).is_err());
}

#[test]
fn limits_and_odd_files_are_errors() {
    let (_folder, one, _) = runs();
    let few = Tree::scan(&one, &TreeLimits { entries: 3, ..TreeLimits::default() }).unwrap_err();
    assert!(matches!(few, CompareError::TooManyEntries { .. }), "{few}");
    let small = Tree::scan(&one, &TreeLimits { bytes: 10, ..TreeLimits::default() }).unwrap_err();
    assert!(matches!(small, CompareError::TooManyBytes { .. }), "{small}");
    let _socket = std::os::unix::net::UnixListener::bind(one.join("socket")).unwrap();
    let special = Tree::scan(&one, &TreeLimits::default()).unwrap_err();
    assert!(matches!(special, CompareError::Special { .. }), "{special}");
}

/// Compiles `source` with `arguments`, or says that it cannot.
fn cc(folder: &Path, output: &str, source: &str, arguments: &[&str]) -> Option<PathBuf> {
    let input = folder.join("input.c");
    fs::write(&input, source).unwrap();
    let path = folder.join(output);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let done = Command::new("cc").arg("-o").arg(&path).arg(&input).args(arguments).status();
    fs::remove_file(&input).unwrap();
    if done.is_ok_and(|status| status.success()) {
        Some(path)
    } else {
        hab_skip::skip(hab_skip::Lack::Program, "no working C compiler");
        None
    }
}

const PROGRAM: &str = "#include <string.h>\n#include <stdio.h>\n\
    int main(int c, char **v) { char b[64]; strcpy(b, v[0]); puts(b); return c; }\n\
    const char stamp[] = \"built at 11:12:13\";\n";

#[test]
fn a_difference_in_a_program_names_its_section() {
    let (_folder, one, two) = runs();
    let Some(first) = cc(&one, "usr/bin/p", PROGRAM, &[]) else { return };
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.windows(17).position(|w| w == b"built at 11:12:13").unwrap() + 16;
    bytes[at] = b'4';
    fs::copy(&first, two.join("usr/bin/p")).unwrap();
    fs::write(two.join("usr/bin/p"), &bytes).unwrap();
    assert_eq!(said(&one, &two), format!("usr/bin/p: section .rodata, offset {at:#x} (byte 0x33 vs 0x34)"));
    bytes[8] ^= 1;
    fs::write(two.join("usr/bin/p"), &bytes).unwrap();
    assert_eq!(said(&one, &two), "usr/bin/p: the ELF header, offset 0x8 (byte 0x00 vs 0x01)");
}

#[test]
fn a_difference_in_a_static_library_names_the_member() {
    let (_folder, one, two) = runs();
    let Some(object) = cc(&one, "a-long-name-of-an-object.o", PROGRAM, &["-c"]) else { return };
    let library = one.join("l.a");
    let done = Command::new("ar").arg("rcsD").arg(&library).arg(&object).status();
    if !done.is_ok_and(|status| status.success()) {
        return hab_skip::skip(hab_skip::Lack::Program, "no ar");
    }
    fs::remove_file(&object).unwrap();
    let mut bytes = fs::read(&library).unwrap();
    let at = bytes.windows(5).position(|w| w == b"built").unwrap();
    bytes[at] = b'B';
    fs::write(two.join("l.a"), &bytes).unwrap();
    let expected = format!(
        "l.a: member a-long-name-of-an-object.o, section .rodata, offset {at:#x} (byte 0x62 vs 0x42)"
    );
    assert_eq!(said(&one, &two), expected);
}

#[test]
fn libraries_and_loader_must_be_in_the_tree() {
    let (_folder, root, _) = runs();
    if cc(&root, "usr/lib/libone.so", "int one(void) { return 1; }\n", &["-shared", "-nostdlib", "-fPIC"])
        .is_none()
    {
        return;
    }
    let library = root.join("usr/lib");
    let user = "int one(void); void _start(void) { one(); for (;;) {} }\n";
    let link = format!("-L{}", library.display());
    cc(&root, "usr/bin/user", user, &["-nostdlib", &link, "-lone"]).unwrap();
    let missing_libraries = |root| missing_libraries(root, &TreeLimits::default()).unwrap().told;
    let missing = missing_libraries(&root);
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(matches!(&missing[0].need, Need::Interpreter(path) if path.contains("ld-linux")), "{missing:?}");
    let Need::Interpreter(loader) = &missing[0].need else { unreachable!() };
    // As in an image with a merged /usr: an absolute link is followed within the tree.
    let loader = root.join(loader.trim_start_matches('/'));
    fs::create_dir_all(loader.parent().unwrap()).unwrap();
    symlink("/usr/lib/libone.so", &loader).unwrap();
    assert_eq!(missing_libraries(&root), []);
    fs::remove_file(library.join("libone.so")).unwrap();
    let missing: Vec<_> = missing_libraries(&root).iter().map(ToString::to_string).collect();
    assert!(
        missing.contains(&"usr/bin/user needs the library libone.so, which is not in the image".to_owned())
    );
    fs::write(library.join("libone.so"), "a text is no library").unwrap();
    assert!(!missing_libraries(&root).is_empty());
}

#[test]
fn hardening_is_read_from_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let strong =
        ["-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-all", "-fPIE", "-pie", "-Wl,-z,relro,-z,now"];
    let Some(strong) = cc(folder.path(), "strong", PROGRAM, &strong) else { return };
    let full = Hardening { pie: true, relro: Relro::Full, nx: true, stack_canary: true, fortify: true };
    assert_eq!(hardening(&strong).unwrap(), Some(full));
    let weak =
        ["-O0", "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-no-pie", "-z", "execstack", "-Wl,-z,norelro"];
    let weak = cc(folder.path(), "weak", PROGRAM, &weak).unwrap();
    let none = Hardening { pie: false, relro: Relro::None, nx: false, stack_canary: false, fortify: false };
    assert_eq!(hardening(&weak).unwrap(), Some(none));
    let bytes = fs::read(&strong).unwrap();
    for cut in [4, 20, 100, bytes.len() / 4] {
        fs::write(&strong, &bytes[..cut]).unwrap();
        assert!(hardening(&strong).is_err(), "cut at {cut}");
    }
    fs::write(&strong, "text").unwrap();
    assert_eq!(hardening(&strong).unwrap(), None);
}
