//! Serves some repositories only if they are signed by keys that the operator trusts.
//!
//! Signatures are looked for where cosign puts them: in the manifest at the tag `sha256-<hex>.sig` of the same
//! repository, and in referrers, which an upstream lists by its endpoint or at the tag `sha256-<hex>`. They are stored
//! here like everything else that is pulled through, so that the same decision can be made again after a restart and
//! without the upstream. Only an approval is remembered. A refusal is decided again for each request, but the upstream
//! is asked for more signatures only once in its time to live.
//!
//! A manifest is approved by its own signatures, or by those of an index here that lists it. A manifest of nothing but
//! signatures by trusted keys is approved too, because clients need it to check them. But it is approved only by its
//! digest and at the tags of signatures. At any other tag, one genuine signature would let in whatever its manifest
//! names. Blobs are approved by an approved manifest that names them.

mod carrier;
mod fetch;
mod places;
mod verdicts;

use hab_oci::{Digest, TagOrDigest};
use hab_store::Store;

use crate::config::Signed;
use crate::error::Error;
use crate::judge::Signature;
use crate::memory::locked;
use crate::remote::Remote;
use crate::sync::is_beside;
use carrier::{SIGNATURES, carried};
use places::{CARRIERS, likeliest, signature_tag};
use verdicts::Approved;
pub(crate) use verdicts::Verdicts;

/// The most bytes of signed documents and bundles that are read for one manifest.
const ROOM: u64 = 32 << 20;
/// The most indexes that are checked for a manifest, and manifests for a blob.
const ABOVE: u32 = 50;

impl Remote {
    fn rules(&self) -> impl Iterator<Item = &Signed> {
        let names = |rule: &&Signed| {
            rule.repositories.is_empty() || rule.repositories.iter().any(|p| p.matches(&self.name))
        };
        self.client().config().signed.iter().filter(names)
    }

    /// Whether a rule wants this repository to be signed.
    pub(crate) fn wants_signatures(&self) -> bool {
        self.rules().next().is_some()
    }

    /// Whether a stored manifest may be served by this reference: [`Error::NotSigned`] if not.
    pub(crate) async fn approve(
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
                    missing: format!("it has only signatures of others, and cannot be served as tag {tag}"),
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
        // Signatures that are here are checked before the upstream is asked for more.
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
                    // The reason about the manifest itself counts, last set after the upstream was asked.
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

    /// Whether a blob may be served, whether or not it is here. `limit`: bytes of a manifest that is asked for.
    pub async fn approve_blob(&self, store: &Store, digest: &Digest, limit: usize) -> Result<(), Error> {
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

    /// Whether a blob may be served by earlier decisions; the upstream is not asked.
    pub async fn is_approved_blob(&self, store: &Store, digest: &Digest) -> Result<bool, Error> {
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
        locked(&self.upstream.verdicts).approved(&(self.local.clone(), digest.clone()))
    }

    fn remember(&self, digest: &Digest, approved: Approved) {
        locked(&self.upstream.verdicts).approve((self.local.clone(), digest.clone()), approved);
    }

    /// A manifest, and the indexes here that list it, directly or through another index.
    async fn with_above(&self, store: &Store, digest: &Digest) -> Result<Vec<Digest>, Error> {
        let mut all = vec![digest.clone()];
        let above = store.catalog.listed_by(&self.local, digest, ABOVE).await?;
        for index in &above {
            all.extend(store.catalog.listed_by(&self.local, index, ABOVE).await?);
        }
        // The nearest indexes come first, because they are likelier to be signed.
        all.splice(1..1, above);
        all.truncate(ABOVE as usize);
        Ok(all)
    }

    /// Checks the signatures that are here; every rule must be met.
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
        carriers.extend(likeliest(referrers));
        let (mut signatures, mut room) = (Vec::new(), ROOM);
        for carrier in carriers.into_iter().take(CARRIERS) {
            signatures.extend(carried(store, &self.local, &carrier, &mut room).await?.0);
        }
        signatures.truncate(SIGNATURES);
        Ok(signatures)
    }

    /// Whether a manifest is nothing but signatures: for each rule one by a trusted key, and no document that only
    /// other keys signed.
    async fn is_signature(&self, store: &Store, digest: &Digest) -> Result<bool, Error> {
        let (signatures, alone) = carried(store, &self.local, digest, &mut { ROOM }).await?;
        if !alone || !self.rules().all(|rule| signatures.iter().any(|s| rule.judge.made(s))) {
            return Ok(false);
        }
        let (ours, others): (Vec<_>, Vec<_>) =
            signatures.iter().partition(|s| self.rules().any(|rule| rule.judge.made(s)));
        // Another key may have signed the same document, too.
        Ok(others.iter().all(|other| ours.iter().any(|s| s.payload() == other.payload())))
    }
}
