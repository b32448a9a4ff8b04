//! Files to deterministic layers, manifests and an index.
//!
//! Layer: above `hab-oci`, below the engine. Pure: what goes in are readers and plain values, what comes out are bytes;
//! no filesystem, no clock, no async. The same files give the same digests in whatever order they were added, on
//! whatever machine and on however many threads.
//!
//! Start reading at [`Layer`], which becomes a [`PackedLayer`]; [`assemble`] makes an image of these, and [`index`]
//! makes one name of several images.

mod compression;
mod date;
mod error;
mod gzip;
mod header;
mod image;
mod layer;
mod pack;
#[cfg(test)]
mod tests;

pub use compression::Compression;
pub use date::rfc3339;
pub use error::{ImageError, PathProblem};
pub use image::{Image, ImageSpec, assemble, index};
pub use layer::{At, Directory, Layer};
pub use pack::PackedLayer;
