//! Nothing of some repositories is served that is not signed by keys that the operator trusts.
//!
//! Signatures are looked for where cosign puts them: in the manifest at the tag `sha256-<hex>.sig` of the same repository,
//! and in referrers, which an upstream lists by its endpoint or at the tag `sha256-<hex>`. They are kept here like everything else that is pulled through, so that the same decision can be made
//! again after a restart and without the upstream. Only that a manifest's signatures suffice is remembered; that they do
//! not is found out again, though upstream is asked for more of them only once in its time to live.
//!
//! A manifest is approved by its own signatures, or by those of an index here that lists it. A signature by a trusted key
//! is approved too, or no client could check it. Blobs are approved by an approved manifest that names them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use hab_oci::{Digest, RepositoryName, Tag, TagOrDigest, json, shapes};
use hab_store::Store;
use serde::Deserialize;

use super::failure::Failure;
use super::judge::{BUNDLE, SIGNATURE, SIMPLE_SIGNING, likelihood};
use super::{Remote, Signature, Signed, locked};
use crate::body::blocking;
use crate::error::Error;
use crate::registry::now;

/// The most bytes of a signed document; one has a few hundred.
const PAYLOAD: u64 = 256 * 1024;
/// The most bytes of a bundle. One that signs has a few thousand; one about an image may hold an SBOM.
const BUNDLE_BYTES: u64 = 8 << 20;
/// The most bytes of documents and bundles that are looked at for one manifest.
const ROOM: u64 = 32 << 20;
/// The largest manifest that is looked through for signatures, in bytes.
const CARRIER: u64 = 4 << 20;
/// The most signatures that are weighed for one manifest.
const SIGNATURES: usize = 100;
/// The most manifests that carry signatures of one.
const CARRIERS: usize = 20;
/// The most indexes that are asked about a manifest, and manifests about a blob.
const ABOVE: u32 = 50;
/// The most decisions that are remembered.
const MOST: usize = 100_000;

/// What was decided, and asked. Lost with the process: all of it can be found out again.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    approved: HashSet<(RepositoryName, Digest)>,
    asked: HashMap<(RepositoryName, Digest), Instant>,
}

/// The part of a manifest that has signatures in it.
#[derive(Deserialize)]
struct Carrier {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Carrier {
    fn read(manifest: &[u8]) -> Self {
        json::read(manifest, shapes::MANIFEST).unwrap_or(Self { layers: Vec::new() })
    }

    fn signatures(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.is_signature()).take(SIGNATURES)
    }

    /// Whether it holds nothing else. A bundle is alone in its manifest.
    fn is_nothing_else(&self) -> bool {
        let bundle = self.layers.iter().any(|layer| layer.media_type == BUNDLE);
        let most = if bundle { 1 } else { SIGNATURES };
        (1..=most).contains(&self.layers.len()) && self.layers.iter().all(Layer::is_signature)
    }
}

impl Layer {
    /// How many bytes it may have, if it is a signature at all.
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

impl Remote {
    fn rules(&self) -> impl Iterator<Item = &Signed> {
        let names = |rule: &&Signed| {
            rule.repositories.is_empty() || rule.repositories.iter().any(|p| p.matches(&self.name))
        };
        self.client().config().signed.iter().filter(names)
    }

    /// Whether anything of this repository has to be signed.
    pub(super) fn wants_signatures(&self) -> bool {
        self.rules().next().is_some()
    }

    /// Whether a manifest that is here may be served: [`Error::NotSigned`] if not.
    pub(super) async fn approve(&self, store: &Store, digest: &Digest, limit: usize) -> Result<(), Error> {
        if !self.wants_signatures() || self.is_approved(digest) {
            return Ok(());
        }
        let mut missing = None;
        let mut away = None;
        // What is here is weighed before anybody is asked for more.
        for ask in [false, true] {
            for candidate in self.with_above(store, digest).await? {
                if ask && let Err(failure) = self.fetch_signatures(store, &candidate, limit).await? {
                    away = Some(failure);
                }
                match self.weigh(store, &candidate).await? {
                    Ok(()) => {
                        self.remember(&candidate);
                        self.remember(digest);
                        return Ok(());
                    }
                    // Of itself, and after upstream was asked.
                    Err(sentence) if candidate == *digest => missing = Some(sentence),
                    Err(_) => {}
                }
            }
            if self.is_signature(store, digest).await? {
                self.remember(digest);
                return Ok(());
            }
        }
        match away {
            Some(failure) => Err(self.failed(failure)),
            None => Err(Error::NotSigned {
                repository: self.local.clone(),
                digest: digest.clone(),
                missing: missing.unwrap_or_default(),
            }),
        }
    }

    /// Whether a blob may be served, here or not.
    pub(crate) async fn approve_blob(
        &self,
        store: &Store,
        digest: &Digest,
        limit: usize,
    ) -> Result<(), Error> {
        if !self.wants_signatures() {
            return Ok(());
        }
        let manifests = store.catalog.named_by(&self.local, digest, 1000).await?;
        if manifests.iter().any(|manifest| self.is_approved(manifest)) {
            return Ok(());
        }
        let mut refused = None;
        for manifest in manifests.iter().take(ABOVE as usize) {
            match self.approve(store, manifest, limit).await {
                Err(error @ Error::NotSigned { .. }) => refused = Some(error),
                other => return other,
            }
        }
        Err(refused.unwrap_or_else(|| Error::NotSigned {
            repository: self.local.clone(),
            digest: digest.clone(),
            missing: "no manifest that was pulled here names it".to_owned(),
        }))
    }

    /// Whether a blob may be served by what was decided already; nobody is asked for more.
    pub(crate) async fn is_approved_blob(&self, store: &Store, digest: &Digest) -> Result<bool, Error> {
        if !self.wants_signatures() {
            return Ok(true);
        }
        let manifests = store.catalog.named_by(&self.local, digest, 1000).await?;
        Ok(manifests.iter().any(|manifest| self.is_approved(manifest)))
    }

    fn is_approved(&self, digest: &Digest) -> bool {
        locked(&self.upstream.verdicts).approved.contains(&(self.local.clone(), digest.clone()))
    }

    fn remember(&self, digest: &Digest) {
        let mut verdicts = locked(&self.upstream.verdicts);
        if verdicts.approved.len() >= MOST {
            verdicts.approved.clear();
        }
        verdicts.approved.insert((self.local.clone(), digest.clone()));
    }

    /// A manifest, and the indexes here that list it, directly or by another one.
    async fn with_above(&self, store: &Store, digest: &Digest) -> Result<Vec<Digest>, Error> {
        let mut all = vec![digest.clone()];
        let above = store.catalog.listed_by(&self.local, digest, ABOVE).await?;
        for index in &above {
            all.extend(store.catalog.listed_by(&self.local, index, ABOVE).await?);
        }
        // The nearer one is the likelier one.
        all.splice(1..1, above);
        all.truncate(ABOVE as usize);
        Ok(all)
    }

    /// Every rule has to be met by the signatures that are here.
    async fn weigh(&self, store: &Store, digest: &Digest) -> Result<Result<(), String>, Error> {
        let signatures = self.signatures_here(store, digest).await?;
        Ok(self.rules().try_for_each(|rule| rule.judge.approve(digest, &signatures)))
    }

    async fn signatures_here(&self, store: &Store, digest: &Digest) -> Result<Vec<Signature>, Error> {
        let mut carriers = Vec::new();
        if let Some(tag) = signature_tag(digest) {
            let at_tag = store.catalog.manifest(&self.local, &TagOrDigest::Tag(tag)).await?;
            carriers.extend(at_tag.map(|found| found.digest));
        }
        let referrers = store.catalog.referrers(&self.local, digest).await?;
        let referrers = referrers.into_iter().map(|r| (r.manifest.digest, r.artifact_type, r.annotations));
        carriers.extend(likeliest(referrers));
        let (mut signatures, mut room) = (Vec::new(), ROOM);
        for carrier in carriers.into_iter().take(CARRIERS) {
            signatures.extend(carried(store, &self.local, &carrier, &mut room).await?.0);
        }
        signatures.truncate(SIGNATURES);
        Ok(signatures)
    }

    /// Whether a manifest is nothing but signatures, one of them by a trusted key of each rule.
    async fn is_signature(&self, store: &Store, digest: &Digest) -> Result<bool, Error> {
        let (signatures, alone) = carried(store, &self.local, digest, &mut { ROOM }).await?;
        Ok(alone && self.rules().all(|rule| signatures.iter().any(|s| rule.judge.made(s))))
    }

    /// Brings here what upstream has of a manifest's signatures, at most once in its time to live.
    async fn fetch_signatures(
        &self,
        store: &Store,
        digest: &Digest,
        limit: usize,
    ) -> Result<Result<(), Failure>, Error> {
        let _turn = self.turn(&format!("signatures of {digest}")).await;
        let key = (self.local.clone(), digest.clone());
        let ttl = self.client().config().ttl;
        let asked = locked(&self.upstream.verdicts).asked.get(&key).copied();
        if self.client().config().offline || asked.is_some_and(|at| at.elapsed() < ttl) {
            return Ok(Ok(()));
        }
        // It may be signatures itself, of which nobody wanted the payloads yet.
        let (blobs, of) = (store.blobs.clone(), digest.clone());
        if let Some(bytes) = blocking(move || carrier(&blobs, &of)).await? {
            match self.fetch_payloads(store, &bytes).await {
                Ok(()) | Err(Error::BlobUnknown { .. }) => {}
                Err(Error::Upstream { failure, .. }) => return Ok(Err(failure)),
                Err(other) => return Err(other),
            }
        }
        let mut wanted = Vec::new();
        if let Some(tag) = signature_tag(digest) {
            wanted.push(TagOrDigest::Tag(tag));
        }
        match self.ask_referrers(digest, limit).await {
            Ok(entries) => {
                let entries = entries.into_iter().map(|e| (e.digest, e.artifact_type, e.annotations));
                wanted.extend(likeliest(entries).map(TagOrDigest::Digest));
            }
            Err(Failure::Absent) => {}
            Err(failure) => return Ok(Err(failure)),
        }
        for reference in wanted {
            match self.fetch_carrier(store, &reference, limit).await {
                // Without them, those that are here have to do.
                Ok(())
                | Err(
                    Error::ManifestUnknown { .. }
                    | Error::BlobUnknown { .. }
                    | Error::Store(hab_store::Error::Immutable { .. }),
                ) => {}
                Err(Error::Upstream { failure, .. }) => return Ok(Err(failure)),
                Err(other) => return Err(other),
            }
        }
        let mut verdicts = locked(&self.upstream.verdicts);
        if verdicts.asked.len() >= MOST {
            verdicts.asked.retain(|_, at| at.elapsed() < ttl);
        }
        verdicts.asked.insert(key, Instant::now());
        Ok(Ok(()))
    }

    /// Payloads first: a manifest of signatures that is here has all that a decision rests on.
    async fn fetch_carrier(&self, store: &Store, reference: &TagOrDigest, limit: usize) -> Result<(), Error> {
        let manifest = self.receive_manifest(reference, limit).await?;
        if Carrier::read(&manifest.bytes).signatures().next().is_none() {
            return Ok(());
        }
        self.fetch_payloads(store, &manifest.bytes).await?;
        let tags = match reference {
            TagOrDigest::Tag(tag) => vec![tag.clone()],
            TagOrDigest::Digest(_) => Vec::new(),
        };
        self.keep_manifests(store, vec![manifest], tags, hab_store::Gaps::All).await
    }

    /// Brings here what a manifest of signatures says is signed; nothing of any other manifest.
    async fn fetch_payloads(&self, store: &Store, manifest: &[u8]) -> Result<(), Error> {
        for layer in Carrier::read(manifest).signatures() {
            if store.catalog.blob(&self.local, &layer.digest).await?.is_some() {
                continue;
            }
            let limit = usize::try_from(layer.size).unwrap_or(usize::MAX);
            let bytes = self.client().small_blob(&self.name, &layer.digest, limit).await;
            let bytes = bytes.map_err(|failure| match failure {
                Failure::Absent => {
                    Error::BlobUnknown { repository: self.local.clone(), digest: layer.digest.clone() }
                }
                other => self.failed(other),
            })?;
            let (blobs, algorithm) = (store.blobs.clone(), layer.digest.algorithm());
            let writer = blocking(move || {
                let mut writer = blobs.writer_with(algorithm)?;
                writer.add(&bytes)?;
                Ok(writer)
            });
            let (local, address) = (std::slice::from_ref(&self.local), self.client().config().address());
            store.keep_received(local, writer.await?, &layer.digest, &address, now()).await?;
        }
        Ok(())
    }
}

/// Where cosign puts the signatures of a manifest.
fn signature_tag(digest: &Digest) -> Option<Tag> {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex()).parse().ok()
}

/// Which referrers to look into for signatures, the likeliest first.
fn likeliest(
    referrers: impl Iterator<Item = (Digest, Option<String>, BTreeMap<String, String>)>,
) -> impl Iterator<Item = Digest> {
    let rank = |(digest, kind, notes): (Digest, Option<String>, _)| {
        likelihood(kind.as_deref(), &notes).map(|rank| (rank, digest))
    };
    let mut found: Vec<(u8, Digest)> = referrers.filter_map(rank).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().take(CARRIERS).map(|(_, digest)| digest)
}

/// The bytes of a manifest that may carry signatures; one that is too large for that carries none.
fn carrier(blobs: &hab_store::Blobs, digest: &Digest) -> hab_store::Result<Option<Vec<u8>>> {
    match blobs.read(digest, CARRIER) {
        Err(hab_store::Error::TooLarge { .. }) => Ok(None),
        read => read,
    }
}

/// The signatures in a manifest of a repository, and whether it holds nothing else. What it names counts only where the
/// repository holds it: somebody else's bytes decide nothing here. What there is no room for is left out.
async fn carried(
    store: &Store,
    repository: &RepositoryName,
    manifest: &Digest,
    room: &mut u64,
) -> Result<(Vec<Signature>, bool), Error> {
    let (blobs, key) = (store.blobs.clone(), manifest.clone());
    let Some(bytes) = blocking(move || carrier(&blobs, &key)).await? else { return Ok((Vec::new(), false)) };
    let carrier = Carrier::read(&bytes);
    let alone = carrier.is_nothing_else();
    let mut held = Vec::new();
    for layer in carrier.layers.into_iter().filter(Layer::is_signature).take(SIGNATURES) {
        let size = store.catalog.blob(repository, &layer.digest).await?;
        if let Some(size) = size.filter(|size| *size == layer.size && *size <= *room) {
            *room -= size;
            held.push(layer);
        }
    }
    let blobs = store.blobs.clone();
    blocking(move || {
        let mut signatures = Vec::new();
        for mut layer in held {
            // The file counts, not what the catalog says of it.
            if blobs.get(&layer.digest)? != Some(layer.size) {
                continue;
            }
            let Some(bytes) = blobs.read(&layer.digest, layer.size)? else { continue };
            signatures.extend(match layer.annotations.remove(SIGNATURE) {
                _ if layer.media_type == BUNDLE => Some(Signature::Bundle(bytes)),
                signature => signature.map(|signature| Signature::Document { payload: bytes, signature }),
            });
        }
        Ok((signatures, alone))
    })
    .await
}
