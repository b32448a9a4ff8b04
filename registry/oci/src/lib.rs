//! The terms of the OCI specifications as types: digests, references, media types, descriptors and manifests.
//!
//! Layer: the bottom. Pure: no I/O, no async, no clock. A value of these types is valid by construction, because
//! `Deserialize` goes through `FromStr`; no caller has to check it again.
//!
//! Start reading at [`Digest`], the identity of all stored bytes, then [`Descriptor`]. [`json`] reads documents that
//! somebody else wrote, and refuses ambiguous ones; [`Outline`] holds what a registry has to know about a manifest.

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
