//! Reads the archives of `docker save`, which podman and skopeo call `docker-archive`: a tar archive with a
//! `manifest.json` that names a configuration and uncompressed layers for each image ("Docker Image Specification
//! v1.2", "Combined Image JSON + Filesystem Changeset Format"). Since docker 25 the same file is also an OCI layout.
//!
//! Such an image has no manifest, so this module makes one; its bytes are a function of the configuration and the
//! layers. Layers are checked against the diffIDs in the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read as _};
use std::sync::Arc;

use hab_archive::{Compression, Decoder, Limits};
use hab_oci::json::{self, Shape};
use hab_oci::{Algorithm, Descriptor, Digest, ImageManifest, media_type, shapes};
use serde::Deserialize;

use crate::content::hash;
use crate::{BLOB, Error, IndexEntry, Layout, MANIFEST, Part, Result};

/// The most images of one file.
const IMAGES: usize = 1000;
/// The most layers of one image; docker's own limit is 127.
const LAYERS: usize = 1000;

/// An image in manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The field names in manifest.json.
const SAVED: Shape = Shape::Fields(&[
    ("Config", Shape::Free),
    ("RepoTags", Shape::Free),
    ("Layers", Shape::Free),
    ("Parent", Shape::Free),
    ("LayerSources", Shape::Free),
]);

/// The part of a configuration against which layers are checked.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

/// The images of an archive, with the manifests that were made for them.
#[derive(Debug, Default)]
pub(crate) struct Docker {
    pub(crate) entries: Vec<IndexEntry>,
    /// The manifests.
    made: BTreeMap<Digest, Arc<[u8]>>,
    /// The paths of layers and configurations.
    files: BTreeMap<Digest, String>,
}

impl Docker {
    /// The images in manifest.json; `None` if there is no such file.
    pub(crate) fn saved(layout: &Layout) -> Result<Option<Vec<Saved>>> {
        let Some(part) = layout.part("manifest.json")? else { return Ok(None) };
        let bytes = layout.whole(part, "manifest.json", MANIFEST)?;
        let what = "manifest.json".to_owned();
        let images: Vec<Saved> = json::read(&bytes, SAVED).map_err(|source| Error::Json { what, source })?;
        if images.len() > IMAGES {
            return Err(Error::TooMany { what: "images", limit: IMAGES });
        }
        match images.iter().find(|image| image.layers().len() > LAYERS) {
            Some(_) => Err(Error::TooMany { what: "layers of one image", limit: LAYERS }),
            None => Ok(Some(images)),
        }
    }

    /// Makes a manifest for each image.
    pub(crate) fn make(layout: &Layout, images: &[Saved]) -> Result<Self> {
        let mut docker = Self::default();
        for image in images {
            let manifest = docker.manifest(layout, image)?;
            // This cannot fail: only a map whose keys are not strings fails to serialise.
            let bytes = serde_json::to_vec(&manifest)
                .map_err(|source| Error::Json { what: image.config.clone(), source })?;
            let digest = Digest::of(&bytes);
            let entry = || IndexEntry::new(media_type::IMAGE_MANIFEST, digest.clone(), bytes.len() as u64);
            match image.repo_tags.as_deref().unwrap_or_default() {
                [] => docker.entries.push(entry()),
                tags => docker.entries.extend(tags.iter().map(|tag| entry().called(tag))),
            }
            docker.made.insert(digest, bytes.into());
        }
        Ok(docker)
    }

    /// The bytes of a digest, not checked, if an image of the archive has them.
    pub(crate) fn blob(&self, layout: &Layout, digest: &Digest) -> Result<Option<Part>> {
        if let Some(bytes) = self.made.get(digest) {
            return Ok(Some(Part::made(bytes)));
        }
        self.files.get(digest).map_or(Ok(None), |path| layout.linked(path))
    }

    fn manifest(&mut self, layout: &Layout, image: &Saved) -> Result<ImageManifest> {
        let (config, diff_ids) = image.configuration(layout)?;
        let layers = image.layers();
        if layers.len() != diff_ids.len() {
            return Err(layout.odd(format!(
                "{} names {} layers, and manifest.json {}",
                image.config,
                diff_ids.len(),
                layers.len()
            )));
        }
        self.files.insert(config.digest.clone(), image.config.clone());
        let mut descriptors = Vec::new();
        for (path, diff_id) in layers.iter().zip(&diff_ids) {
            let layer = layer(layout, path, diff_id)?;
            self.files.insert(layer.digest.clone(), path.clone());
            descriptors.push(layer);
        }
        Ok(ImageManifest {
            schema_version: 2,
            media_type: media_type::IMAGE_MANIFEST.to_owned(),
            config,
            layers: descriptors,
            annotations: BTreeMap::new(),
        })
    }
}

impl Saved {
    fn layers(&self) -> &[String] {
        self.layers.as_deref().unwrap_or_default()
    }

    /// The configuration's descriptor, and the diffIDs of its layers.
    fn configuration(&self, layout: &Layout) -> Result<(Descriptor, Vec<Digest>)> {
        let bytes = layout.whole(layout.named(&self.config)?, &self.config, MANIFEST)?;
        let found = Digest::of(&bytes);
        // If the file is named by a digest, as docker does it, its bytes have to match the name.
        let name = self.config.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".json").unwrap_or(name);
        if let Ok(expected) = Digest::from_sha256_hex(name)
            && expected != found
        {
            return Err(Error::WrongDigest { expected, found });
        }
        let config: Config = json::read(&bytes, shapes::CONFIG)
            .map_err(|source| Error::Json { what: self.config.clone(), source })?;
        let size = bytes.len() as u64;
        let media_type = media_type::IMAGE_CONFIG.to_owned();
        Ok((
            Descriptor { media_type, digest: found, size, platform: None },
            config.rootfs.diff_ids.unwrap_or_default(),
        ))
    }
}

/// Makes a layer's descriptor. The digest of an uncompressed layer is its diffID, and [`Layout::verify`] checks it
/// later. A compressed layer is unpacked and checked against its diffID here.
fn layer(layout: &Layout, path: &str, diff_id: &Digest) -> Result<Descriptor> {
    let part = layout.named(path)?;
    let size = part.size();
    if size > BLOB {
        return Err(Error::TooLarge { what: path.to_owned(), size, limit: BLOB });
    }
    let failed = || Error::io("read", layout.path());
    let mut start = Vec::new();
    part.clone().take(6).read_to_end(&mut start).map_err(failed())?;
    let (media_type, compression) = match start.as_slice() {
        [0x1f, 0x8b, ..] => (media_type::LAYER_GZIP, Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (media_type::LAYER_ZSTD, Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] | [b'B', b'Z', b'h', ..] => {
            return Err(layout.odd(format!("{path} is compressed in a way that no registry serves")));
        }
        _ => {
            let media_type = media_type::LAYER.to_owned();
            return Ok(Descriptor { media_type, digest: diff_id.clone(), size, platform: None });
        }
    };
    let limits = Limits { decoded: BLOB, ..Limits::ORDINARY };
    let unpacked = Decoder::new(compression, BufReader::new(part.clone()), &limits)
        .and_then(|decoder| hash(diff_id.algorithm(), decoder))
        .map_err(|e| layout.odd(format!("{path} does not decompress: {e}")))?;
    if unpacked != *diff_id {
        return Err(Error::WrongDigest { expected: diff_id.clone(), found: unpacked });
    }
    let digest = hash(Algorithm::Sha256, part).map_err(failed())?;
    Ok(Descriptor { media_type: media_type.to_owned(), digest, size, platform: None })
}

/// Fails unless manifest.json and index.json of the same file agree: a reader of either must get the same images.
pub(crate) fn agree(layout: &Layout, images: &[Saved]) -> Result<()> {
    let listed: Vec<_> = layout.images().collect();
    if listed.len() > IMAGES {
        return Err(Error::TooMany { what: "images beside a manifest.json", limit: IMAGES });
    }
    let mut tags: BTreeMap<String, &Digest> = BTreeMap::new();
    let mut roots: BTreeMap<&Digest, BTreeSet<(Digest, Vec<Digest>)>> = BTreeMap::new();
    for entry in &listed {
        if !roots.contains_key(&entry.digest) {
            roots.insert(&entry.digest, layout.parts_below(entry)?);
        }
        tags.extend(entry.tag().map(|tag| (tag.to_string(), &entry.digest)));
    }
    let differ = |what: String| {
        layout.odd(format!("its manifest.json and its index.json do not say the same: {what}"))
    };
    let mut said = BTreeSet::new();
    for image in images {
        let (config, _) = image.configuration(layout)?;
        let is = |below: &BTreeSet<(Digest, Vec<Digest>)>| {
            for (_, layers) in below.iter().filter(|(digest, _)| *digest == config.digest) {
                if same(layout, image.layers(), layers)? {
                    return Ok(true);
                }
            }
            Ok::<_, Error>(false)
        };
        let names = image.repo_tags.as_deref().unwrap_or_default();
        for name in names {
            let tag = IndexEntry::new("", config.digest.clone(), 0).called(name).tag();
            let tag = tag.ok_or_else(|| layout.odd(format!("{name:?} is no name of an image")))?.to_string();
            let root = tags.get(&tag).and_then(|root| roots.get(root));
            if !root.map_or(Ok(false), is)? {
                return Err(differ(format!("{name} is not the image that is tagged {tag}")));
            }
            said.insert(tag);
        }
        if names.is_empty() {
            let mut found = false;
            for below in roots.values() {
                found |= is(below)?;
            }
            if !found {
                return Err(differ(format!("the image of {} is only in one of them", image.config)));
            }
        }
    }
    match tags.keys().find(|tag| !said.contains(*tag)) {
        Some(tag) => Err(differ(format!("the tag {tag} is only in index.json"))),
        None => Ok(()),
    }
}

/// Whether the files have the bytes of these blobs.
fn same(layout: &Layout, paths: &[String], digests: &[Digest]) -> Result<bool> {
    if paths.len() != digests.len() {
        return Ok(false);
    }
    for (path, digest) in paths.iter().zip(digests) {
        let file = layout.named(path)?;
        let Some(blob) = layout.blob(digest)? else { return Ok(false) };
        // Usually both are the same file. Its digest is checked later, with all others.
        let one = layout.is_archive() && (blob.begins(), blob.size()) == (file.begins(), file.size());
        if !one && hash(digest.algorithm(), file).map_err(Error::io("read", layout.path()))? != *digest {
            return Ok(false);
        }
    }
    Ok(true)
}
