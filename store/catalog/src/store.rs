//! [`Store`]: blobs and catalog together.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use hab_oci::{Descriptor, Digest, Edge, EdgeKind, Outline, RepositoryName, Tag, TagOrDigest};

use crate::blocking::blocking;
use crate::catalog::{Facts, Reading};
use crate::configurations::readable;
use crate::publication::{Gaps, NewManifest, Publication};
use crate::{BlobWriter, Blobs, Catalog, Error, Expected, Result, Tags, Upload, UploadId};
use hab_blobs::Keeping;

/// An open data folder. A clone is another handle on the same folder.
#[derive(Clone, Debug)]
pub struct Store {
    /// The blobs.
    pub blobs: Blobs,
    /// The facts about the blobs.
    pub catalog: Catalog,
    /// The lock of the folder: shared by all processes that have it open; a rebuild of the catalog takes it
    /// exclusively.
    #[allow(dead_code, reason = "it is held, not read")]
    pub(crate) in_use: Option<Arc<File>>,
}

impl Store {
    /// Makes these tags immutable in this handle: once one exists, a publication that would move it is refused as a
    /// whole ([`Error::Immutable`]).
    #[must_use]
    pub fn with_immutable(mut self, tags: &[Tags]) -> Self {
        self.catalog = self.catalog.with_immutable(tags);
        self
    }

    /// Fails unless the catalog can be read and a blob can be written now.
    pub async fn is_ready(&self) -> Result<()> {
        self.catalog.is_sound()?;
        self.catalog.version().await?;
        self.catalog.touch().await?;
        let blobs = self.blobs.clone();
        blocking(move || blobs.is_ready()).await
    }

    /// Writes the manifests' bytes, then records membership, manifests, edges, tags and their history in one
    /// transaction.
    ///
    /// Refuses, and changes nothing that is served, if the root is not among the manifests ([`Error::NoRoot`]), if
    /// bytes are not a manifest or have another digest, if a blob's bytes are not stored ([`Error::NotStored`]) or have
    /// another size, if a manifest points at content that the repository would not hold ([`Error::Missing`]), or if the
    /// configuration of an image is ambiguous ([`Error::Configuration`]).
    pub async fn publish(&self, publication: Publication) -> Result<()> {
        self.publish_tagged(publication, Vec::new()).await
    }

    /// [`Store::publish`], on the condition that `reference` points at the expected content; the same transaction
    /// checks it ([`Error::Unexpected`]).
    pub async fn publish_if(
        &self,
        publication: Publication,
        reference: &TagOrDigest,
        expected: &Expected,
    ) -> Result<()> {
        let condition = Some((reference, expected)).filter(|(_, expected)| !expected.is_empty());
        self.publish_all(publication, Vec::new(), condition).await
    }

    /// [`Store::publish`] that also moves `more` tags in the same transaction, each to one of the manifests.
    pub async fn publish_tagged(&self, publication: Publication, more: Vec<(Tag, Digest)>) -> Result<()> {
        self.publish_all(publication, more, None).await
    }

    async fn publish_all(
        &self,
        publication: Publication,
        more: Vec<(Tag, Digest)>,
        condition: Option<(&TagOrDigest, &Expected)>,
    ) -> Result<()> {
        let Publication { repository, blobs, manifests, tags, root, gaps, at } = publication;
        let stranger = |digest: &&Digest| !manifests.iter().any(|m| m.digest == **digest);
        if let Some(other) = std::iter::once(&root).chain(more.iter().map(|(_, at)| at)).find(stranger) {
            return Err(Error::NoRoot(other.clone()));
        }
        // On a blocking thread, because parsing a manifest of megabytes takes long.
        let read = move || {
            let readings = manifests.iter().map(manifest_of).collect::<Result<Vec<_>>>()?;
            Ok::<_, Error>((readings, manifests))
        };
        let (readings, manifests) = blocking(read).await?;
        if gaps < Gaps::All {
            self.refuse_missing(&repository, &blobs, &readings).await?;
        }
        let configurations = self.configurations(&repository, &blobs, &readings).await?;
        let files = self.blobs.clone();
        let holder = repository.clone();
        let work = move || {
            let named = blobs.iter().map(|b| &b.digest).chain(manifests.iter().map(|m| &m.digest));
            let pin = files.pin(named)?;
            let blobs =
                blobs.into_iter().map(|blob| stored(&files, &holder, blob)).collect::<Result<Vec<_>>>()?;
            for reading in readings.iter().filter(|_| gaps < Gaps::All) {
                whole(&files, &holder, reading)?;
            }
            configurations.iter().try_for_each(|(digest, of)| readable(&files, digest, of))?;
            for manifest in manifests {
                files.put_kept(&manifest.digest, &manifest.bytes, Keeping::Loose)?;
            }
            Ok::<_, Error>((pin, blobs, readings))
        };
        let (_pin, blobs, readings) = blocking(work).await?;
        let tags: Vec<_> = tags.into_iter().map(|tag| (tag, root.clone())).chain(more).collect();
        let facts =
            Facts { repository: &repository, condition, blobs, manifests: readings, tags: &tags, gaps, at };
        self.catalog.publish(&facts).await
    }

    /// Refuses manifests whose blobs the repository does not hold. This happens before any file is looked at: the time
    /// of a refusal must not reveal whether another repository holds the bytes. The transaction checks again.
    async fn refuse_missing(
        &self,
        repository: &RepositoryName,
        brought: &[Descriptor],
        readings: &[Reading],
    ) -> Result<()> {
        let brought: BTreeSet<&Digest> = brought.iter().map(|blob| &blob.digest).collect();
        for reading in readings {
            let wanted = |edge: &&Edge| is_needed_blob(edge) && !brought.contains(&edge.digest);
            let edges = reading.outline.edges.iter().filter(wanted);
            if let Some(edge) = self.catalog.first_missing(repository, edges).await? {
                return Err(Error::Missing {
                    repository: repository.clone(),
                    digest: edge.digest.clone(),
                    kind: edge.kind,
                    wanted_by: reading.digest.clone(),
                });
            }
        }
        Ok(())
    }

    /// Finishes a pushed blob and makes it a member of a repository; returns its size. `at` is in unix seconds.
    ///
    /// Unlike a blob of [`BlobWriter::commit`], it stays only as long as something in the catalog needs it.
    pub async fn keep_blob(
        &self,
        repository: &RepositoryName,
        writer: BlobWriter,
        digest: &Digest,
        at: i64,
    ) -> Result<u64> {
        let (blobs, expected) = (self.blobs.clone(), digest.clone());
        let work = move || {
            let pin = blobs.pin([&expected])?;
            let (_, size) = writer.finish(Some(&expected), Keeping::Loose, false)?;
            Ok::<_, Error>((pin, size))
        };
        let (pin, size) = blocking(work).await?;
        let _pin = self.keep_readable(pin, std::slice::from_ref(repository), digest).await?;
        self.catalog.link_blob(repository, digest, size, at).await?;
        Ok(size)
    }

    /// [`Store::keep_blob`] for a blob that an upstream sent, in all its local repositories that wait for the blob.
    /// `upstream` is the upstream's address, as [`Catalog::was_received`] takes it.
    pub async fn keep_received(
        &self,
        repositories: &[RepositoryName],
        writer: BlobWriter,
        digest: &Digest,
        upstream: &str,
        at: i64,
    ) -> Result<u64> {
        let (blobs, expected) = (self.blobs.clone(), digest.clone());
        let work = move || {
            let pin = blobs.pin([&expected])?;
            let (_, size) = writer.finish(Some(&expected), Keeping::Loose, false)?;
            Ok::<_, Error>((pin, size))
        };
        let (pin, size) = blocking(work).await?;
        let _pin = self.keep_readable(pin, repositories, digest).await?;
        self.catalog.link_received(repositories, digest, size, upstream, at).await?;
        Ok(size)
    }

    /// Makes a stored blob a member of one more repository of an upstream. The upstream must have sent the bytes once,
    /// and have said now that this repository holds them. `false` if the blob is gone, has another size, or never came
    /// from this upstream.
    pub async fn share_received(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        upstream: &str,
        at: i64,
    ) -> Result<bool> {
        let (blobs, key) = (self.blobs.clone(), digest.clone());
        let look = move || Ok::<_, Error>((blobs.pin([&key])?, blobs.get(&key)?));
        let (pin, kept) = blocking(look).await?;
        if kept != Some(size) || !self.catalog.was_received(digest, upstream).await? {
            return Ok(false);
        }
        let _pin = self.keep_readable(pin, std::slice::from_ref(repository), digest).await?;
        self.catalog.link_received(std::slice::from_ref(repository), digest, size, upstream, at).await?;
        Ok(true)
    }

    /// [`Store::keep_blob`] for the bytes of an upload. The upload is over even if this fails.
    pub async fn finish_upload(
        &self,
        id: &UploadId,
        upload: Upload,
        repository: &RepositoryName,
        digest: &Digest,
        at: i64,
    ) -> Result<u64> {
        let (blobs, expected) = (self.blobs.clone(), digest.clone());
        let work = move || {
            let pin = blobs.pin([&expected])?;
            let (_, size) = upload.commit(Some(&expected))?;
            Ok::<_, Error>((pin, size))
        };
        let finished = match blocking(work).await {
            Ok((pin, size)) => {
                let pin = self.keep_readable(pin, std::slice::from_ref(repository), digest).await;
                pin.map(|pin| (pin, size))
            }
            Err(error) => Err(error),
        };
        match finished {
            Ok((_pin, size)) => {
                self.catalog.finish_upload(id, repository, digest, size, at).await?;
                Ok(size)
            }
            Err(error) => {
                self.catalog.end_upload(id).await?;
                Err(error)
            }
        }
    }

    /// Cancels the uploads that started before a time, in unix seconds, and returns how many. Uploads that somebody is
    /// writing to stay.
    pub async fn expire_uploads(&self, before: i64) -> Result<usize> {
        let mut expired = 0;
        for id in self.catalog.uploads_before(before).await? {
            let (blobs, key) = (self.blobs.clone(), id.clone());
            match blocking(move || blobs.upload(&key)?.cancel()).await {
                Ok(()) | Err(Error::UploadUnknown(_)) => {
                    self.catalog.end_upload(&id).await?;
                    expired += 1;
                }
                Err(Error::UploadBusy(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(expired)
    }
}

pub(crate) fn manifest_of(manifest: &NewManifest) -> Result<Reading> {
    let found = Digest::of_with(manifest.digest.algorithm(), &manifest.bytes);
    if found != manifest.digest {
        return Err(Error::WrongDigest { expected: manifest.digest.clone(), found });
    }
    let outline = Outline::read(&manifest.media_type, &manifest.bytes)
        .map_err(|source| Error::Manifest { digest: found.clone(), source })?;
    Ok(Reading { digest: found, size: manifest.bytes.len() as u64, outline })
}

fn stored(files: &Blobs, repository: &RepositoryName, blob: Descriptor) -> Result<(Digest, u64, String)> {
    match files.get(&blob.digest)? {
        None => Err(Error::NotStored { repository: repository.clone(), digest: blob.digest }),
        Some(found) if found != blob.size => {
            Err(Error::WrongSize { digest: blob.digest, expected: blob.size, found })
        }
        Some(_) => Ok((blob.digest, blob.size, blob.media_type)),
    }
}

/// Fails if the file of a layer or configuration is missing, so that no manifest is accepted over a lost file. The
/// catalog's transaction checks only what the repository holds.
fn whole(files: &Blobs, repository: &RepositoryName, manifest: &Reading) -> Result<()> {
    for edge in manifest.outline.edges.iter().filter(|edge| is_needed_blob(edge)) {
        if files.get(&edge.digest)?.is_none() {
            return Err(Error::Missing {
                repository: repository.clone(),
                digest: edge.digest.clone(),
                kind: edge.kind,
                wanted_by: manifest.digest.clone(),
            });
        }
    }
    Ok(())
}

/// Whether the repository has to hold the target as a blob, if no layers may be missing. The target of an index's entry
/// does not count: it may be left out, and it may be a manifest here, so the transaction looks for it.
fn is_needed_blob(edge: &Edge) -> bool {
    matches!(edge.kind, EdgeKind::Config | EdgeKind::Layer) && !edge.elsewhere && !edge.listed
}
