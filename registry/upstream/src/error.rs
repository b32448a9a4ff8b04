//! Why something of an upstream is not given.

use hab_oci::{Digest, ReferenceError, RepositoryName};
use hab_outbound::story;

use crate::failure::Failure;

/// Why something of an upstream is not given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that no repository can have.
    #[error(transparent)]
    Name(ReferenceError),
    /// Neither upstream nor the store has such a repository.
    #[error("there is no repository {0}")]
    NameUnknown(RepositoryName),
    /// Neither upstream nor the store has such a manifest.
    #[error("{repository} has no manifest {reference}")]
    ManifestUnknown {
        /// By its name here.
        repository: RepositoryName,
        /// A tag or a digest.
        reference: String,
    },
    /// Neither upstream nor the store has such a blob.
    #[error("{repository} has no blob {digest}")]
    BlobUnknown {
        /// By its name here.
        repository: RepositoryName,
        /// What was asked for.
        digest: Digest,
    },
    /// The operator does not let this repository be pulled.
    #[error("{0} may not be pulled through this registry")]
    NotAllowed(RepositoryName),
    /// The operator does not let this upstream's tags be pulled.
    #[error("{0} may be pulled by digest only")]
    DigestOnly(RepositoryName),
    /// The operator wants it signed.
    #[error("{repository} is served only with signatures, and {digest} has not enough: {missing}")]
    NotSigned {
        /// By its name here.
        repository: RepositoryName,
        /// What was asked for.
        digest: Digest,
        /// What a signature lacks.
        missing: String,
    },
    /// The upstream did not give it. The failure is no source, because clients are told a part of it with every answer
    /// ([`Failure::outside`]).
    #[error("upstream {name} could not give it")]
    Failed {
        /// The upstream.
        name: String,
        /// Why.
        failure: Failure,
    },
    /// The store's own.
    #[error(transparent)]
    Store(#[from] hab_store::Error),
}

impl Error {
    /// All of it on one line, for the log or for the operator.
    pub fn sentence(&self) -> String {
        match self {
            Self::Failed { failure, .. } => format!("{self}: {failure}"),
            other => story(other),
        }
    }
}
