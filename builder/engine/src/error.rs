use std::io;
use std::path::PathBuf;

use hab_oci::{Digest, Platform, shown};
use hab_sandbox::{Outcome, SandboxError};

use crate::cause::Cause;
use crate::compare::Lacking;
use crate::unpack::UnpackError;

/// Whose fault an error is; the program's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This program or machine is at fault: a full disk, a sandbox that cannot be set up.
    Ours,
    /// An input does not have its digest, or tries to leave its folder; a recipe's script fails, or its outputs cannot
    /// become an image.
    Refused,
    /// Two runs of one plan differ.
    NotReproducible,
    /// The person asked to stop.
    Cancelled,
}

/// The failure of a build script.
#[derive(Debug, thiserror::Error)]
#[error(
    "building {recipe} for {platform} failed in the {run} run: {outcome}{why}; its last lines:\n{tail}\n\
     the whole log is {log}",
    why = cause.as_ref().map_or_else(String::new, |cause| format!(", and {cause}"))
)]
pub struct FailedScript {
    /// The recipe.
    pub recipe: String,
    /// The platform of the build.
    pub platform: Platform,
    /// The run: `first`, `second` and so on.
    pub run: String,
    /// How the script ended.
    pub outcome: Outcome,
    /// What explains the failure, if that is known.
    pub cause: Option<Cause>,
    /// The last lines it printed, indented.
    pub tail: String,
    /// The path of the whole log.
    pub log: PathBuf,
}

/// Why a plan was not finished.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A blob of the lock is not in the store.
    #[error("{what} ({digest}) is not in the store; run again, without --offline, to fetch it")]
    MissingInput {
        /// A package's or file's name.
        what: String,
        /// The digest of the package or file.
        digest: Digest,
    },
    /// A stored blob does not have its digest any more, because the disk or a person changed it.
    #[error(
        "{what} in the store is not what its name says: expected {expected}, got {actual}; remove {path} and run again"
    )]
    Tampered {
        /// A package's or file's name.
        what: String,
        /// The digest in its name in the store.
        expected: Digest,
        /// The digest of its bytes.
        actual: Digest,
        /// The path of the blob.
        path: PathBuf,
    },
    /// An archive cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The sandbox could not be set up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The build script did not succeed.
    #[error(transparent)]
    Script(Box<FailedScript>),
    /// The build script succeeded and left nothing.
    #[error("building {recipe} for {platform} wrote no file to $OUT; the log is {log}")]
    NoOutput {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// The path of the whole log.
        log: PathBuf,
    },
    /// Two runs left different files.
    #[error(
        "{recipe} for {platform} is not reproducible: {difference} ({differing} of {entries} entries differ); \
         both outputs are kept in {first} and {second}"
    )]
    NotReproducible {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// The first difference, with section and offset.
        difference: String,
        /// How many files and links differ.
        differing: usize,
        /// How many files and links there are in all.
        entries: usize,
        /// The first run's outputs.
        first: PathBuf,
        /// The second run's outputs.
        second: PathBuf,
    },
    /// A program of the image needs a library that the image does not hold.
    #[error("the image of {recipe} for {platform} is not whole: {missing}")]
    MissingLibraries {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// Which program needs which library.
        missing: String,
    },
    /// A program or library lacks what `build.hardened` asks for.
    #[error(
        "{path:?} of {recipe} for {platform} lacks {lacks}; pass the flags on, or set build.hardened to false and say why",
        path = shown(path)
    )]
    NotHardened {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// The path of the program or library.
        path: String,
        /// What the program or library lacks.
        lacks: String,
    },
    /// This machine cannot run the toolchain's programs.
    #[error(
        "toolchain {toolchain} runs on {needs}, and this machine is {is}; build on another one and serve here"
    )]
    Architecture {
        /// The toolchain's name.
        toolchain: String,
        /// The architecture of the toolchain's programs, by Debian's name.
        needs: String,
        /// The architecture of this machine, by Rust's name.
        is: &'static str,
    },
    /// A folder that must belong to this user alone belongs to another one.
    #[error(
        "{path} belongs to uid {owner}, and this program runs as uid {me}; run it as the owner of the data folder, \
         or give it another one with --data"
    )]
    Foreign {
        /// The path of the folder.
        path: PathBuf,
        /// The uid of its owner.
        owner: u32,
        /// The uid that this program runs as.
        me: u32,
    },
    /// The toolchain's root changed during the runs.
    #[error(
        "the unpacked toolchain {path} was changed while it was in use; nothing built with it is kept, and the next \
         build sets it aside and makes it anew"
    )]
    RootChanged {
        /// The path of the copy that changed.
        path: PathBuf,
    },
    /// The outputs of a build cannot become an image.
    #[error("the files that {recipe} for {platform} left in {folder} are refused: {problem}", problem = shown(problem).at_most(2000))]
    Outputs {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// `out`, `debug` or `image`.
        folder: String,
        /// What is wrong, in the words of the worker that read the outputs.
        problem: String,
    },
    /// An output is at a path where every image has something of its own.
    #[error("{recipe} left {path} in $OUT, where an image has something else: {instead}", path = shown(path))]
    Overlap {
        /// The recipe.
        recipe: String,
        /// The path of the output.
        path: String,
        /// What to do instead.
        instead: String,
    },
    /// The worker that reads a build's outputs failed.
    #[error("cannot check the outputs of {recipe} for {platform}: {problem}", problem = shown(problem))]
    Checking {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// How the worker ended.
        problem: String,
    },
    /// The work after the runs took longer than a run may.
    #[error(
        "checking the outputs of {recipe} for {platform} took longer than {minutes} minutes; build.minutes is the limit"
    )]
    Overtime {
        /// The recipe.
        recipe: String,
        /// The platform of the build.
        platform: Platform,
        /// The recipe's `build.minutes`.
        minutes: u64,
    },
    /// The source and the further inputs do not fit into what a build may use.
    #[error(
        "the source of {recipe} needs more disk than the {limit} MiB of build.disk_mib: {what}; \
         raise the limit if it is what you expect"
    )]
    SourceTooLarge {
        /// The recipe.
        recipe: String,
        /// The limit.
        limit: u64,
        /// What did not fit.
        what: String,
    },
    /// The image could not be made.
    #[error(transparent)]
    Image(#[from] hab_image::ImageError),
    /// A file that the image needs is not in the toolchain's sysroot.
    #[error("{path} is not in the toolchain's sysroot, but base.files asks for it")]
    MissingBase {
        /// The path of the file.
        path: String,
    },
    /// The finished image does not do what the recipe's smoke test expects.
    #[error(
        "the image of {recipe} for {platform} was built, but `{command}` {problem}; it printed:\n{printed}"
    )]
    Smoke {
        /// The recipe.
        recipe: String,
        /// For which platform.
        platform: Platform,
        /// The command that was run.
        command: String,
        /// What the command did wrong.
        problem: String,
        /// What the command printed, indented.
        printed: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] hab_blobs::Error),
    /// A local file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The person asked to stop.
    #[error("stopped; the next run goes on with what is fetched and built")]
    Cancelled,
}

impl BuildError {
    /// Whose fault the error is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unpack(UnpackError::Cancelled) | Self::Cancelled => Fault::Cancelled,
            Self::Unpack(e) if e.is_archives_fault() => Fault::Refused,
            Self::Tampered { .. }
            | Self::RootChanged { .. }
            | Self::SourceTooLarge { .. }
            | Self::Script(_)
            | Self::Overlap { .. }
            | Self::NoOutput { .. }
            | Self::MissingLibraries { .. }
            | Self::NotHardened { .. }
            | Self::Outputs { .. }
            | Self::Overtime { .. }
            | Self::MissingBase { .. }
            | Self::Smoke { .. } => Fault::Refused,
            Self::NotReproducible { .. } => Fault::NotReproducible,
            Self::Unpack(_)
            | Self::MissingInput { .. }
            | Self::Sandbox(_)
            | Self::Architecture { .. }
            | Self::Foreign { .. }
            | Self::Checking { .. }
            | Self::Image(_)
            | Self::Store(_)
            | Self::Io { .. } => Fault::Ours,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn missing_libraries(
        recipe: &hab_recipe::RecipeName,
        platform: Platform,
        missing: &Lacking,
    ) -> Self {
        Self::MissingLibraries { recipe: recipe.to_string(), platform, missing: missing.to_string() }
    }
}
