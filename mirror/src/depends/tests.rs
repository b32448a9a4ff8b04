use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{DependsSource, Files, Selection, Triplet, of_platform, sources};

/// The tiny tree in testdata, which GNU make can read too.
fn tree() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/depends");
    let mut files = Files::new();
    for folder in ["", "packages", "hosts", "builders"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn selection(hosts: &[&str], builds: &[&str]) -> Selection {
    let parse = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    Selection { hosts: parse(hosts), builds: parse(builds), options: BTreeMap::new() }
}

fn names(found: &[DependsSource]) -> BTreeSet<&str> {
    found.iter().map(|source| source.file.as_str()).collect()
}

fn of(host: &str, build: &str) -> Vec<DependsSource> {
    sources(&tree(), &selection(&[host], &[build])).unwrap()
}

/// The sources of the tree after a change to one package's file.
fn changed(from: &str, to: &str) -> Result<Vec<DependsSource>, super::DependsError> {
    let mut files = tree();
    let text = String::from_utf8(files["packages/alpha.mk"].clone()).unwrap();
    assert!(text.contains(from));
    files.insert("packages/alpha.mk".to_owned(), text.replace(from, to).into_bytes());
    sources(&files, &selection(&["x86_64-linux-gnu"], &["x86_64-pc-linux-gnu"]))
}

#[test]
fn a_source_has_its_names_address_digest_and_stamp() {
    let found = of("x86_64-pc-linux-gnu", "x86_64-pc-linux-gnu");
    let alpha = found.iter().find(|source| source.package == "alpha").unwrap();
    assert_eq!(alpha.version, "1.0");
    assert_eq!((alpha.file.as_str(), alpha.download_file.as_str()), ("alpha-1.0.tar.gz", "v1.0.tar.gz"));
    assert_eq!(alpha.url, "http://alpha.invalid/1.0/v1.0.tar.gz");
    assert_eq!(alpha.digest, hab_oci::Digest::of(b"alpha-1.0.tar.gz is a source\n"));
    assert_eq!(alpha.stamp, ".stamp_fetched-alpha-alpha-1.0.tar.gz.hash");
}

#[test]
fn further_sources_come_from_what_a_package_fetches() {
    let found = of("x86_64-pc-linux-gnu", "x86_64-pc-linux-gnu");
    let extra = found.iter().find(|source| source.file == "extra.txt-2.1").unwrap();
    assert_eq!(extra.url, "http://beta.invalid/raw/extra.txt");
    assert_eq!(extra.stamp, ".stamp_fetched-beta-beta-2.1.tar.xz.hash");
    assert!(names(&found).contains("beta-docs-2.1.tar.xz"));
}

#[test]
fn the_platforms_choose_the_packages() {
    let native = of("x86_64-pc-linux-gnu", "x86_64-pc-linux-gnu");
    assert!(!names(&native).contains("tool-x86.tar.gz"), "a native build needs no tool");
    let linux = of("aarch64-linux-gnu", "x86_64-pc-linux-gnu");
    assert!(names(&linux).contains("tool-x86.tar.gz") && names(&linux).contains("beta-2.1.tar.xz"));
    let darwin = of("arm64-apple-darwin", "aarch64-unknown-linux-gnu");
    assert_eq!(names(&darwin), BTreeSet::from(["alpha-1.0.tar.gz", "gamma-3.tar.gz", "tool-arm.tar.gz"]));
}

#[test]
fn several_platforms_are_the_union_of_each() {
    let all = sources(
        &tree(),
        &selection(
            &["x86_64-linux-gnu", "arm64-apple-darwin"],
            &["x86_64-pc-linux-gnu", "aarch64-unknown-linux-gnu"],
        ),
    );
    assert_eq!(names(&all.unwrap()).len(), 7);
}

#[test]
fn options_are_those_of_makes_command_line() {
    let host: Triplet = "x86_64-apple-darwin".parse().unwrap();
    let build: Triplet = "x86_64-pc-linux-gnu".parse().unwrap();
    let options = BTreeMap::from([("NO_GAMMA".to_owned(), "1".to_owned())]);
    let found = of_platform(&tree(), &host, &build, &options).unwrap();
    assert!(!names(&found).contains("gamma-3.tar.gz"));
}

#[test]
fn a_source_that_is_not_pinned_or_has_no_plain_name_is_refused() {
    for (from, to, words) in [
        ("sha256_hash=", "sha256_hash=\n#", "alpha.mk line 6"),
        ("sha256_hash=", "sha256_hash=0", "for a sha256"),
        ("sha256_hash=", "other=", "packages/alpha.mk: package alpha"),
        ("_file_name=$(package)-", "_file_name=../$(package)-", "not a file in download-stamps"),
        ("_file_name=$(package)-", "_file_name=a/$(package)-", "not a file in download-stamps"),
        ("_file_name=$(package)-", "_file_name=$(shell date)-", "cannot be known"),
        ("_version=1.0", "_version=$(shell date)", "cannot be known"),
        ("_download_path=", "_path=", "no address"),
        ("_download_file=", "_extra_sources=more.tar.gz\n#", "does not fetch"),
    ] {
        let error = changed(from, to).unwrap_err();
        assert!(error.to_string().contains(words), "{to}: {error}");
        assert_ne!(error.file, "the command", "{to}: {error}");
    }
}

#[test]
fn a_fetched_file_keeps_to_its_folder() {
    for name in ["..", "a/b", "/etc/passwd", "download-stamps"] {
        let fetch = format!("$(call fetch_file,alpha,http://x.invalid,a,{name},{})", "0".repeat(64));
        let error =
            changed("package=alpha", &format!("package=alpha\nalpha_fetch_cmds = {fetch}")).unwrap_err();
        assert!(error.to_string().contains("not the name of a file"), "{name}: {error}");
    }
}

#[test]
fn one_name_for_two_files_is_refused() {
    let beta = "_file_name=$(package)-";
    let error = changed(beta, "_file_name=beta-2.1.tar.xz\n#").unwrap_err().to_string();
    assert!(error.contains("beta-2.1.tar.xz is") && error.contains("for package"), "{error}");
}

#[test]
fn a_tree_without_packages_or_makefile_is_refused() {
    let mut files = tree();
    files.insert("packages/packages.mk".to_owned(), Vec::new());
    files.insert("Makefile".to_owned(), b"all_packages =\n".to_vec());
    let select = selection(&["x86_64-linux-gnu"], &["x86_64-pc-linux-gnu"]);
    assert!(sources(&files, &select).unwrap_err().to_string().contains("selects 0 packages"));
    files.remove("Makefile");
    assert!(sources(&files, &select).unwrap_err().to_string().contains("no file Makefile"));
}

#[test]
fn a_platform_is_known_in_full() {
    for (named, canonical) in [
        ("x86_64-linux-gnu", "x86_64-pc-linux-gnu"),
        ("aarch64-linux-gnu", "aarch64-unknown-linux-gnu"),
        ("arm-linux-gnueabihf", "arm-unknown-linux-gnueabihf"),
        ("arm64-apple-darwin", "aarch64-apple-darwin"),
        ("x86_64-w64-mingw32", "x86_64-w64-mingw32"),
        ("x86_64-pc-linux-gnu", "x86_64-pc-linux-gnu"),
    ] {
        let triplet: Triplet = named.parse().unwrap();
        assert_eq!((triplet.named(), triplet.canonical()), (named, canonical));
    }
    for bad in [
        "",
        "x86_64",
        "x86_64-linux",
        "vax-dec-ultrix",
        "x86_64-pc-plan9",
        "x86_64-pc-linux-gnu-more",
        "$(x)",
    ] {
        assert!(bad.parse::<Triplet>().is_err(), "{bad}");
    }
}
