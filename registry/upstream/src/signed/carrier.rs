//! A manifest that carries signatures, and the signatures in it.

use std::collections::BTreeMap;

use hab_oci::{Digest, RepositoryName, json, shapes};
use hab_store::Store;
use serde::Deserialize;

use crate::error::Error;
use crate::judge::{BUNDLE, SIGNATURE, SIMPLE_SIGNING, Signature};
use hab_store::blocking;

/// The most bytes of a signed document; a usual one has a few hundred.
const PAYLOAD: u64 = 256 * 1024;
/// The most bytes of a bundle. A signature has a few thousand; another statement about an image may hold an SBOM.
const BUNDLE_BYTES: u64 = 8 << 20;
/// The most bytes of the configuration of a manifest of signatures: the digests of a hundred layers. Nobody reads it.
const CONFIGURATION: u64 = 16 * 1024;
/// The largest manifest that is searched for signatures, in bytes.
const CARRIER: u64 = 4 << 20;
/// The most signatures that are checked for one manifest.
pub(super) const SIGNATURES: usize = 100;

/// The fields of a manifest that can name signatures.
#[derive(Deserialize)]
pub(super) struct Carrier {
    config: Option<Layer>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layer {
    media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Carrier {
    pub(super) fn read(manifest: &[u8]) -> Self {
        json::read(manifest, shapes::MANIFEST).unwrap_or(Self { config: None, layers: Vec::new() })
    }

    pub(super) fn signatures(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.is_signature()).take(SIGNATURES)
    }

    /// Whether the manifest holds nothing but signatures. A bundle is alone in its manifest.
    fn is_nothing_else(&self) -> bool {
        let bundle = self.layers.iter().any(|layer| layer.media_type == BUNDLE);
        let most = if bundle { 1 } else { SIGNATURES };
        (1..=most).contains(&self.layers.len())
            && self.layers.iter().all(Layer::is_signature)
            && self.config.as_ref().is_none_or(|config| config.size <= CONFIGURATION)
    }

    /// The blobs that a decision needs, and for each whether it may be missing.
    pub(super) fn payloads(&self) -> impl Iterator<Item = (&Layer, bool)> {
        let config = self.config.as_ref().filter(|_| self.is_nothing_else());
        self.signatures().map(|layer| (layer, false)).chain(config.map(|config| (config, true)))
    }
}

impl Layer {
    /// The most bytes of the signature; `None` if the layer is none.
    fn limit(&self) -> Option<u64> {
        match self.media_type.as_str() {
            SIMPLE_SIGNING if self.annotations.contains_key(SIGNATURE) => Some(PAYLOAD),
            BUNDLE => Some(BUNDLE_BYTES),
            _ => None,
        }
    }

    fn is_signature(&self) -> bool {
        self.limit().is_some_and(|limit| self.size <= limit)
    }
}

/// The bytes of a manifest that may carry signatures; `None` if it is missing, or too large to carry any.
pub(super) fn carrier(blobs: &hab_store::Blobs, digest: &Digest) -> hab_blobs::Result<Option<Vec<u8>>> {
    match blobs.read(digest, CARRIER) {
        Err(hab_blobs::Error::TooLarge { .. }) => Ok(None),
        read => read,
    }
}

/// The signatures in a manifest of a repository, and whether it holds nothing else. A blob that it names counts only if
/// the repository holds it, so that bytes of others decide nothing here. Signatures beyond `room` are left out.
pub(super) async fn carried(
    store: &Store,
    repository: &RepositoryName,
    manifest: &Digest,
    room: &mut u64,
) -> Result<(Vec<Signature>, bool), Error> {
    let (blobs, key) = (store.blobs.clone(), manifest.clone());
    let Some(bytes) = blocking(move || carrier(&blobs, &key)).await? else { return Ok((Vec::new(), false)) };
    let carrier = Carrier::read(&bytes);
    let mut alone = carrier.is_nothing_else();
    if let Some(config) = &carrier.config {
        alone &= store.catalog.blob(repository, &config.digest).await? == Some(config.size);
    }
    let count = carrier.layers.len();
    let mut held = Vec::new();
    for layer in carrier.layers.into_iter().filter(Layer::is_signature).take(SIGNATURES) {
        let size = store.catalog.blob(repository, &layer.digest).await?;
        if let Some(size) = size.filter(|size| *size == layer.size && *size <= *room) {
            *room -= size;
            held.push(layer);
        }
    }
    let blobs = store.blobs.clone();
    let read = blocking(move || {
        let mut signatures = Vec::new();
        for mut layer in held {
            // The file's size counts, not the catalog's.
            if blobs.get(&layer.digest)? != Some(layer.size) {
                continue;
            }
            let Some(bytes) = blobs.read(&layer.digest, layer.size)? else { continue };
            signatures.extend(match layer.annotations.remove(SIGNATURE) {
                _ if layer.media_type == BUNDLE => Some(Signature::Bundle(bytes)),
                signature => signature.map(|signature| Signature::Document { payload: bytes, signature }),
            });
        }
        let alone = alone && signatures.len() == count;
        Ok::<_, hab_blobs::Error>((signatures, alone))
    });
    Ok(read.await?)
}
