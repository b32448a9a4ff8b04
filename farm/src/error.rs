//! The errors of all rooms, and whose fault each error is.

use std::io;
use std::path::{Path, PathBuf};

use hab_mirror::MirrorError;

use crate::progress::Progress;
use crate::words::near;

/// Whose fault an error is. Success has no variant, because it is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ours: a full disk, a bug.
    Ours,
    /// The request cannot be understood: arguments, a recipe or a configuration.
    Request,
    /// A digest, a signature or a policy says no, or the recipe's own script fails.
    Refused,
    /// No upstream answers and there is no mirrored copy.
    Upstream,
    /// Two runs of one plan had different outputs.
    NotReproducible,
    /// Nobody's: the person asked to stop.
    Cancelled,
}

/// The error of any room.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// An error about a recipe, a toolchain or a lock.
    #[error(transparent)]
    Recipe(#[from] hab_recipe::RecipeError),
    /// An error about a policy file.
    #[error(transparent)]
    Policy(#[from] hab_keys::PolicyError),
    /// There is no such policy.
    #[error("there is no policy {name}; there are: {known}")]
    UnknownPolicy {
        /// The name that was asked for.
        name: String,
        /// The names of all policies.
        known: String,
    },
    /// There is no such repository in the registry.
    #[error("there is no repository {name}")]
    UnknownRepository {
        /// The name that was asked for.
        name: hab_oci::RepositoryName,
        /// A known name that may be meant.
        near: Option<String>,
    },
    /// The disk has less room than a build needs.
    #[error("{} has {free} free, and building {recipe} needs about {needed}", path.display())]
    NoRoom {
        /// The data folder.
        path: PathBuf,
        /// The recipe.
        recipe: String,
        /// The free space, for people.
        free: String,
        /// The needed space, for people.
        needed: String,
    },
    /// The person asked to stop.
    #[error("stopped; {0}")]
    Stopped(&'static str),
    /// A fetch failed.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A judgement that refuses.
    #[error(transparent)]
    Refused(#[from] hab_keys::Refusal),
    /// A decision that refuses; the decision itself was printed.
    #[error("{refusal}")]
    Decided {
        /// Why it refuses.
        refusal: String,
    },
    /// The verified source is not the one that the lock names.
    #[error(
        "{what} is verified, but it is not the one in the lock: locked {locked}, verified {verified}; if the change \
         is right, make the lock anew with `hab-build lock recipe {recipe}`"
    )]
    NotTheLocked {
        /// The source.
        what: String,
        /// The recipe.
        recipe: String,
        /// The digest in the lock.
        locked: hab_oci::Digest,
        /// The verified digest.
        verified: hab_oci::Digest,
    },
    /// Some files that locks name are not kept. A note reported each of them; the first one is the source.
    #[error("{missing} of {total} files that locks name are not kept; the first one failed")]
    NotKept {
        /// How many are not kept.
        missing: usize,
        /// How many locks name.
        total: usize,
        /// Why the first of them is not kept.
        #[source]
        first: Box<FarmError>,
    },
    /// A build failed.
    #[error(transparent)]
    Build(#[from] hab_builder::BuildError),
    /// A scrub found this many damaged or lost blobs. A note reported each of them.
    #[error("{0} blobs are damaged or gone; they are not served until they are pushed or built again")]
    Damaged(usize),
    /// Some images of another registry could not be synced. A note reported each of them.
    #[error("{failed} of {total} images are not synced")]
    NotSynced {
        /// How many are not synced.
        failed: usize,
        /// How many there are.
        total: usize,
        /// Whose fault the first failure is.
        fault: Fault,
    },
    /// For some keys, nobody who was asked for a certificate answered. A note reported who did not answer.
    #[error("no key server or key directory answered for {unanswered} of {total} certificates")]
    NotRefreshed {
        /// For how many keys nobody answered.
        unanswered: usize,
        /// How many keys there are.
        total: usize,
    },
    /// Part of an image to export is not here.
    #[error(
        "cannot export {repository}@{image}: its part {lacking} was never pulled through, or is damaged; pull the \
         image first, or push it again"
    )]
    Incomplete {
        /// The image's repository.
        repository: hab_oci::RepositoryName,
        /// The image.
        image: hab_oci::Digest,
        /// The missing layer or configuration.
        lacking: hab_oci::Digest,
    },
    /// An error about an OCI layout.
    #[error(transparent)]
    Layout(#[from] hab_layout::Error),
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] hab_store::Error),
    /// A version that cannot become a tag.
    #[error(transparent)]
    Reference(#[from] hab_oci::ReferenceError),
    /// A mistake in the request.
    #[error("{0}")]
    Usage(String),
    /// A file of this machine that is replaced, read whole or locked.
    #[error(transparent)]
    File(#[from] hab_file::Error),
    /// A local file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl From<hab_blobs::Error> for FarmError {
    fn from(error: hab_blobs::Error) -> Self {
        Self::Store(error.into())
    }
}

impl FarmError {
    /// Whose fault this error is.
    pub fn fault(&self) -> Fault {
        use hab_builder::Fault as Build;
        use hab_layout::Fault as Layout;
        use hab_mirror::Fault as Mirror;
        match self {
            Self::Store(
                hab_store::Error::Immutable { .. }
                | hab_store::Error::NotHeld { .. }
                | hab_store::Error::TooLarge { .. },
            ) => Fault::Refused,
            Self::Store(hab_store::Error::NeverThere { .. }) => Fault::Request,
            Self::Recipe(hab_recipe::RecipeError::Io { .. })
            | Self::Damaged(_)
            | Self::NoRoom { .. }
            | Self::Store(_)
            | Self::File(_)
            | Self::Io { .. } => Fault::Ours,
            Self::Recipe(_)
            | Self::Policy(_)
            | Self::UnknownPolicy { .. }
            | Self::UnknownRepository { .. }
            | Self::Usage(_)
            | Self::Incomplete { .. }
            | Self::Reference(_) => Fault::Request,
            Self::Layout(e) => match e.fault() {
                Layout::Request => Fault::Request,
                Layout::Layout => Fault::Refused,
                Layout::Ours => Fault::Ours,
            },
            Self::Mirror(e) => match e.fault() {
                Mirror::Request => Fault::Request,
                Mirror::Ours => Fault::Ours,
                Mirror::Refused => Fault::Refused,
                Mirror::Upstream => Fault::Upstream,
                Mirror::Cancelled => Fault::Cancelled,
            },
            Self::NotKept { first, .. } => first.fault(),
            Self::NotSynced { fault, .. } => *fault,
            Self::NotRefreshed { .. } => Fault::Upstream,
            Self::Stopped(_) | Self::Refused(hab_keys::Refusal::Cancelled { .. }) => Fault::Cancelled,
            Self::Refused(e) if !e.is_verdict() => Fault::Ours,
            Self::Refused(_) | Self::NotTheLocked { .. } | Self::Decided { .. } => Fault::Refused,
            Self::Build(e) => match e.fault() {
                Build::Ours => Fault::Ours,
                Build::Refused => Fault::Refused,
                Build::NotReproducible => Fault::NotReproducible,
                Build::Cancelled => Fault::Cancelled,
            },
        }
    }

    /// What a person can do about the error, as a sentence of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Refused(refusal) => refusal.hint(),
            Self::Mirror(error) => error.hint(),
            Self::NotKept { first, .. } => first.hint(),
            Self::Recipe(hab_recipe::RecipeError::UnknownRecipe { name, known })
            | Self::UnknownPolicy { name, known } => {
                let near = near(name, known.split(", "))?;
                Some(format!("did you mean {near}?"))
            }
            Self::UnknownRepository { near, .. } => Some(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "`hab-build registry list` shows those there are".to_owned(),
            }),
            Self::NoRoom { .. } => Some(
                "make room, for example with `hab-build registry gc`, or put the data folder elsewhere with \
                 --data"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The error for a path that a person named and that does not exist. It is the request's fault.
    pub(crate) fn missing(path: &Path) -> Self {
        Self::Usage(format!("{} does not exist", path.display()))
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Returns the most telling of several failures as the error, and notes how many there were.
pub(crate) fn worst(failures: Vec<MirrorError>, progress: &dyn Progress) -> Result<(), FarmError> {
    if failures.len() > 1 {
        progress.note(&format!("{} files could not be mirrored", failures.len()));
    }
    // A refusal says more than an upstream that did not answer.
    failures
        .into_iter()
        .min_by_key(|e| e.fault() == hab_mirror::Fault::Upstream)
        .map_or(Ok(()), |e| Err(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_an_error_that_says_what_was_tried() {
        let error = FarmError::io("/x")(io::ErrorKind::PermissionDenied.into());
        assert_eq!(hab_chain::chain(&error), "cannot read or write /x: permission denied");
    }
}
