//! The real thing: Debian's own archive, keys and packages, the shipped recipe, both platforms.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::Outcome;
use hab_mirror::apt::AptConfig;

/// The index digest of recipe secp256k1, the same on every machine so far. It changes with the recipe, its locks, the
/// toolchain and the way images are made. If it changes without one of these, a build depends on the machine.
const INDEX: &str = "sha256:b60d7f1dfc9b3d3ba6e29611bfb7d6b5b2e2fe192ab90a2ca0a888d88e3cfe73";

#[test]
fn secp256k1_from_debian_has_the_index_it_had_elsewhere() {
    let bases = AptConfig::load(Path::new("/etc/apt")).unwrap().bases("bookworm");
    if bases.is_empty() {
        return hab_skip::skip(hab_skip::Lack::Network, "this machine's apt does not carry bookworm");
    }
    let data = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hab-build"))
        .args(["secp256k1", "--json", "--data"])
        .arg(data.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let built = Outcome::of(&output);
    if built.code == Some(4) {
        return hab_skip::skip(
            hab_skip::Lack::Network,
            format_args!("the archive does not answer: {}", built.stderr),
        );
    }
    let built = built.good();
    let platforms = built.json["platforms"].as_array().unwrap();
    let names: Vec<_> = platforms.iter().map(|p| p["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(names, ["amd64", "arm64"]);
    for platform in platforms {
        assert_eq!(platform["runs"]["identical"], true);
        let smoke = &platform["smoke"];
        assert!(smoke["passed"].is_object() || smoke["not-run"].is_string(), "{smoke}");
    }
    assert_eq!(built.index(), INDEX);
}
