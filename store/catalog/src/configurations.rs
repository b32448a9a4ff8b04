//! Configurations of images: none becomes part of a repository that two runtimes could read in two ways. One of them would
//! run something else than the other one, under one digest.
//!
//! It is asked when a manifest is published whose configuration is here, and when bytes come that a manifest here calls
//! its configuration: through an upstream they come after it.

use hab_blobs::Error as BlobError;
use hab_oci::shapes::{LARGEST_CONFIG, check_image_config};
use hab_oci::{Descriptor, Digest, RepositoryName};

use crate::catalog::Reading;
use crate::store::blocking;
use crate::{Blobs, Error, Result, Store};

impl Store {
    /// Configurations of images that the repository holds, each with its manifest.
    pub(crate) async fn configurations(
        &self,
        repository: &RepositoryName,
        brought: &[Descriptor],
        readings: &[Reading],
    ) -> Result<Vec<(Digest, Digest)>> {
        let mut held = Vec::new();
        for reading in readings {
            let Some(digest) = reading.outline.image_config() else { continue };
            if brought.iter().any(|blob| blob.digest == *digest)
                || self.catalog.blob(repository, digest).await?.is_some()
            {
                held.push((digest.clone(), reading.digest.clone()));
            }
        }
        Ok(held)
    }

    /// Looks at bytes that are about to become part of these repositories. Where they are refused, nothing of them stays
    /// that somebody else does not need. `pin` keeps their file until it is named.
    pub(crate) async fn keep_readable<P>(
        &self,
        pin: P,
        repositories: &[RepositoryName],
        digest: &Digest,
    ) -> Result<P> {
        for repository in repositories {
            let Some(of) = self.catalog.configures(repository, digest).await? else { continue };
            let (blobs, key) = (self.blobs.clone(), digest.clone());
            if let Err(error) = blocking(move || readable(&blobs, &key, &of)).await {
                drop(pin);
                self.remove_unnamed(digest).await?;
                return Err(error);
            }
            break;
        }
        Ok(pin)
    }
}

/// Refuses a configuration that has several meanings, or none.
pub(crate) fn readable(files: &Blobs, digest: &Digest, of: &Digest) -> Result<()> {
    let refused = |source| Error::Configuration { digest: digest.clone(), of: of.clone(), source };
    match files.read(digest, LARGEST_CONFIG) {
        Ok(Some(bytes)) => check_image_config(&bytes).map_err(refused),
        Err(BlobError::TooLarge { size, .. }) => {
            let sentence = format!("it has {size} bytes: at most {LARGEST_CONFIG} are read");
            Err(refused(serde::de::Error::custom(sentence)))
        }
        // What is lost or damaged is read by nobody; whether it has to be here is asked elsewhere.
        Ok(None) | Err(BlobError::Damaged { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
