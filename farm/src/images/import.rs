//! Reads images from a folder or a file, without a second registry: `hab-build registry import`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fmt, io};

use hab_layout::{Content, IndexEntry, Layout};
use hab_oci::{Descriptor, Digest, RepositoryName, Tag};
use hab_store::{Error as StoreError, Gaps, NewManifest, Publication};

use crate::error::FarmError;
use crate::images::Images;
use crate::images::told::{amounts, stopped_or};
use crate::progress_reader::ProgressReader;
use crate::words::counted;
use hab_clock::now;

/// How many times a publication is tried, because a collection may remove blobs that were just stored.
const TRIES: usize = 3;

/// The result of an import.
#[derive(Debug, serde::Serialize)]
pub struct Unpacked {
    /// The digest of each tag's image.
    pub tags: BTreeMap<Tag, Digest>,
    /// The number of manifests and indexes.
    pub manifests: usize,
    /// The number of layers and configurations.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Manifests that indexes list and that are not in the layout.
    pub missing: BTreeSet<Digest>,
    /// Images without a tag, which a collection removes when they are older than the grace period.
    pub untagged: BTreeSet<Digest>,
}

impl Images<'_> {
    /// Checks a whole layout, and then adds its images to a repository in one transaction.
    ///
    /// With `tag`, takes the image that has this tag in the layout, or the layout's only image. Without it, takes all
    /// images with the tags they have.
    pub fn import(
        &self,
        from: &Path,
        repository: &RepositoryName,
        tag: Option<&Tag>,
    ) -> Result<Unpacked, FarmError> {
        let layout = Layout::open(from)?;
        let content = match tag {
            Some(tag) => layout.one(tag)?,
            None => layout.everything()?,
        };
        // Check before storing a single byte: a fault in the last layer must not leave the first layer here.
        self.progress.stage(&format!("check {}", from.display()));
        layout.verify(&content)?;
        self.progress.stage(&format!("take {} over", from.display()));
        let untagged = if tag.is_none() { content.nameless(&layout) } else { BTreeSet::new() };
        for left in (1..=TRIES).rev() {
            self.keep_blobs(&layout, &content, repository)?;
            match self.bridge.wait(self.store.publish_tagged(
                publication(repository, &content)?,
                content.tags.clone().into_iter().collect(),
            )) {
                Err(StoreError::Missing { .. } | StoreError::NotStored { .. }) if left > 1 => {}
                Err(e) => return Err(e.into()),
                Ok(()) => break,
            }
        }
        let (manifests, blobs, bytes) = (content.manifests.len(), content.blobs.len(), content.bytes());
        Ok(Unpacked { tags: content.tags, manifests, blobs, bytes, missing: content.missing, untagged })
    }

    /// Stores the blobs as a push would. Hashes each blob again, and a collection removes it if nothing comes to need
    /// it.
    fn keep_blobs(
        &self,
        layout: &Layout,
        content: &Content,
        repository: &RepositoryName,
    ) -> Result<(), FarmError> {
        let (done, total) = (Cell::new(0), content.blobs.values().map(|entry| entry.size).sum());
        for entry in content.blobs.values() {
            let held = self.bridge.wait(self.store.catalog.blob(repository, &entry.digest))?;
            if held == Some(entry.size) && self.store.blobs.get(&entry.digest)? == Some(entry.size) {
                continue;
            }
            let Some(part) = layout.blob(&entry.digest)? else {
                return Err(FarmError::Usage(format!("{} vanished while the layout was read", entry.digest)));
            };
            let mut part = ProgressReader {
                inner: part,
                progress: self.progress.as_ref(),
                what: "done",
                done: &done,
                total,
            };
            let mut writer = self.store.blobs.writer_with(entry.digest.algorithm())?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let read = io::Read::read(&mut part, &mut buffer).map_err(FarmError::io("the layout"));
                let n = stopped_or(self.progress.as_ref(), read, "no image is imported")?;
                if n == 0 {
                    break;
                }
                writer.add(&buffer[..n])?;
            }
            self.bridge.wait(self.store.keep_blob(repository, writer, &entry.digest, now()))?;
        }
        Ok(())
    }
}

fn publication(repository: &RepositoryName, content: &Content) -> Result<Publication, FarmError> {
    let blob = |e: &IndexEntry| Descriptor {
        media_type: e.media_type.clone(),
        digest: e.digest.clone(),
        size: e.size,
        platform: None,
    };
    let manifest = |m: &hab_layout::Manifest| NewManifest {
        digest: m.digest.clone(),
        media_type: m.media_type.to_owned(),
        bytes: m.bytes.clone(),
    };
    Ok(Publication {
        repository: repository.clone(),
        blobs: content.blobs.values().map(blob).collect(),
        manifests: content.manifests.iter().map(manifest).collect(),
        tags: Vec::new(),
        root: content.manifests.last().ok_or(hab_layout::Error::Empty)?.digest.clone(),
        // A layout may have only some platforms of an index, but it must have all layers.
        gaps: Gaps::Indexes,
        at: now(),
    })
}

impl fmt::Display for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tags, manifests, blobs, bytes, missing, untagged } = self;
        f.write_str(&amounts(tags.len(), *manifests, *blobs, *bytes))?;
        if !missing.is_empty() {
            write!(f, "; not in the layout: {}", counted(missing.len() as u64, "listed image"))?;
        }
        if !untagged.is_empty() {
            let images = counted(untagged.len() as u64, "image");
            write!(f, "; without a tag, so a collection removes them after the grace period: {images}")?;
        }
        Ok(())
    }
}
