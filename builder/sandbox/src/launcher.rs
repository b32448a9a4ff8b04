//! How the helper is started: to run something (`launch.rs`), or to make a file system in memory.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::helper::MARKER;
use crate::namespaces;
use crate::wire::{self, Notice, Order};

/// The executable that becomes the helper.
#[derive(Debug, Clone)]
pub struct Launcher {
    pub(crate) program: PathBuf,
}

impl Default for Launcher {
    /// This program itself, even when its file was replaced since it started.
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe") }
    }
}

impl Launcher {
    /// Uses another program that calls [`crate::init_if_requested`], for callers that cannot call it: tests, plugins.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

/// A detached mount of a new file system in memory, with room for `bytes` and `files`.
pub(crate) fn memory_volume(launcher: &Launcher, bytes: u64, files: u64) -> io::Result<OwnedFd> {
    let (control, theirs) = wire::pair()?;
    let mut command = helper_command(launcher);
    let child = command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // Closes the helper's end of the socket here, so that its death is noticed.
    drop(command);
    let mut child = Reaped(child);
    let order = Order::Memory { bytes, files };
    wire::send(&control, &order, &[])?;
    loop {
        match wire::receive::<Notice>(&control)? {
            Some((Notice::MapMe, _)) => {
                let pid = i32::try_from(child.0.id()).ok().and_then(Pid::from_raw);
                namespaces::write_maps(pid.ok_or(io::ErrorKind::Other)?)?;
                wire::send(&control, &Order::Mapped, &[])?;
            }
            Some((Notice::Memory, mut fds)) => {
                child.0.wait()?;
                return fds.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
            }
            Some((Notice::Failed(failure), _)) => return Err(io::Error::from_raw_os_error(failure.errno)),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A child process that is killed and waited for at the end of the scope.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // An error means that the child has ended and was waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn helper_command(launcher: &Launcher) -> Command {
    let mut command = Command::new(&launcher.program);
    command.arg0(MARKER).env_clear();
    // If this program was started with the variable, the helper needs it too in order to load.
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}
