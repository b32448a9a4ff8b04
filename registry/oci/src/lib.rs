//! The words of the OCI specifications as types: digests, references, media types, descriptors and manifests.
//!
//! Layer: the bottom. Pure: no I/O, no async, no clock. A value of a type here is valid by construction,
//! because `Deserialize` goes through `FromStr`; nothing past the boundary has to check it again.
//!
//! Start reading at [`Digest`], the identity of every byte in the house, then [`Descriptor`]. Documents that somebody
//! else wrote are read by [`json`], in one way or not at all; [`Outline`] is what a registry has to know of a
//! manifest.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod digest;
mod embedded;
pub mod json;
mod manifest;
mod outline;
mod reference;
pub mod shapes;
mod shown;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use embedded::EmbeddedError;
pub use manifest::{
    Config, Descriptor, Empty, ImageConfig, ImageIndex, ImageManifest, Platform, PlatformError, RootFs,
    annotations, media_type,
};
pub use outline::{Edge, EdgeKind, Outline, OutlineError};
pub use reference::{ReferenceError, RepositoryName, Tag, TagOrDigest};
pub use shown::{LONGEST, Shown, deceives, few, shown, shown_bytes, shown_lines};
