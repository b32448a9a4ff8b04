//! The kinds of names that the mirror serves: the first argument of [`Keep::remember`](crate::Keep::remember).

/// A source of Bitcoin Core's depends; the name is the file's.
pub const DEPENDS_SOURCE: &str = "depends-source";
/// A file of a release; the name is `project/version/file`.
pub const RELEASE_FILE: &str = "release-file";
/// A plain file, by URL and digest; the name is the one that its project's file gives.
pub const PLAIN_FILE: &str = "plain-file";
/// A file of a Debian archive; the name is its path, `pool/…`.
pub const DEBIAN_POOL: &str = "debian-pool";
/// An index of a Debian archive. The name comes from a function of [`debian`](crate::debian): by hash, by the InRelease
/// that the index belongs to, or `dists/SUITE/InRelease` for the InRelease that is served and whose indexes are all
/// stored.
pub const DEBIAN_INDEX: &str = "debian-index";
/// A crate that a lock names; the name is `name version`.
pub const CRATE: &str = "crate";
/// The line of a crates index about one version of a crate; the name is `name version`, the crate's in lower case.
pub const CRATE_LINE: &str = "crate-line";
/// An index line from another farm; it is not served until a lock's checksum vouches for it.
pub const CRATE_LINE_OFFERED: &str = "crate-line-offered";
