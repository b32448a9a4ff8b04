//! Reads and writes OCI image layouts (image specification, "OCI Image Layout Specification"). A layout is a folder, or
//! a tar archive of one, that carries images without a registry.
//!
//! Layer: above `hab-oci`, below the program; knows neither store nor server. Synchronous. A stranger may have written
//! a layout: every size, depth and count is bounded, no link is followed, and no file outside is ever opened.
//!
//! Start at [`Layout`] for reading, and at [`write()`] for writing.

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
pub use entry::IndexEntry;
pub use error::{Error, Fault};
pub use layout::Layout;
pub use part::Part;
pub use write::{Bundle, write};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most bytes of a manifest or of index.json, as for a push to the registry.
pub const MANIFEST: u64 = 4 << 20;
/// The most bytes of a layer or a configuration, as for a push to the registry.
pub const BLOB: u64 = 64 << 30;
/// The most manifests of one layout.
const MANIFESTS: usize = 10_000;
/// The most layers and configurations of one layout.
const BLOBS: usize = 100_000;
/// The most bytes of all manifests of one layout, which are held in memory.
const ALL_MANIFESTS: u64 = 256 << 20;
/// The most members of an archive.
const MEMBERS: usize = 250_000;
/// The most indexes within each other. In practice nobody nests more than two.
const DEPTH: usize = 16;

/// The files of an archive in memory, each with its offset and size. Only for the fuzz target in `registry/fuzz`.
#[doc(hidden)]
pub fn members(bytes: &[u8]) -> Result<std::collections::BTreeMap<String, (u64, u64)>> {
    Ok(archive::members(std::path::Path::new("archive"), bytes)?.files)
}
