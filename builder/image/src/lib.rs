//! Files to deterministic layers, manifests and an index.
//!
//! Layer: pure. It reads what it is given through `Read`, writes to the `Write` it is given, and knows neither a clock
//! nor a file system. Equal input gives equal bytes on every machine: entries are sorted, owners and modes fixed, the
//! time is the source's, and the compressor is the one that Cargo.lock pins, with its parameters written down here.
//!
//! Start reading at [`Layer`], then [`assemble`] and [`index`].

mod assemble;
mod compress;
mod layer;

pub use assemble::{Assembled, ImageSpec, assemble, index};
pub use compress::Compression;
pub use layer::{ImageError, Layer, Written};
