//! Makes deterministic layers of files, and manifests and an index of layers.
//!
//! Layer: above `hab-oci`, below the engine. Pure: it takes readers and plain values, and returns bytes; no filesystem,
//! no clock, no async. The same files give the same digests in whatever order they were added, on whatever machine and
//! on however many threads.
//!
//! Start reading at [`Layer`], which becomes a [`PackedLayer`]; [`assemble`] makes an image of these, and [`index`]
//! joins several images under one digest.

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
