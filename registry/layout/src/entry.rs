//! Descriptors in `index.json`, indexes and manifests.

use std::collections::BTreeMap;

use hab_oci::{Digest, RepositoryName, Tag, json, shapes};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The annotation that names an image within a layout (image specification, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation from which podman, docker and containerd take the whole name of an image that they load. They would
/// take the value of [`REF_NAME`] for the repository's name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// A descriptor in index.json, an index or a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexEntry {
    /// The content's media type.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// The artifact type, for a manifest that has a subject.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_type: Option<String>,
    /// The annotations; in index.json they include the image's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl IndexEntry {
    /// An entry without a name.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, artifact_type: None, annotations: None }
    }

    /// Adds a name: a repository and a tag.
    #[must_use]
    pub fn named(mut self, repository: &RepositoryName, tag: &Tag) -> Self {
        let annotations = self.annotations.get_or_insert_default();
        annotations.insert(REF_NAME.to_owned(), tag.to_string());
        annotations.insert(IMAGE_NAME.to_owned(), format!("{repository}:{tag}"));
        self
    }

    /// Adds the name that docker gives the image: a repository and a tag.
    #[must_use]
    pub(crate) fn called(mut self, name: &str) -> Self {
        self.annotations.get_or_insert_default().insert(REF_NAME.to_owned(), name.to_owned());
        self
    }

    /// The tag in the entry's name. skopeo and this program write a tag as the name, podman a whole reference.
    pub fn tag(&self) -> Option<Tag> {
        let name = self.annotations.as_ref()?.get(REF_NAME)?;
        let last = name.rsplit('/').next()?;
        match last.split_once(':') {
            Some((_, tag)) if !last.contains('@') => tag.parse().ok(),
            // A name with `/` and no tag is a repository, not a tag.
            None if !name.contains('/') => name.parse().ok(),
            _ => None,
        }
    }
}

/// The descriptors of index.json, an index or a manifest.
#[derive(Debug, Deserialize)]
pub(crate) struct IndexEntries {
    pub(crate) config: Option<IndexEntry>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<IndexEntry>>,
    #[serde(default)]
    pub(crate) blobs: Option<Vec<IndexEntry>>,
    #[serde(default)]
    pub(crate) manifests: Option<Vec<IndexEntry>>,
}

impl IndexEntries {
    /// Parses the descriptors of a manifest or an index.
    pub(crate) fn of(digest: &Digest, bytes: &[u8]) -> Result<Self> {
        json::read(bytes, shapes::MANIFEST).map_err(|source| Error::Json { what: digest.to_string(), source })
    }
}

/// index.json as it is written: an image index (image specification, "index.json file").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index<'a> {
    pub(crate) schema_version: u32,
    pub(crate) media_type: &'static str,
    pub(crate) manifests: &'a [IndexEntry],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_every_way_that_programs_write_it() {
        for (name, tag) in [
            ("v1", Some("v1")),
            ("docker.io/library/alpine:3.20", Some("3.20")),
            ("localhost:5000/a/b:v2", Some("v2")),
            ("alpine:edge", Some("edge")),
            ("localhost:5000/a/b", None),
            ("a/b@sha256:00", None),
            ("a:v1@sha256:00", None),
            ("", None),
            ("a b", None),
            ("a:.x", None),
        ] {
            let mut entry = IndexEntry::new("m/t", Digest::of(b""), 0);
            assert_eq!(entry.tag(), None);
            entry.annotations = Some(BTreeMap::from([(REF_NAME.to_owned(), name.to_owned())]));
            assert_eq!(entry.tag().map(|tag| tag.to_string()).as_deref(), tag, "{name}");
        }
    }
}
