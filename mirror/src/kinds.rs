//! Under which kinds a [`Keep`](crate::Keep) remembers what is served again: the first argument of its `remember`.

/// A source of Bitcoin Core's depends; the name is the file's.
pub const DEPENDS_SOURCE: &str = "depends-source";
/// A file of a release; the name is `project/version/file`.
pub const RELEASE_FILE: &str = "release-file";
/// A file by URL and digest; the name is the one it was given.
pub const PLAIN_FILE: &str = "plain-file";
/// A file of a Debian archive; the name is its path, `pool/…`.
pub const DEBIAN_POOL: &str = "debian-pool";
/// An index of a Debian archive. The name is one of those that [`debian`](crate::debian) makes: by hash, as it was beside
/// one InRelease, or `dists/SUITE/InRelease` for the InRelease whose indexes are all kept and which is served.
pub const DEBIAN_INDEX: &str = "debian-index";
/// A crate that a lock names; the name is `name version`.
pub const CRATE: &str = "crate";
/// The line of a crates index about one version of a crate; the name is `name version`, the crate's in lower case.
pub const CRATE_LINE: &str = "crate-line";

/// Whether this is the name of the InRelease that is a suite's current one: not a fact about bytes, but a choice.
pub fn is_current_index(kind: &str, name: &str) -> bool {
    kind == DEBIAN_INDEX && name.ends_with("/InRelease")
}
