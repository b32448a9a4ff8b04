//! Checks the configurations of images: a repository takes none that two runtimes could read in two ways. Under one
//! digest they would run different things.
//!
//! The check runs when a manifest is published whose configuration is stored already, and when bytes arrive that a
//! stored manifest names as its configuration. An upstream sends them after the manifest.

use hab_blobs::Error as BlobError;
use hab_oci::shapes::{LARGEST_CONFIG, check_image_config};
use hab_oci::{Descriptor, Digest, RepositoryName};

use crate::blocking::blocking;
use crate::catalog::Reading;
use crate::{Blobs, Error, Result, Store};

impl Store {
    /// The image configurations of these manifests that the repository holds, each with its manifest's digest.
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

    /// Checks a blob that is about to become a member of these repositories, if a manifest names it as a configuration.
    /// A refused blob is removed, unless something else needs it. `pin` protects the file until the catalog names it.
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

/// Refuses a configuration that is malformed or ambiguous.
pub(crate) fn readable(files: &Blobs, digest: &Digest, of: &Digest) -> Result<()> {
    let refused = |source| Error::Configuration { digest: digest.clone(), of: of.clone(), source };
    match files.read(digest, LARGEST_CONFIG) {
        Ok(Some(bytes)) => check_image_config(&bytes).map_err(refused),
        Err(BlobError::TooLarge { size, .. }) => {
            let sentence = format!("it has {size} bytes: at most {LARGEST_CONFIG} are read");
            Err(refused(serde::de::Error::custom(sentence)))
        }
        // No runtime reads a lost or damaged configuration. Another check decides whether it has to be here.
        Ok(None) | Err(BlobError::Damaged { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
