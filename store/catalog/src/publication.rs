//! What is published: plain data.

use hab_oci::{Descriptor, Digest, RepositoryName, Tag};

/// What [`Store::publish`](crate::Store::publish) makes visible.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The repository to publish in.
    pub repository: RepositoryName,
    /// Layers and configurations whose bytes were committed to [`Store::blobs`](crate::Store) before. Members of the
    /// repository need not be listed.
    pub blobs: Vec<Descriptor>,
    /// Manifests and indexes, in any order.
    pub manifests: Vec<NewManifest>,
    /// Tags that point at the root afterwards.
    pub tags: Vec<Tag>,
    /// The digest of one of `manifests`.
    pub root: Digest,
    /// Which content the manifests may name although the repository does not hold it.
    pub gaps: Gaps,
    /// Now, in unix seconds.
    pub at: i64,
}

/// Which content a manifest may name although its repository does not hold it; a subject may always be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Gaps {
    /// No gaps: the repository must hold everything.
    #[default]
    None,
    /// Manifests that an index lists, as in a copy of some platforms only.
    Indexes,
    /// Layers and configurations as well.
    All,
}

/// A manifest to be published.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type with which it was sent and will be served.
    pub media_type: String,
    /// Stored unchanged.
    pub bytes: Vec<u8>,
}

impl NewManifest {
    /// A manifest named by its sha256.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
    }
}
