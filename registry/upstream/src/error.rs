//! Why content of an upstream cannot be served.

use hab_oci::{Digest, ReferenceError, RepositoryName};
use hab_outbound::story;

use crate::failure::Failure;

/// Why content of an upstream cannot be served.
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
    /// The operator wants it signed, and it is not signed sufficiently.
    #[error("{repository} is served only if signed, and {digest} lacks signatures: {missing}")]
    NotSigned {
        /// By its name here.
        repository: RepositoryName,
        /// What was asked for.
        digest: Digest,
        /// What is missing.
        missing: String,
    },
    /// The upstream did not give it. The failure is not a `#[source]`, because clients get a part of it with every
    /// answer ([`Failure::outside`]).
    #[error("cannot fetch from upstream {name}")]
    Failed {
        /// The upstream.
        name: String,
        /// Why.
        failure: Failure,
    },
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] hab_store::Error),
}

impl Error {
    /// The error and its causes on one line, for the log or for the operator.
    pub fn sentence(&self) -> String {
        match self {
            Self::Failed { failure, .. } => format!("{self}: {failure}"),
            other => story(other),
        }
    }
}
