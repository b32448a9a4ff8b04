//! The facts that a registry needs about a manifest that somebody else wrote: its type and what it points at. The bytes
//! themselves are stored unchanged.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::shapes::{self, LARGEST_CONFIG, is_image_config, is_index, is_manifest};
use crate::{Digest, EmbeddedError, embedded, json, media_type};

/// How one manifest points at other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// The configuration of an image or artifact.
    Config,
    /// A layer, or any other blob that is not the configuration.
    Layer,
    /// A manifest that an index lists with the type of a manifest.
    Manifest,
    /// The manifest that this one is about. It need not exist.
    Subject,
}

impl EdgeKind {
    /// The kind as one lowercase word, as the catalog stores it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Manifest => "manifest",
            Self::Subject => "subject",
        }
    }
}

/// One pointer out of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The kind of the pointer.
    pub kind: EdgeKind,
    /// The digest of the target.
    pub digest: Digest,
    /// The size of the target, as the manifest states it.
    pub size: u64,
    /// The descriptor has `urls`: other places hold these bytes, so a registry need not.
    pub elsewhere: bool,
    /// An index lists the target, with any type. A copy of an index may leave targets out.
    pub listed: bool,
}

/// The parts of a manifest or an index that a registry acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// One of the four media types that a registry serves.
    pub media_type: &'static str,
    /// The edges in document order; a digest may occur more than once.
    pub edges: Vec<Edge>,
    /// The digest of its subject, if it has one.
    pub subject: Option<Digest>,
    /// The artifact type: `artifactType`, or else the configuration's media type (distribution specification, "Listing
    /// Referrers").
    pub artifact_type: Option<String>,
    /// The media type of its configuration.
    pub config_media_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest of the media type with which they were sent.
#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    /// The media type is not one of the four manifest types.
    #[error(
        "{0:?} is not the media type of a manifest: expected an OCI manifest or index, or Docker's schema 2 or list"
    )]
    MediaType(String),
    /// The bytes are not JSON, or lack the fields that the specification demands, or are ambiguous.
    #[error("cannot parse the manifest as its media type")]
    Json(#[source] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("the manifest's schemaVersion is {0}: expected 2")]
    SchemaVersion(u32),
    /// The document states another type than its sender, so it is ambiguous.
    #[error("the manifest says it is {document:?}, but was sent as {sent:?}")]
    Disagreement {
        /// `mediaType` in the document.
        document: String,
        /// The media type with which it was sent.
        sent: String,
    },
    /// An index has layers, or an image has manifests, so the document is ambiguous (CVE-2021-41190).
    #[error("the manifest has both the fields of an image and those of an index")]
    Ambiguous,
    /// The image manifest has no `config`.
    #[error("the manifest has no config")]
    NoConfig,
    /// The configuration of an image is larger than [`LARGEST_CONFIG`].
    #[error("the manifest's configuration has {0} bytes: at most {LARGEST_CONFIG} are read")]
    LargeConfig(u64),
    /// The embedded content of a descriptor does not match the descriptor.
    #[error("the data in the manifest's descriptor of {digest} does not match it")]
    Embedded {
        /// The descriptor's digest.
        digest: Digest,
        /// Why not.
        #[source]
        source: EmbeddedError,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Pointer>,
    layers: Option<Vec<Pointer>>,
    /// The field of artifact manifests, which the image specification once had. Manifests of other types may have it
    /// too.
    blobs: Option<Vec<Pointer>>,
    manifests: Option<Vec<Pointer>>,
    subject: Option<Pointer>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    /// The embedded content, in base64.
    #[serde(default)]
    data: Option<String>,
}

impl Pointer {
    fn check_data(&self) -> Result<(), OutlineError> {
        let Some(data) = &self.data else { return Ok(()) };
        let wrong = |source| OutlineError::Embedded { digest: self.digest.clone(), source };
        embedded::check(data, &self.digest, self.size).map_err(wrong)
    }

    fn edge(&self, kind: EdgeKind) -> Edge {
        let elsewhere = self.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        Edge { kind, digest: self.digest.clone(), size: self.size, elsewhere, listed: false }
    }

    /// The edge to content that an index lists. Content that no registry serves as a manifest is a blob and is pulled
    /// as one: BuildKit's cache, for example, is an index that lists layers.
    fn listed(&self) -> Edge {
        let kind = if is_manifest(&self.media_type) { EdgeKind::Manifest } else { EdgeKind::Layer };
        Edge { listed: true, ..self.edge(kind) }
    }
}

impl Outline {
    /// Reads a manifest that was sent as `media_type` (parameters such as a charset are ignored).
    ///
    /// ```
    /// # use hab_oci::{Outline, media_type};
    /// let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    /// assert!(Outline::read(media_type::IMAGE_INDEX, index)?.edges.is_empty());
    /// assert!(Outline::read(media_type::IMAGE_MANIFEST, index).is_err());
    /// # Ok::<(), hab_oci::OutlineError>(())
    /// ```
    pub fn read(media_type: &str, bytes: &[u8]) -> Result<Self, OutlineError> {
        let sent = media_type.split(';').next().unwrap_or_default().trim();
        let known = [
            media_type::IMAGE_MANIFEST,
            media_type::DOCKER_MANIFEST,
            media_type::IMAGE_INDEX,
            media_type::DOCKER_MANIFEST_LIST,
        ];
        let media_type = known.into_iter().find(|known| *known == sent);
        let media_type =
            media_type.ok_or_else(|| OutlineError::MediaType(sent.chars().take(200).collect()))?;
        let is_index = is_index(media_type);
        let document: Document = json::read(bytes, shapes::MANIFEST).map_err(OutlineError::Json)?;
        if document.schema_version != 2 {
            return Err(OutlineError::SchemaVersion(document.schema_version));
        }
        if let Some(said) = document.media_type.as_deref().filter(|said| *said != media_type) {
            let document = said.chars().take(200).collect();
            return Err(OutlineError::Disagreement { document, sent: media_type.to_owned() });
        }
        let has_image_fields = document.config.is_some() || document.layers.is_some();
        if (is_index && has_image_fields) || (!is_index && document.manifests.is_some()) {
            return Err(OutlineError::Ambiguous);
        }
        if !is_index && document.config.is_none() {
            return Err(OutlineError::NoConfig);
        }
        document.check_descriptors()?;
        Ok(document.outline(media_type))
    }

    /// The digest of the configuration, if it is an image's, which runtimes read.
    pub fn image_config(&self) -> Option<&Digest> {
        let is_image = self.config_media_type.as_deref().is_some_and(is_image_config);
        self.edges.iter().find(|edge| is_image && edge.kind == EdgeKind::Config).map(|edge| &edge.digest)
    }

    /// The media type that a document states for itself, for senders that state none.
    pub fn media_type_within(bytes: &[u8]) -> Option<String> {
        json::read::<Document>(bytes, shapes::MANIFEST).ok()?.media_type
    }
}

impl Document {
    fn check_descriptors(&self) -> Result<(), OutlineError> {
        let large = self.config.iter().find(|c| is_image_config(&c.media_type) && c.size > LARGEST_CONFIG);
        if let Some(config) = large {
            return Err(OutlineError::LargeConfig(config.size));
        }
        let lists = [&self.layers, &self.blobs, &self.manifests];
        let listed = lists.into_iter().flatten().flatten();
        self.config.iter().chain(listed).chain(&self.subject).try_for_each(Pointer::check_data)
    }

    fn outline(self, media_type: &'static str) -> Outline {
        let config_media_type = self.config.as_ref().map(|c| c.media_type.clone());
        let subject = self.subject.as_ref().map(|s| s.digest.clone());
        let mut edges: Vec<Edge> = self.config.iter().map(|c| c.edge(EdgeKind::Config)).collect();
        edges.extend(self.layers.iter().flatten().map(|p| p.edge(EdgeKind::Layer)));
        // The specification no longer has `blobs`, so a client need not push them (hence `listed`). Pushed ones are
        // kept.
        edges.extend(self.blobs.iter().flatten().map(|p| Edge { listed: true, ..p.edge(EdgeKind::Layer) }));
        edges.extend(self.manifests.iter().flatten().map(Pointer::listed));
        edges.extend(self.subject.iter().map(|s| s.edge(EdgeKind::Subject)));
        Outline {
            media_type,
            edges,
            subject,
            artifact_type: self.artifact_type.filter(|t| !t.is_empty()).or_else(|| config_media_type.clone()),
            config_media_type,
            annotations: self.annotations.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
