//! Fetches blobs again that the disk lost, if an upstream has them.

use std::sync::Arc;

use hab_oci::{Digest, TagOrDigest};
use hab_store::{Mender, Mending, Store};

use crate::blobs::Arriving;
use crate::error::Error;
use crate::failure::Failure;
use crate::limits::UpstreamLimits;
use crate::upstreams::Upstreams;

/// The most repositories that are asked for one blob.
const HOLDERS: u32 = 20;

/// Fetches damaged or missing blobs from upstreams. A blob that was built or pushed here and is nowhere else stays
/// lost. But if an upstream's repository has the same bytes, they repair every repository that holds them.
#[derive(Debug)]
struct Fetcher {
    upstreams: Upstreams,
    store: Store,
}

impl Upstreams {
    /// A [`Mender`] that repairs a store with what these upstreams have.
    pub fn mender(&self, store: &Store) -> Arc<dyn Mender> {
        Arc::new(Fetcher { upstreams: self.clone(), store: store.clone() })
    }
}

impl Mender for Fetcher {
    fn mend<'a>(&'a self, digest: &'a Digest) -> Mending<'a> {
        Box::pin(async move {
            match self.fetch(digest).await {
                Ok(mended) => mended,
                Err(error) => {
                    tracing::warn!(%digest, error = error.sentence(), "a damaged blob could not be mended");
                    false
                }
            }
        })
    }
}

impl Fetcher {
    async fn fetch(&self, digest: &Digest) -> Result<bool, Error> {
        let mut last = Ok(false);
        for (repository, is_manifest) in self.store.catalog.keepers(digest, HOLDERS).await? {
            // A repository that may no longer be pulled is not asked for either.
            let Ok(Some(remote)) = self.upstreams.find(&repository, None) else { continue };
            let limits = UpstreamLimits::default();
            let fetched = if is_manifest {
                let reference = TagOrDigest::Digest(digest.clone());
                remote.fetch_manifest(&self.store, &reference, limits.manifest).await.map(|_| ())
            } else {
                match remote.blob(&self.store, digest, limits.blob).await {
                    Ok(Arriving::Here) => Ok(()),
                    Ok(Arriving::Coming(download)) => {
                        download.end().await.map_err(|failure| remote.failed(failure))
                    }
                    Err(error) => Err(error),
                }
            };
            match fetched {
                Ok(()) => return Ok(true),
                Err(
                    error @ (Error::Failed {
                        failure: Failure::Away(_) | Failure::Denied(_) | Failure::Wrong(_),
                        ..
                    }
                    | Error::Store(_)),
                ) => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }
}
