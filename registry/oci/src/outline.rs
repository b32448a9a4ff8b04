//! What a registry has to know about a manifest that somebody else wrote: its type, what it points at, and nothing
//! more. The bytes themselves are kept as they came.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Digest, media_type};

/// How one manifest points at other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// An image's configuration, or an artifact's.
    Config,
    /// A layer: a blob.
    Layer,
    /// A manifest listed by an index.
    Manifest,
    /// The manifest that this one says something about. It need not exist.
    Subject,
}

impl EdgeKind {
    /// One lowercase word, as the catalog keeps it.
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
    /// How it points.
    pub kind: EdgeKind,
    /// At what.
    pub digest: Digest,
    /// How many bytes the manifest says that is.
    pub size: u64,
    /// The manifest names other places for these bytes (`urls`), so a registry need not hold them.
    pub elsewhere: bool,
}

/// The parts of a manifest or an index that a registry acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// One of the four media types that a registry serves.
    pub media_type: &'static str,
    /// What it points at, in document order; a digest may occur more than once.
    pub edges: Vec<Edge>,
    /// The digest of its subject, if it has one.
    pub subject: Option<Digest>,
    /// What kind of artifact it is: `artifactType`, or else its configuration's media type (distribution
    /// specification, "Listing Referrers").
    pub artifact_type: Option<String>,
    /// The media type of its configuration.
    pub config_media_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest of the type they were said to have.
#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    /// A type that no registry has to accept.
    #[error(
        "{0:?} is not the media type of a manifest: expected an OCI manifest or index, or Docker's schema 2 or list"
    )]
    MediaType(String),
    /// Not JSON, or not of the shape that the specification gives.
    #[error("the manifest is not what its media type says")]
    Json(#[source] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("the manifest's schemaVersion is {0}: expected 2")]
    SchemaVersion(u32),
    /// The document says another type than its sender: reading it either way could be meant.
    #[error("the manifest says it is {document:?}, but was sent as {sent:?}")]
    Disagreement {
        /// `mediaType` in the document.
        document: String,
        /// What it was sent as.
        sent: String,
    },
    /// An index with layers or an image with manifests (CVE-2021-41190): reading it either way could be meant.
    #[error("the manifest has both the fields of an image and those of an index")]
    Ambiguous,
    /// An image without the field that makes it one.
    #[error("the manifest has no config")]
    NoConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Pointer>,
    layers: Option<Vec<Pointer>>,
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
}

impl Pointer {
    fn edge(&self, kind: EdgeKind) -> Edge {
        let elsewhere = self.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        Edge { kind, digest: self.digest.clone(), size: self.size, elsewhere }
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
        let (media_type, is_index) = match sent {
            media_type::IMAGE_MANIFEST => (media_type::IMAGE_MANIFEST, false),
            media_type::DOCKER_MANIFEST => (media_type::DOCKER_MANIFEST, false),
            media_type::IMAGE_INDEX => (media_type::IMAGE_INDEX, true),
            media_type::DOCKER_MANIFEST_LIST => (media_type::DOCKER_MANIFEST_LIST, true),
            _ => return Err(OutlineError::MediaType(sent.chars().take(200).collect())),
        };
        // The parser does not look into texts that it passes over; JSON is UTF-8 as a whole (RFC 8259, section 8.1).
        let text = std::str::from_utf8(bytes)
            .map_err(|e| OutlineError::Json(serde::de::Error::custom(format_args!("not UTF-8: {e}"))))?;
        let document: Document = serde_json::from_str(text).map_err(OutlineError::Json)?;
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
        Ok(document.outline(media_type))
    }

    /// The media type that a document gives itself, for senders that say none.
    pub fn media_type_within(bytes: &[u8]) -> Option<String> {
        serde_json::from_slice::<Document>(bytes).ok()?.media_type
    }
}

impl Document {
    fn outline(self, media_type: &'static str) -> Outline {
        let listed = |kind, pointers: Option<Vec<Pointer>>| {
            pointers.unwrap_or_default().into_iter().map(move |p| p.edge(kind))
        };
        let config_media_type = self.config.as_ref().map(|c| c.media_type.clone());
        let subject = self.subject.as_ref().map(|s| s.digest.clone());
        let mut edges: Vec<Edge> = self.config.iter().map(|c| c.edge(EdgeKind::Config)).collect();
        edges.extend(listed(EdgeKind::Layer, self.layers));
        edges.extend(listed(EdgeKind::Manifest, self.manifests));
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(extra: &str) -> String {
        let d = Digest::of(b"x");
        format!(
            "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"c/t\",\"digest\":\"{d}\",\"size\":1}},\
             \"layers\":[{{\"mediaType\":\"l/t\",\"digest\":\"{d}\",\"size\":1}}]{extra}}}"
        )
    }

    #[test]
    fn an_image_points_at_its_config_layers_and_subject() {
        let d = Digest::of(b"s");
        let subject = format!(",\"subject\":{{\"mediaType\":\"m/t\",\"digest\":\"{d}\",\"size\":9}}");
        let outline = Outline::read(media_type::IMAGE_MANIFEST, image(&subject).as_bytes()).unwrap();
        let kinds: Vec<_> = outline.edges.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [EdgeKind::Config, EdgeKind::Layer, EdgeKind::Subject]);
        assert_eq!(outline.subject, Some(d));
        assert_eq!(outline.artifact_type.as_deref(), Some("c/t"));
    }

    #[test]
    fn a_document_that_could_be_read_two_ways_is_refused() {
        let both = image(",\"manifests\":[]");
        for sent in [media_type::IMAGE_MANIFEST, media_type::IMAGE_INDEX] {
            assert!(matches!(Outline::read(sent, both.as_bytes()), Err(OutlineError::Ambiguous)));
        }
        let said = image(&format!(",\"mediaType\":\"{}\"", media_type::DOCKER_MANIFEST));
        let read = Outline::read(media_type::IMAGE_MANIFEST, said.as_bytes());
        assert!(matches!(read, Err(OutlineError::Disagreement { .. })));
        let twice = image(",\"config\":null");
        assert!(Outline::read(media_type::IMAGE_MANIFEST, twice.as_bytes()).is_err());
    }

    #[test]
    fn bad_digests_versions_and_sizes_are_refused() {
        let good = image("");
        let latin = [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xe4\"}"].concat();
        assert!(matches!(Outline::read(media_type::IMAGE_MANIFEST, &latin), Err(OutlineError::Json(_))));
        for (from, to) in [("sha256:", "sha256:../"), ("\"size\":1", "\"size\":-1"), (":2,", ":1,")] {
            let bad = good.replacen(from, to, 1);
            assert!(Outline::read(media_type::IMAGE_MANIFEST, bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(matches!(Outline::read("text/html", good.as_bytes()), Err(OutlineError::MediaType(_))));
    }

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Outline::read(media_type::IMAGE_MANIFEST, &bytes);
            let _ = Outline::media_type_within(&bytes);
        }

        #[test]
        fn a_cut_manifest_is_refused(at in 0usize..100) {
            let text = image("");
            let cut = &text[..at.min(text.len() - 1)];
            prop_assert!(Outline::read(media_type::IMAGE_MANIFEST, cut.as_bytes()).is_err());
        }
    }
}
