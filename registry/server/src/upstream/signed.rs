//! Nothing of some repositories is served that is not signed by keys that the operator trusts.
//!
//! Signatures are looked for where cosign puts them: in the manifest at the tag `sha256-<hex>.sig` of the same
//! repository, and in referrers, which an upstream lists by its endpoint or at the tag `sha256-<hex>`. They are kept
//! here like everything else that is pulled through, so that the same decision can be made again after a restart and
//! without the upstream. Only that a manifest's signatures suffice is remembered; that they do not is found out
//! again, though upstream is asked for more of them only once in its time to live.
//!
//! A manifest is approved by its own signatures, or by those of an index here that lists it. A manifest of nothing
//! but signatures by trusted keys is approved too, or no client could check them: by its digest and at the tags that
//! signatures have, never at another, or one genuine signature would bring whatever its manifest names to any tag.
//! Blobs are approved by an approved manifest that names them.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use hab_oci::{Digest, RepositoryName, Tag, TagOrDigest, json, shapes};
use hab_store::Store;
use serde::Deserialize;

use super::failure::Failure;
use super::judge::{BUNDLE, SIGNATURE, SIMPLE_SIGNING, likelihood};
use super::sync::is_beside;
use super::{Remote, Signature, Signed, locked};
use crate::body::blocking;
use crate::clock::now;
use crate::error::Error;

/// The most bytes of a signed document; one has a few hundred.
const PAYLOAD: u64 = 256 * 1024;
/// The most bytes of a bundle. One that signs has a few thousand; one about an image may hold an SBOM.
const BUNDLE_BYTES: u64 = 8 << 20;
/// The most bytes of the configuration of a manifest of signatures, which nobody reads: a hundred layers' digests.
const CONFIGURATION: u64 = 16 * 1024;
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
    approved: HashMap<(RepositoryName, Digest), Approved>,
    asked: HashMap<(RepositoryName, Digest), Instant>,
}

/// As what a manifest may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Approved {
    /// As whatever it is: it is signed, or an index that lists it is.
    Signed,
    /// As signatures of others.
    Signature,
}

/// The part of a manifest that has signatures in it.
#[derive(Deserialize)]
struct Carrier {
    config: Option<Layer>,
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
        json::read(manifest, shapes::MANIFEST).unwrap_or(Self { config: None, layers: Vec::new() })
    }

    fn signatures(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.is_signature()).take(SIGNATURES)
    }

    /// Whether it holds nothing else. A bundle is alone in its manifest.
    fn is_nothing_else(&self) -> bool {
        let bundle = self.layers.iter().any(|layer| layer.media_type == BUNDLE);
        let most = if bundle { 1 } else { SIGNATURES };
        (1..=most).contains(&self.layers.len())
            && self.layers.iter().all(Layer::is_signature)
            && self.config.as_ref().is_none_or(|config| config.size <= CONFIGURATION)
    }

    /// What has to be here before it can be judged, and whether it counts without.
    fn payloads(&self) -> impl Iterator<Item = (&Layer, bool)> {
        let config = self.config.as_ref().filter(|_| self.is_nothing_else());
        self.signatures().map(|layer| (layer, false)).chain(config.map(|config| (config, true)))
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

    /// Whether a manifest that is here may be served by this reference: [`Error::NotSigned`] if not.
    pub(super) async fn approve(
        &self,
        store: &Store,
        reference: &TagOrDigest,
        digest: &Digest,
        limit: usize,
    ) -> Result<(), Error> {
        if !self.wants_signatures() {
            return Ok(());
        }
        let approved = self.approve_as(store, digest, limit).await?;
        match reference {
            TagOrDigest::Tag(tag) if approved == Approved::Signature && !is_beside(tag) => {
                Err(Error::NotSigned {
                    repository: self.local.clone(),
                    digest: digest.clone(),
                    missing: format!("it is only signatures of others, which are no {tag}"),
                })
            }
            _ => Ok(()),
        }
    }

    async fn approve_as(&self, store: &Store, digest: &Digest, limit: usize) -> Result<Approved, Error> {
        if let Some(approved) = self.approved(digest) {
            return Ok(approved);
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
                        self.remember(&candidate, Approved::Signed);
                        self.remember(digest, Approved::Signed);
                        return Ok(Approved::Signed);
                    }
                    // Of itself, and after upstream was asked.
                    Err(sentence) if candidate == *digest => missing = Some(sentence),
                    Err(_) => {}
                }
            }
            if self.is_signature(store, digest).await? {
                self.remember(digest, Approved::Signature);
                return Ok(Approved::Signature);
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
            match self.approve_as(store, manifest, limit).await {
                Err(error @ Error::NotSigned { .. }) => refused = Some(error),
                other => return other.map(|_| ()),
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
        self.approved(digest).is_some()
    }

    fn approved(&self, digest: &Digest) -> Option<Approved> {
        locked(&self.upstream.verdicts).approved.get(&(self.local.clone(), digest.clone())).copied()
    }

    fn remember(&self, digest: &Digest, approved: Approved) {
        let mut verdicts = locked(&self.upstream.verdicts);
        if verdicts.approved.len() >= MOST {
            verdicts.approved.clear();
        }
        verdicts.approved.insert((self.local.clone(), digest.clone()), approved);
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

    /// Whether a manifest is nothing but signatures: one of them by a trusted key of each rule, and nothing in them
    /// that none of these keys signed.
    async fn is_signature(&self, store: &Store, digest: &Digest) -> Result<bool, Error> {
        let (signatures, alone) = carried(store, &self.local, digest, &mut { ROOM }).await?;
        if !alone || !self.rules().all(|rule| signatures.iter().any(|s| rule.judge.made(s))) {
            return Ok(false);
        }
        let (ours, others): (Vec<_>, Vec<_>) =
            signatures.iter().partition(|s| self.rules().any(|rule| rule.judge.made(s)));
        // Somebody else may have signed the same document.
        Ok(others.iter().all(|other| ours.iter().any(|s| s.payload() == other.payload())))
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
        for (layer, optional) in Carrier::read(manifest).payloads() {
            if store.catalog.blob(&self.local, &layer.digest).await?.is_some() {
                continue;
            }
            let limit = usize::try_from(layer.size).unwrap_or(usize::MAX);
            let bytes = self.client().small_blob(&self.name, &layer.digest, limit).await;
            if optional && matches!(bytes, Err(Failure::Absent | Failure::Wrong(_))) {
                continue;
            }
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
                Ok::<_, hab_blobs::Error>(writer)
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
fn carrier(blobs: &hab_store::Blobs, digest: &Digest) -> hab_blobs::Result<Option<Vec<u8>>> {
    match blobs.read(digest, CARRIER) {
        Err(hab_blobs::Error::TooLarge { .. }) => Ok(None),
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
        let alone = alone && signatures.len() == count;
        Ok::<_, hab_blobs::Error>((signatures, alone))
    })
    .await
}
