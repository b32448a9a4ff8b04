//! Copies one image, everything that it needs, and everything that refers to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, StreamExt};
use hab_oci::shapes::is_index;
use hab_oci::{Digest, EdgeKind, Outline, Tag, TagOrDigest};
use hab_store::{Gaps, NewManifest, Store};

use super::change::{Change, changed};
use super::platform::{PlatformName, members};
use super::rule::SyncRule;
use crate::blobs::Arriving;
use crate::error::Error;
use crate::failure::Failure;
use crate::limits::UpstreamLimits;
use crate::remote::Remote;
use hab_store::blocking;

/// The most manifests of one image.
const MANIFESTS: usize = 1000;
/// The most bytes of these manifests together.
const BYTES: usize = 64 << 20;
/// Blobs that are fetched at a time.
const AT_ONCE: usize = 3;
/// The endings of the tags that cosign uses.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

pub(super) struct Copy<'a> {
    remote: &'a Remote,
    store: &'a Store,
    rule: &'a SyncRule,
    /// Every tag that the upstream has.
    there: &'a HashSet<Tag>,
    limits: UpstreamLimits,
    /// Bytes of the blobs that were fetched.
    pub(super) bytes: AtomicU64,
}

/// Manifests that belong together, the root last.
struct Tree {
    manifests: Vec<NewManifest>,
    /// Blobs that their indexes list beside manifests, with the sizes.
    blobs: BTreeMap<Digest, u64>,
    /// Some of the manifests are not stored here yet.
    new: bool,
}

impl Tree {
    fn root(&self) -> Option<&Digest> {
        self.manifests.last().map(|manifest| &manifest.digest)
    }
}

impl<'a> Copy<'a> {
    pub(super) fn new(
        remote: &'a Remote,
        store: &'a Store,
        rule: &'a SyncRule,
        there: &'a HashSet<Tag>,
        limits: UpstreamLimits,
    ) -> Self {
        Self { remote, store, rule, there, limits, bytes: AtomicU64::new(0) }
    }

    /// Fetches everything of a tag, and moves the tag when all of it is here.
    pub(super) async fn image(&self, tag: &Tag) -> Result<Change, Error> {
        let by_tag = TagOrDigest::Tag(tag.clone());
        let here = self.store.catalog.manifest(&self.remote.local, &by_tag).await?.map(|here| here.digest);
        let wanted = match &here {
            // A fixed tag keeps its first image, which is made whole; the upstream's present image is not wanted.
            Some(here) if self.remote.is_fixed(tag) => TagOrDigest::Digest(here.clone()),
            _ => by_tag,
        };
        let tree = self.tree(&wanted, &self.rule.platforms).await?;
        self.blobs(&tree).await?;
        if self.rule.referrers {
            for manifest in &tree.manifests {
                self.about(&manifest.digest).await?;
            }
        }
        let Some(root) = tree.root().cloned() else { return Err(self.unknown(&wanted)) };
        let gaps = if self.rule.platforms.is_empty() { Gaps::None } else { Gaps::Indexes };
        if self.remote.wants_signatures() {
            if tree.new {
                self.remote.keep_manifests(self.store, tree.manifests.clone(), Vec::new(), gaps).await?;
            }
            let reference = TagOrDigest::Tag(tag.clone());
            self.remote.approve(self.store, &reference, &root, self.limits.manifest).await?;
        }
        if tree.new || here.as_ref() != Some(&root) {
            self.remote.keep_manifests(self.store, tree.manifests, vec![tag.clone()], gaps).await?;
        }
        self.remote.was_checked(tag);
        Ok(changed(here, root))
    }

    /// Fetches what refers to a manifest, and what cosign keeps beside it.
    async fn about(&self, subject: &Digest) -> Result<(), Error> {
        match self.remote.ask_referrers(subject, self.limits.manifest).await {
            Ok(referrers) => {
                for referrer in referrers {
                    self.artifact(&TagOrDigest::Digest(referrer.manifest.digest)).await?;
                }
            }
            Err(Failure::Absent) => {}
            Err(failure) => return Err(self.remote.failed(failure)),
        }
        for kind in COSIGN {
            let tag = format!("{}-{}.{kind}", subject.algorithm().name(), subject.hex()).parse::<Tag>();
            if let Some(tag) = tag.ok().filter(|tag| self.there.contains(tag)) {
                self.artifact(&TagOrDigest::Tag(tag)).await?;
            }
        }
        Ok(())
    }

    async fn artifact(&self, reference: &TagOrDigest) -> Result<(), Error> {
        let tree = self.tree(reference, &[]).await?;
        self.blobs(&tree).await?;
        let tags: Vec<Tag> = match reference {
            TagOrDigest::Tag(tag) => vec![tag.clone()],
            TagOrDigest::Digest(_) => Vec::new(),
        };
        let here = self.store.catalog.manifest(&self.remote.local, reference).await?;
        if tree.new || here.map(|here| here.digest).as_ref() != tree.root() {
            match self.remote.keep_manifests(self.store, tree.manifests, tags, Gaps::None).await {
                // An immutable tag of such an artifact does not keep the image away.
                Ok(()) | Err(Error::Store(hab_store::Error::Immutable { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a manifest and, if it is an index, its members.
    async fn tree(&self, root: &TagOrDigest, platforms: &[PlatformName]) -> Result<Tree, Error> {
        let (root, mut new) = self.manifest(root).await?;
        let mut seen = BTreeSet::from([root.digest.clone()]);
        let mut bytes = root.bytes.len();
        let mut manifests = vec![root];
        let mut blobs = BTreeMap::new();
        let mut at = 0;
        while let Some(manifest) = manifests.get(at) {
            at += 1;
            if !is_index(&manifest.media_type) {
                continue;
            }
            let wanted = members(&manifest.bytes, platforms);
            let wanted = wanted.ok_or_else(|| self.wrong(format!("{} is no index", manifest.digest)))?;
            blobs.extend(wanted.blobs);
            for (digest, size) in wanted.manifests {
                if !seen.insert(digest.clone()) {
                    continue;
                }
                let Some((member, is_new)) = self.member(&digest, size).await? else { continue };
                bytes += member.bytes.len();
                if manifests.len() == MANIFESTS || bytes > BYTES {
                    return Err(self.wrong(format!("an index of more than {MANIFESTS} manifests")));
                }
                new |= is_new;
                manifests.push(member);
            }
        }
        if !platforms.is_empty() && blobs.is_empty() && manifests.iter().all(|m| is_index(&m.media_type)) {
            let names = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(self.wrong(format!("{} has no image for {names}", manifests[0].digest)));
        }
        // Publish children before the index that lists them.
        manifests.reverse();
        Ok(Tree { manifests, blobs, new })
    }

    /// Reads what an index lists as a manifest. `None` if it is a blob, whatever the index says; then the blob is
    /// fetched.
    async fn member(&self, digest: &Digest, size: u64) -> Result<Option<(NewManifest, bool)>, Error> {
        let unknown = match self.manifest(&TagOrDigest::Digest(digest.clone())).await {
            Err(unknown @ Error::ManifestUnknown { .. }) => unknown,
            other => return other.map(Some),
        };
        match self.blob(digest.clone(), size).await {
            Ok(()) => Ok(None),
            Err(Error::BlobUnknown { .. }) => Err(unknown),
            Err(error) => Err(error),
        }
    }

    /// Reads a manifest, from here or upstream; also says whether it is new here.
    async fn manifest(&self, reference: &TagOrDigest) -> Result<(NewManifest, bool), Error> {
        let reference = match reference {
            TagOrDigest::Tag(tag) => {
                let said = self.remote.client().head(&self.remote.name, tag.as_str()).await;
                match said {
                    Ok(Some(digest)) => TagOrDigest::Digest(digest),
                    Ok(None) => reference.clone(),
                    Err(Failure::Absent) => return Err(self.unknown(reference)),
                    Err(failure) => return Err(self.remote.failed(failure)),
                }
            }
            TagOrDigest::Digest(_) => reference.clone(),
        };
        if let TagOrDigest::Digest(_) = &reference
            && let Some(found) = self.store.catalog.manifest(&self.remote.local, &reference).await?
        {
            let (blobs, key, size) = (self.store.blobs.clone(), found.digest.clone(), found.size);
            if let Ok(Some(bytes)) = blocking(move || blobs.read(&key, size)).await {
                let (digest, media_type) = (found.digest, found.media_type);
                return Ok((NewManifest { digest, media_type, bytes }, false));
            }
        }
        Ok((self.remote.receive_manifest(&reference, self.limits.manifest).await?, true))
    }

    /// Fetches every blob that these manifests name, of the size that they state.
    async fn blobs(&self, tree: &Tree) -> Result<(), Error> {
        let mut wanted = tree.blobs.clone();
        for manifest in tree.manifests.iter().filter(|manifest| !is_index(&manifest.media_type)) {
            let outline = Outline::read(&manifest.media_type, &manifest.bytes)
                .map_err(|e| self.wrong(format!("it is not a manifest: {e}")))?;
            let blobs = outline
                .edges
                .into_iter()
                .filter(|edge| matches!(edge.kind, EdgeKind::Config | EdgeKind::Layer) && !edge.elsewhere);
            wanted.extend(blobs.map(|edge| (edge.digest, edge.size)));
        }
        let came = wanted.into_iter().map(|(digest, size)| self.blob(digest, size));
        let mut came = stream::iter(came).buffer_unordered(AT_ONCE);
        let mut whole = Ok(());
        while let Some(blob) = came.next().await {
            match blob {
                // The upstream would not give the others either.
                Err(Error::Failed { failure: Failure::Away(_) | Failure::Denied(_), .. }) => return blob,
                // The others are fetched all the same, so that the next try need not.
                Err(_) if whole.is_ok() => whole = blob,
                _ => {}
            }
        }
        whole
    }

    async fn blob(&self, digest: Digest, size: u64) -> Result<(), Error> {
        if self.store.catalog.blob(&self.remote.local, &digest).await?.is_some() {
            return Ok(());
        }
        // A blob that is larger than stated is refused.
        let limit = self.limits.blob.min(size);
        match self.remote.blob(self.store, &digest, limit).await? {
            Arriving::Here => Ok(()),
            Arriving::Coming(download) => {
                self.bytes.fetch_add(download.size(), Ordering::Relaxed);
                download.end().await.map_err(|failure| self.remote.failed(failure))
            }
        }
    }

    fn unknown(&self, reference: &TagOrDigest) -> Error {
        let reference = match reference {
            TagOrDigest::Tag(tag) => tag.to_string(),
            TagOrDigest::Digest(digest) => digest.to_string(),
        };
        Error::ManifestUnknown { repository: self.remote.local.clone(), reference }
    }

    fn wrong(&self, detail: String) -> Error {
        self.remote.failed(Failure::Wrong(detail))
    }
}
