//! OCI image layouts (image specification, "OCI Image Layout Specification"): a folder, or a tar archive of one, that
//! carries images without a registry.
//!
//! Layer: above `hab-oci`, below the program; knows neither store nor server. Synchronous. What is read here was written
//! by a stranger: every size, depth and count is bounded, no link is followed, and nothing outside is ever opened.
//!
//! Start reading at [`Layout`] for what is read, and at [`write()`] for what is written.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod content;
mod docker;
mod entry;
mod error;
mod layout;
mod part;
mod write;

pub use content::{Content, Manifest};
pub use entry::Entry;
pub use error::{Error, Fault};
pub use layout::Layout;
pub use part::Part;
pub use write::{Bundle, write};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Bytes of a manifest or of index.json; the registry's own limit for what is pushed.
pub const MANIFEST: u64 = 4 << 20;
/// Bytes of a layer or a configuration; the registry's own limit for what is pushed.
pub const BLOB: u64 = 64 << 30;
/// Manifests of one layout.
const MANIFESTS: usize = 10_000;
/// Layers and configurations of one layout.
const BLOBS: usize = 100_000;
/// Bytes of all manifests of one layout, which are kept in memory.
const ALL_MANIFESTS: u64 = 256 << 20;
/// Members of an archive.
const MEMBERS: usize = 250_000;
/// Indexes within each other. Nobody nests more than two.
const DEPTH: usize = 16;

/// The files of an archive in memory, each with its offset and size: for the fuzz target of `registry/fuzz` alone.
#[doc(hidden)]
pub fn members(bytes: &[u8]) -> Result<std::collections::BTreeMap<String, (u64, u64)>> {
    Ok(archive::members(std::path::Path::new("archive"), bytes)?.files)
}
