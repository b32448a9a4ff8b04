//! Collects everything that belongs to an image: all platforms that are here, and the referrers.

use std::collections::{BTreeMap, BTreeSet};

use hab_layout::IndexEntry;
use hab_oci::{Digest, Edge, EdgeKind, Outline, RepositoryName, TagOrDigest};
use hab_store::{Error as StoreError, ManifestRecord, Store};

use crate::bridge::Bridge;
use crate::error::FarmError;

/// The files of an export, as far as they are collected.
pub struct Gathering<'a> {
    store: &'a Store,
    bridge: &'a Bridge,
    repository: &'a RepositoryName,
    /// Every blob, with its size.
    pub blobs: BTreeMap<Digest, u64>,
    /// The blobs that are manifests or indexes.
    pub manifests: BTreeSet<Digest>,
    /// Manifests that indexes list and that are not here, or not completely.
    pub missing: BTreeSet<Digest>,
}

impl<'a> Gathering<'a> {
    /// Begins with nothing of a repository.
    pub fn new(store: &'a Store, bridge: &'a Bridge, repository: &'a RepositoryName) -> Self {
        Self {
            store,
            bridge,
            repository,
            blobs: BTreeMap::new(),
            manifests: BTreeSet::new(),
            missing: BTreeSet::new(),
        }
    }

    /// Takes an image that a person named, which must be here with all its layers.
    pub fn root(&mut self, record: &ManifestRecord) -> Result<(), FarmError> {
        match self.enter(record)? {
            None => Ok(()),
            Some(lacking) => Err(FarmError::Incomplete {
                repository: self.repository.clone(),
                image: record.digest.clone(),
                lacking,
            }),
        }
    }

    /// Takes an image and everything below it. If one of its own layers is not here, returns that layer and takes
    /// nothing.
    fn enter(&mut self, record: &ManifestRecord) -> Result<Option<Digest>, FarmError> {
        let mut listed = match self.take(record)? {
            Ok(listed) => listed,
            Err(lacking) => return Ok(Some(lacking)),
        };
        // A loop without recursion, because a stranger may nest indexes as deep as they like.
        while let Some(digest) = listed.pop() {
            let mut here = self.take_blob(&digest)?;
            let key = TagOrDigest::Digest(digest.clone());
            let catalog = &self.store.catalog;
            if let Some(child) = self.bridge.wait(catalog.manifest(self.repository, &key))?
                && let Ok(below) = self.take(&child)?
            {
                listed.extend(below);
                here = true;
            }
            if !here {
                self.missing.insert(digest);
            }
        }
        Ok(None)
    }

    /// Takes a manifest and its blobs, and returns the manifests that it lists, which may be missing. If a blob is not
    /// here, returns that blob's digest instead.
    fn take(&mut self, record: &ManifestRecord) -> Result<Result<Vec<Digest>, Digest>, FarmError> {
        if self.manifests.contains(&record.digest) {
            return Ok(Ok(Vec::new()));
        }
        let store = &self.store;
        let bytes = store.blobs.read(&record.digest, record.size)?;
        let bytes = bytes.ok_or_else(|| StoreError::Damaged { digest: record.digest.clone() })?;
        let outline = Outline::read(&record.media_type, &bytes)
            .map_err(|source| StoreError::Manifest { digest: record.digest.clone(), source })?;
        let mut parts = BTreeMap::new();
        let own = |e: &&Edge| matches!(e.kind, EdgeKind::Config | EdgeKind::Layer) && !e.listed;
        for edge in outline.edges.iter().filter(own) {
            match self.held(&edge.digest)? {
                Some(size) => drop(parts.insert(edge.digest.clone(), size)),
                None if edge.elsewhere => {}
                None => return Ok(Err(edge.digest.clone())),
            }
        }
        self.blobs.extend(parts);
        self.blobs.insert(record.digest.clone(), record.size);
        self.manifests.insert(record.digest.clone());
        let listed = outline.edges.into_iter().filter(|e| e.listed);
        Ok(Ok(listed.map(|e| e.digest).collect()))
    }

    /// Takes a blob if the repository holds it; returns whether it does.
    fn take_blob(&mut self, digest: &Digest) -> Result<bool, FarmError> {
        let held = self.held(digest)?;
        self.blobs.extend(held.map(|size| (digest.clone(), size)));
        Ok(held.is_some())
    }

    /// The size of a blob that the repository holds, if its file is there.
    fn held(&self, digest: &Digest) -> Result<Option<u64>, FarmError> {
        let store = &self.store;
        let held = self.bridge.wait(store.catalog.blob(self.repository, digest))?;
        Ok(store.blobs.get(digest)?.filter(|size| held == Some(*size)))
    }

    /// Takes the referrers of everything that was taken, and the referrers of those.
    pub fn referrers(&mut self) -> Result<Vec<IndexEntry>, FarmError> {
        let (mut found, mut asked) = (BTreeMap::new(), BTreeSet::new());
        while let Some(subject) = self.manifests.difference(&asked).next().cloned() {
            let store = &self.store;
            let referrers = self.bridge.wait(store.catalog.referrers(self.repository, &subject))?;
            asked.insert(subject);
            for referrer in referrers {
                let new = !self.manifests.contains(&referrer.manifest.digest);
                if new && self.enter(&referrer.manifest)?.is_none() {
                    let mut entry = entry(&referrer.manifest);
                    entry.artifact_type = referrer.artifact_type;
                    found.insert(entry.digest.clone(), entry);
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

/// The entry of a layout for a manifest.
pub fn entry(record: &ManifestRecord) -> IndexEntry {
    IndexEntry::new(&record.media_type, record.digest.clone(), record.size)
}
