//! What can go wrong on the way, and the exit code that says whose fault it was.

use std::io;
use std::path::PathBuf;

/// The program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Our fault: a full disk, a build that fails, a bug.
    Ours = 1,
    /// The request cannot be understood: arguments, a recipe or a configuration.
    Usage = 2,
    /// A digest, a signature or a policy says no.
    Refused = 3,
    /// No upstream answers and there is no mirrored copy.
    Upstream = 4,
    /// Two runs of one plan had different outputs.
    NotReproducible = 5,
    /// The person asked to stop.
    Interrupted = 130,
}

/// Any room's error.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// A recipe, a toolchain or a lock.
    #[error(transparent)]
    Recipe(#[from] hab_recipe::RecipeError),
    /// A policy file.
    #[error(transparent)]
    Policy(#[from] hab_keys::PolicyError),
    /// There is no such policy.
    #[error("there is no policy {0} in keys/trust")]
    UnknownPolicy(String),
    /// A fetch.
    #[error(transparent)]
    Mirror(#[from] hab_mirror::MirrorError),
    /// A judgement.
    #[error(transparent)]
    Refused(#[from] hab_keys::Refusal),
    /// A decision that refuses; the decision itself was printed.
    #[error("{refusal}")]
    Decided {
        /// Why.
        refusal: String,
    },
    /// What was verified is not what the lock names.
    #[error(
        "{what} is verified, but it is not the one in the lock: locked {locked}, verified {verified}; if the change is right, make the lock anew with `hab-build lock recipe {recipe}`"
    )]
    NotTheLocked {
        /// The source.
        what: String,
        /// The recipe.
        recipe: String,
        /// The lock's digest.
        locked: hab_oci::Digest,
        /// The verified digest.
        verified: hab_oci::Digest,
    },
    /// Files that locks name, of which some are not kept; each was told on its own, and the first is the source.
    #[error("{missing} of {total} that locks name are not kept; this is why the first of them is not")]
    NotKept {
        /// How many are not.
        missing: usize,
        /// Of how many.
        total: usize,
        /// Why the first of them is not.
        #[source]
        first: Box<FarmError>,
    },
    /// A build.
    #[error(transparent)]
    Build(#[from] hab_builder::BuildError),
    /// What a scrub found; each was told on its own.
    #[error("{0} blobs are damaged or gone; they are not served until they are pushed or built again")]
    Damaged(usize),
    /// Images of another registry, of which some are not here as they are there; each was told on its own.
    #[error("{failed} of {total} images are not synced")]
    NotSynced {
        /// How many are not.
        failed: usize,
        /// Of how many.
        total: usize,
        /// Whose fault the first of them is.
        status: ExitStatus,
    },
    /// An image that was to be exported, of which a part is not here.
    #[error(
        "{repository}@{image} is not all here: {lacking} was never pulled through, or is damaged; pull the image first, or push \
         it again"
    )]
    Incomplete {
        /// Its repository.
        repository: hab_oci::RepositoryName,
        /// The image.
        image: hab_oci::Digest,
        /// The layer or configuration.
        lacking: hab_oci::Digest,
    },
    /// An OCI layout that is read or written.
    #[error(transparent)]
    Layout(#[from] hab_layout::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] hab_store::Error),
    /// A version that makes no tag.
    #[error(transparent)]
    Reference(#[from] hab_oci::ReferenceError),
    /// Something in the request.
    #[error("{0}")]
    Usage(String),
    /// A local file.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl FarmError {
    /// The exit code.
    pub fn exit_status(&self) -> ExitStatus {
        use hab_builder::Fault as Build;
        use hab_layout::Fault as Layout;
        use hab_mirror::Fault as Mirror;
        match self {
            Self::Store(
                hab_store::Error::Immutable { .. }
                | hab_store::Error::NotHeld { .. }
                | hab_store::Error::TooLarge { .. },
            ) => ExitStatus::Refused,
            Self::Store(hab_store::Error::NeverThere { .. }) => ExitStatus::Usage,
            Self::Recipe(hab_recipe::RecipeError::Io { .. })
            | Self::Damaged(_)
            | Self::Store(_)
            | Self::Io { .. } => ExitStatus::Ours,
            Self::Recipe(_)
            | Self::Policy(_)
            | Self::UnknownPolicy(_)
            | Self::Usage(_)
            | Self::Incomplete { .. }
            | Self::Reference(_) => ExitStatus::Usage,
            Self::Layout(e) => match e.fault() {
                Layout::Request => ExitStatus::Usage,
                Layout::Layout => ExitStatus::Refused,
                Layout::Ours => ExitStatus::Ours,
            },
            Self::Mirror(e) => match e.fault() {
                Mirror::Request => ExitStatus::Usage,
                Mirror::Ours => ExitStatus::Ours,
                Mirror::Refused => ExitStatus::Refused,
                Mirror::Upstream => ExitStatus::Upstream,
                Mirror::Cancelled => ExitStatus::Interrupted,
            },
            Self::NotKept { first, .. } => first.exit_status(),
            Self::NotSynced { status, .. } => *status,
            Self::Refused(hab_keys::Refusal::Cancelled { .. }) => ExitStatus::Interrupted,
            Self::Refused(e) if !e.is_verdict() => ExitStatus::Ours,
            Self::Refused(_) | Self::NotTheLocked { .. } | Self::Decided { .. } => ExitStatus::Refused,
            Self::Build(e) => match e.fault() {
                Build::Ours => ExitStatus::Ours,
                Build::Refused => ExitStatus::Refused,
                Build::NotReproducible => ExitStatus::NotReproducible,
                Build::Cancelled => ExitStatus::Interrupted,
            },
        }
    }

    /// What a person can do about it, in a sentence of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Refused(refusal) => refusal.hint(),
            Self::Mirror(error) => error.hint(),
            Self::NotKept { first, .. } => first.hint(),
            _ => None,
        }
    }

    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
