//! Writes images to a folder or a file, without a second registry: `hab-build registry export`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fmt, io};

use hab_layout::Bundle;
use hab_oci::{Digest, RepositoryName, Tag, TagOrDigest};
use hab_store::ManifestRecord;

use crate::error::FarmError;
use crate::images::Images;
use crate::images::gather::{Gathering, entry};
use crate::images::told::{amounts, stopped_or};
use crate::progress_reader::ProgressReader;
use crate::words::counted;

/// The result of an export.
#[derive(Debug, serde::Serialize)]
pub struct Packed {
    /// The digest of each tag's image.
    pub tags: BTreeMap<Tag, Digest>,
    /// The number of manifests and indexes.
    pub manifests: usize,
    /// The number of layers and configurations.
    pub blobs: usize,
    /// The size of all files, in bytes.
    pub bytes: u64,
    /// Manifests that indexes list and that are not here, or not completely.
    pub missing: BTreeSet<Digest>,
}

/// Which images of a repository to export.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// All images that have a tag.
    Tags,
    /// These images.
    These(Vec<TagOrDigest>),
}

impl Images<'_> {
    /// Writes images of a repository with all platforms that are here and, with `referrers`, the manifests that refer
    /// to them.
    pub fn export(
        &self,
        repository: &RepositoryName,
        wanted: &Wanted,
        to: &Path,
        referrers: bool,
    ) -> Result<Packed, FarmError> {
        let (tags, digests) = self.roots(repository, wanted)?;
        let mut gathering = Gathering::new(self.store, self.bridge, repository);
        let mut entries = Vec::new();
        for (tag, record) in &tags {
            gathering.root(record)?;
            entries.push(entry(record).named(repository, tag));
        }
        let tagged: BTreeSet<_> = tags.values().map(|record| &record.digest).collect();
        for record in digests.iter().filter(|record| !tagged.contains(&record.digest)) {
            gathering.root(record)?;
            entries.push(entry(record));
        }
        if referrers {
            entries.extend(gathering.referrers()?);
        }
        let Gathering { blobs, manifests, missing, .. } = gathering;
        let (layers, bundle) = (blobs.len() - manifests.len(), Bundle { entries, blobs });
        self.progress.stage(&format!("write {}", to.display()));
        let (done, total) = (Cell::new(0), bundle.blobs.values().sum());
        let written = hab_layout::write(to, &bundle, |digest| {
            let blob = self.store.blobs.open_blob(digest).map_err(io::Error::other)?;
            let file = blob.ok_or(io::ErrorKind::NotFound)?.file;
            Ok(ProgressReader {
                inner: file,
                progress: self.progress.as_ref(),
                what: "done",
                done: &done,
                total,
            })
        });
        let bytes = stopped_or(self.progress.as_ref(), written, "nothing is written")?;
        let tags = tags.into_iter().map(|(tag, record)| (tag, record.digest)).collect();
        Ok(Packed { tags, manifests: manifests.len(), blobs: layers, bytes, missing })
    }

    /// The requested images that have a tag, and those requested by digest.
    fn roots(
        &self,
        repository: &RepositoryName,
        wanted: &Wanted,
    ) -> Result<(BTreeMap<Tag, ManifestRecord>, Vec<ManifestRecord>), FarmError> {
        let all: Vec<TagOrDigest> = match wanted {
            Wanted::These(these) => these.clone(),
            Wanted::Tags => self.tags(repository)?.into_iter().map(|row| TagOrDigest::Tag(row.tag)).collect(),
        };
        if all.is_empty() {
            return Err(FarmError::Usage(format!("{repository} has no tags; name an image by its digest")));
        }
        let (mut tags, mut digests) = (BTreeMap::new(), Vec::new());
        for reference in all {
            let found = self.bridge.wait(self.store.catalog.manifest(repository, &reference))?;
            let record = found.ok_or_else(|| {
                let words = match &reference {
                    TagOrDigest::Tag(tag) => format!("{repository}:{tag}"),
                    TagOrDigest::Digest(digest) => format!("{repository}@{digest}"),
                };
                FarmError::Usage(format!("there is no {words} here"))
            })?;
            match reference {
                TagOrDigest::Tag(tag) => drop(tags.insert(tag, record)),
                TagOrDigest::Digest(_) => digests.push(record),
            }
        }
        Ok((tags, digests))
    }
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tags, manifests, blobs, bytes, missing } = self;
        f.write_str(&amounts(tags.len(), *manifests, *blobs, *bytes))?;
        if missing.is_empty() {
            Ok(())
        } else {
            write!(
                f,
                "; left out, because they are not here: {}",
                counted(missing.len() as u64, "listed image")
            )
        }
    }
}
