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
    /// Ours, or this machine's: a full disk, a sandbox that cannot be set up.
    Ours,
    /// An input that is not what its digest says, or that tries to leave its folder; a recipe whose script fails or
    /// whose outputs cannot become an image.
    Refused,
    /// Two runs of one plan differ.
    NotReproducible,
    /// The person asked to stop.
    Cancelled,
}

/// A build script that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error(
    "building {recipe} for {platform} failed in the {run} run: {outcome}{why}; its last lines:\n{tail}\n\
     the whole log is {log}",
    why = cause.as_ref().map_or_else(String::new, |cause| format!(", and {cause}"))
)]
pub struct FailedScript {
    /// The recipe.
    pub recipe: String,
    /// For which platform.
    pub platform: Platform,
    /// `first`, `second` and so on.
    pub run: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What explains it.
    pub cause: Option<Cause>,
    /// The last lines it printed, indented.
    pub tail: String,
    /// Where the whole log is.
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
        /// Its digest.
        digest: Digest,
    },
    /// A stored blob does not have its digest any more: a disk that forgets, or a hand that changes.
    #[error(
        "{what} in the store is not what its name says: expected {expected}, got {actual}; remove {path} and run again"
    )]
    Tampered {
        /// A package's or file's name.
        what: String,
        /// Its name in the store.
        expected: Digest,
        /// What its bytes are.
        actual: Digest,
        /// Where it lies.
        path: PathBuf,
    },
    /// An archive that does not unpack.
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
        /// For which platform.
        platform: Platform,
        /// Where the whole log is.
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
        /// For which platform.
        platform: Platform,
        /// The first difference, with section and offset.
        difference: String,
        /// How many files and links differ.
        differing: usize,
        /// How many there are.
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
        /// For which platform.
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
        /// For which platform.
        platform: Platform,
        /// Which output.
        path: String,
        /// What is missing.
        lacks: String,
    },
    /// This machine cannot run the toolchain's programs.
    #[error(
        "toolchain {toolchain} runs on {needs}, and this machine is {is}; build on another one and serve here"
    )]
    Architecture {
        /// The toolchain's name.
        toolchain: String,
        /// In Debian's words.
        needs: String,
        /// In Rust's words.
        is: &'static str,
    },
    /// A folder that must be this user's alone is another's.
    #[error(
        "{path} belongs to uid {owner}, and this program runs as uid {me}; run it as the owner of the data folder, \
         or give it another one with --data"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// The toolchain's root is not what it was before the runs.
    #[error(
        "the unpacked toolchain {path} was changed while it was in use; nothing built with it is kept, and the next \
         build sets it aside and makes it anew"
    )]
    RootChanged {
        /// Which copy.
        path: PathBuf,
    },
    /// What a build left cannot become an image.
    #[error("the files that {recipe} for {platform} left in {folder} are refused: {problem}", problem = shown(problem).at_most(2000))]
    Outputs {
        /// The recipe.
        recipe: String,
        /// For which platform.
        platform: Platform,
        /// `out`, `debug` or `image`.
        folder: String,
        /// What is wrong, as the process says that looked at them.
        problem: String,
    },
    /// What a build left is where every image has something of its own.
    #[error("{recipe} left {path} in $OUT, where an image has something else: {instead}", path = shown(path))]
    Overlap {
        /// The recipe.
        recipe: String,
        /// Which output.
        path: String,
        /// What to do instead.
        instead: String,
    },
    /// The process that looks at what a build left did not do that.
    #[error("checking what {recipe} for {platform} left did not succeed: {problem}", problem = shown(problem))]
    Checking {
        /// The recipe.
        recipe: String,
        /// For which platform.
        platform: Platform,
        /// How it ended.
        problem: String,
    },
    /// What comes after the runs took longer than a run may.
    #[error(
        "checking the outputs of {recipe} for {platform} took longer than {minutes} minutes; build.minutes is the limit"
    )]
    Overtime {
        /// The recipe.
        recipe: String,
        /// For which platform.
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
        /// Which.
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
        /// What was run.
        command: String,
        /// What was wrong.
        problem: String,
        /// What it printed, indented.
        printed: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] hab_blobs::Error),
    /// A local file.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The person asked to stop.
    #[error("stopped; the next run goes on with what is fetched and built")]
    Cancelled,
}

impl BuildError {
    /// Whose fault it is.
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
