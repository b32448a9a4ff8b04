//! Under which kinds a [`Keep`](crate::Keep) remembers what is served again: the first argument of its `remember`.

/// A source of Bitcoin Core's depends; the name is the file's.
pub const DEPENDS_SOURCE: &str = "depends-source";
/// A file of a release; the name is `project/version/file`.
pub const RELEASE_FILE: &str = "release-file";
/// A file by URL and digest; the name is the one it was given.
pub const PLAIN_FILE: &str = "plain-file";
