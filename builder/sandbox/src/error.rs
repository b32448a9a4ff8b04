//! What can go wrong before the command runs, and whose fault it is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::namespaces;

/// Why a run could not be started or followed. A command that fails is not an error but an [`crate::Outcome`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A field of the spec has a value that is not allowed.
    #[error("sandbox spec: `{field}` {problem}")]
    Invalid {
        /// The field's name in [`crate::Spec`].
        field: &'static str,
        /// What is wrong with the field.
        problem: String,
    },
    /// The root or a bind does not exist or cannot be read.
    #[error("cannot show {} in the sandbox", path.display())]
    Source {
        /// The path on the host.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The working folder does not exist inside.
    #[error("the working folder {} cannot be entered in the sandbox", path.display())]
    WorkingFolder {
        /// The path inside.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The program does not exist inside, or cannot be executed.
    #[error("cannot run `{program}` in the sandbox")]
    Command {
        /// The first word of the command.
        program: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// Files of the root belong to a user that the sandbox cannot act as.
    #[error(
        "cannot prepare {} in the sandbox: everything under the root and the writable binds must belong to uid {} and gid {}",
        path.display(), owner.0, owner.1
    )]
    NotOwned {
        /// The path inside.
        path: PathBuf,
        /// The uid and gid on the host that must own them.
        owner: (u32, u32),
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel or the container around us does not allow user namespaces.
    #[error("the sandbox needs user namespaces, which are refused here; to allow them, {enable}")]
    NamespacesRefused {
        /// What to enable, as an instruction.
        enable: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refuses to mount an overlay in a user namespace.
    #[error("the sandbox needs an overlay mount, which is refused here; to allow it, {enable}")]
    OverlayRefused {
        /// What to enable, as an instruction.
        enable: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A container around us hides parts of `/proc`, so the kernel refuses to mount a fresh one.
    #[error(
        "the sandbox needs a fresh /proc, which is refused where parts of the host's /proc are hidden; \
         to allow it, {enable}"
    )]
    ProcRefused {
        /// What to enable, as an instruction.
        enable: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A container around us forbids a system call.
    #[error("the sandbox could not {step}: a system call is forbidden here; to allow it, {enable}")]
    CallRefused {
        /// The step that needs it.
        step: Step,
        /// What to enable, as an instruction.
        enable: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// There is no `/proc` here, or it does not show our own processes.
    #[error(
        "the sandbox needs a /proc that shows the processes of this namespace, but {problem}; mount it: \
         `mount -t proc proc /proc`"
    )]
    NoProc {
        /// What is at `/proc` instead.
        problem: &'static str,
    },
    /// The helper could not be started.
    #[error("cannot start the sandbox helper {}", program.display())]
    Launch {
        /// The executable of [`crate::Launcher`].
        program: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// A step of the set-up failed.
    #[error("the sandbox could not {step}{}", path.as_deref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    Setup {
        /// The step.
        step: Step,
        /// The path it was about.
        path: Option<PathBuf>,
        /// The kernel's error.
        source: io::Error,
    },
    /// The helper ended and did not say why: it was killed, or the executable does not call
    /// [`crate::init_if_requested`].
    #[error(
        "the sandbox ended without a report ({status}); it was killed from outside, \
         or the program does not call hab_sandbox::init_if_requested"
    )]
    Lost {
        /// How the helper ended.
        status: std::process::ExitStatus,
    },
    /// The caller could not talk to the helper or follow the run.
    #[error("lost contact with the sandbox")]
    Contact {
        /// The kernel's error.
        #[from]
        source: io::Error,
    },
}

/// Whose fault a [`SandboxError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The spec is at fault, or a file that it names.
    Input,
    /// The machine is at fault: something must be enabled.
    Host,
    /// This program is at fault.
    Internal,
}

impl SandboxError {
    /// Whose fault the error is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Invalid { .. }
            | Self::Source { .. }
            | Self::WorkingFolder { .. }
            | Self::Command { .. }
            | Self::NotOwned { .. } => Fault::Input,
            Self::NamespacesRefused { .. }
            | Self::OverlayRefused { .. }
            | Self::ProcRefused { .. }
            | Self::CallRefused { .. }
            | Self::NoProc { .. } => Fault::Host,
            Self::Launch { .. } | Self::Setup { .. } | Self::Lost { .. } | Self::Contact { .. } => {
                Fault::Internal
            }
        }
    }
}

/// The steps of the set-up, for [`SandboxError::Setup`]. Its `Display` follows "could not".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Step {
    /// Reading the spec and tying the helper's life to the caller's.
    Begin,
    /// Unsharing the namespaces.
    Namespaces,
    /// Writing the user map and becoming the build user.
    Identity,
    /// Opening the root and the binds.
    Source,
    /// Making room for the view.
    Scratch,
    /// Mounting the overlay.
    Overlay,
    /// Mounting a fresh `/proc`.
    Proc,
    /// Making the view the only root.
    Root,
    /// Making the folder or file that a mount covers, or a file that the root lacks.
    Place,
    /// Mounting a bind, a device or a folder in memory.
    Mount,
    /// Host name, limits and capabilities.
    Privileges,
    /// Loading the system call filter.
    Filter,
    /// Entering the working folder.
    WorkingFolder,
    /// Starting the command.
    Command,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "begin",
            Self::Namespaces => "make its namespaces",
            Self::Identity => "become the build user",
            Self::Source => "open",
            Self::Scratch => "make room for the view in memory",
            Self::Overlay => "mount the overlay",
            Self::Proc => "mount /proc",
            Self::Root => "enter the view",
            Self::Place => "prepare",
            Self::Mount => "mount",
            Self::Privileges => "give up its privileges",
            Self::Filter => "load the system call filter",
            Self::WorkingFolder => "enter the working folder",
            Self::Command => "start the command",
        })
    }
}

/// A step that failed in the helper, as it is sent to the caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub step: Step,
    pub path: Option<PathBuf>,
    pub errno: i32,
}

impl Failure {
    /// The error for the caller; `owner` is the sandbox's uid and gid on the host.
    pub(crate) fn into_error(self, owner: (u32, u32)) -> SandboxError {
        let source = io::Error::from_raw_os_error(self.errno);
        let errno = Errno::from_raw_os_error(self.errno);
        let refused = matches!(errno, Errno::PERM | Errno::ACCESS);
        let path = self.path.clone().unwrap_or_default();
        match self.step {
            Step::Namespaces => {
                SandboxError::NamespacesRefused { enable: namespaces::what_to_enable(), source }
            }
            // AppArmor's restriction lets the namespace be made and then grants nothing in it.
            Step::Identity | Step::Scratch | Step::Root if refused => {
                SandboxError::NamespacesRefused { enable: namespaces::what_to_enable(), source }
            }
            Step::Overlay => SandboxError::OverlayRefused { enable: overlay_needs(errno), source },
            Step::Proc if refused => {
                SandboxError::ProcRefused { enable: namespaces::container_needs(), source }
            }
            Step::Source => SandboxError::Source { path, source },
            Step::Place if refused || errno == Errno::OVERFLOW => {
                SandboxError::NotOwned { path, owner, source }
            }
            Step::WorkingFolder => SandboxError::WorkingFolder { path, source },
            Step::Command => SandboxError::Command { program: path.display().to_string(), source },
            step if (refused || errno == Errno::NOSYS) && namespaces::is_filtered() => {
                SandboxError::CallRefused { step, enable: namespaces::container_needs(), source }
            }
            Step::Begin
            | Step::Identity
            | Step::Scratch
            | Step::Proc
            | Step::Root
            | Step::Place
            | Step::Mount
            | Step::Privileges
            | Step::Filter => SandboxError::Setup { step: self.step, path: self.path, source },
        }
    }
}

fn overlay_needs(errno: Errno) -> String {
    match errno {
        Errno::NODEV => "load the kernel module `overlay`",
        Errno::PERM => "use Linux 5.11 or newer",
        _ => "put the root on an ordinary filesystem such as ext4, xfs or btrfs",
    }
    .to_owned()
}

/// Adds to an error of the operating system the step that failed.
pub(crate) trait At<T> {
    /// Adds the step alone.
    fn step(self, step: Step) -> Result<T, Failure>;
    /// Adds the step and the path that it was about.
    fn at(self, step: Step, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn step(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, path: None, errno: errno_of(&error.into()) })
    }

    fn at(self, step: Step, path: &Path) -> Result<T, Failure> {
        self.step(step).map_err(|failure| Failure { path: Some(path.to_owned()), ..failure })
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::NotFound => Errno::NOENT.raw_os_error(),
        io::ErrorKind::InvalidInput => Errno::INVAL.raw_os_error(),
        io::ErrorKind::PermissionDenied => Errno::PERM.raw_os_error(),
        _ => Errno::IO.raw_os_error(),
    })
}
