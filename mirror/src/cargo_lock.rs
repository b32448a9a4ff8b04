//! Parses a Cargo.lock into the crates that it names (Cargo book, "Cargo.lock"; versions 3 and 4 of its format).

use std::collections::BTreeSet;

use hab_oci::Digest;
use serde::Deserialize;

use crate::crates::{LockedCrate, is_default_registry};

/// The largest lock that is read, in bytes; one of 1,000 crates has 0.3 MB.
pub const LARGEST: u64 = 16 << 20;

#[derive(Deserialize)]
struct Text {
    version: Option<u32>,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// The packages in a lock.
#[derive(Debug, Default)]
pub struct LockedPackages {
    /// The crates of the default registry.
    pub crates: BTreeSet<LockedCrate>,
    /// Packages from other places, with their sources. A package without a source is part of the workspace, and left
    /// out.
    pub elsewhere: BTreeSet<String>,
}

/// Parses a lock's text; the error is a sentence about why the lock cannot be used.
pub fn parse(text: &str) -> Result<LockedPackages, String> {
    let mut named = LockedPackages::default();
    let lock: Text = toml::from_str(text).map_err(|e| format!("it is not a Cargo.lock: {e}"))?;
    match lock.version {
        Some(3 | 4) => {}
        Some(other) => return Err(format!("a Cargo.lock of version {other} is not read, only 3 and 4")),
        None => {
            return Err(
                "it is not a Cargo.lock of version 3 or 4; `cargo update --workspace` writes one".to_owned()
            );
        }
    }
    for package in lock.package {
        let Package { name, version, source, checksum } = package;
        match source {
            Some(source) if is_default_registry(&source) => {
                let checksum = checksum.ok_or_else(|| format!("it has no checksum for {name} {version}"))?;
                let digest = Digest::from_sha256_hex(&checksum)
                    .map_err(|e| format!("the checksum of {name} {version} is {checksum:?}: {e}"))?;
                let locked = LockedCrate::new(&name, &version, digest).map_err(|e| e.to_string())?;
                named.crates.insert(locked);
            }
            Some(source) => {
                named.elsewhere.insert(format!("{name} {version} from {source}"));
            }
            None => {}
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock of this workspace: a real one, of version 4, with packages that have no source.
    const OWN: &str = include_str!("../../Cargo.lock");

    fn refused(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn every_crate_of_a_real_lock_is_named_and_what_lies_beside_it_is_not() {
        let named = parse(OWN).unwrap();
        assert_eq!(named.crates.len(), OWN.matches("checksum = ").count());
        assert!(named.elsewhere.is_empty(), "{:?}", named.elsewhere);
        let third = parse(&OWN.replacen("version = 4", "version = 3", 1)).unwrap();
        assert_eq!(named.crates, third.crates);
    }

    #[test]
    fn what_comes_from_git_or_another_registry_is_named_with_its_source() {
        let text = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"git+https://x.invalid/a#0\"\n\
                    [[package]]\nname = \"b\"\nversion = \"2.0.0\"\nsource = \"sparse+https://x.invalid/index/\"\nchecksum = \"00\"\n\
                    [[package]]\nname = \"c\"\nversion = \"3.0.0\"\n";
        let named = parse(text).unwrap();
        assert!(named.crates.is_empty());
        assert_eq!(
            named.elsewhere.into_iter().collect::<Vec<_>>(),
            ["a 1.0.0 from git+https://x.invalid/a#0", "b 2.0.0 from sparse+https://x.invalid/index/"]
        );
    }

    #[test]
    fn a_lock_that_cannot_be_used_is_refused_in_a_sentence() {
        let first = |key: &str| OWN.lines().find(|line| line.starts_with(key)).unwrap();
        let checksum = first("checksum = ");
        assert!(refused(&OWN.replacen(checksum, "checksum = \"00\"", 1)).contains("the checksum of"));
        assert!(refused(&OWN.replacen(checksum, "", 1)).contains("it has no checksum for"));
        let named = |name: &str| OWN.replacen("name = \"adler2\"", &format!("name = {name:?}"), 1);
        for name in ["../../etc", "..", "a/b", ""] {
            assert!(refused(&named(name)).contains("is not a crate's name"), "{name}");
        }
        assert!(refused(&OWN.replacen("version = \"2.", "version = \"../2.", 1)).contains("not a version"));
        assert!(refused(&OWN.replacen("version = 4", "version = 5", 1)).contains("version 5 is not read"));
        assert!(refused("[[package]]\nname = \"a\"\n").contains("it is not a Cargo.lock"));
        assert!(refused("").contains("not a Cargo.lock of version 3 or 4"));
    }
}
