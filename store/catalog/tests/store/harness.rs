//! A store in a temporary folder, and small images to put into it.

use std::path::Path;

use hab_oci::{Descriptor, Digest, RepositoryName, Tag, TagOrDigest, media_type};
use hab_store::{Blobs, NewManifest, Publication, Store};
use tempfile::TempDir;

pub struct World {
    pub folder: TempDir,
    pub store: Store,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        Self { folder, store }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The catalog as a plain database, to write rows that this program would never write.
    pub async fn sql(&self) -> sqlx::SqlitePool {
        let file = self.path().join("catalog.sqlite");
        sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap()
    }
}

pub fn repository() -> RepositoryName {
    "hab/bitcoin".parse().unwrap()
}

pub fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub fn by_tag(text: &str) -> TagOrDigest {
    TagOrDigest::Tag(tag(text))
}

/// An image of one layer whose bytes depend only on `seed`, not yet in any store.
pub struct Image {
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
    pub manifest: NewManifest,
}

impl Image {
    pub fn new(seed: &str) -> Self {
        let config = format!("{{\"seed\":\"{seed}\"}}").into_bytes();
        let layer = format!("layer of {seed}").repeat(100).into_bytes();
        let text = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"config\":{},\"layers\":[{}]}}",
            media_type::IMAGE_MANIFEST,
            json(&Descriptor::of(media_type::IMAGE_CONFIG, &config)),
            json(&Descriptor::of(media_type::LAYER_ZSTD, &layer)),
        );
        Self { config, layer, manifest: NewManifest::new(media_type::IMAGE_MANIFEST, text.into_bytes()) }
    }

    pub fn write_blobs(&self, blobs: &Blobs) {
        blobs.put(&self.config).unwrap();
        blobs.put(&self.layer).unwrap();
    }

    /// The publication of the image in `hab/bitcoin` at time `at`.
    pub fn publication(&self, tags: &[&str], at: i64) -> Publication {
        Publication {
            repository: repository(),
            blobs: vec![
                Descriptor::of(media_type::IMAGE_CONFIG, &self.config),
                Descriptor::of(media_type::LAYER_ZSTD, &self.layer),
            ],
            manifests: vec![self.manifest.clone()],
            tags: tags.iter().map(|t| tag(t)).collect(),
            root: self.manifest.digest.clone(),
            gaps: hab_store::Gaps::None,
            at,
        }
    }

    pub fn digest(&self) -> &Digest {
        &self.manifest.digest
    }
}

pub fn json(value: &Descriptor) -> String {
    format!(
        "{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{}}}",
        value.media_type, value.digest, value.size
    )
}

/// Every file below a folder, relative to it.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}
