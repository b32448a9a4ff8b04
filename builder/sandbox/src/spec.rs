//! What to run, what it sees and what it may use: plain data, checked before anything starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::vary::Varied;

/// One run. Nothing of the host is visible inside except what this spec lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The root filesystem, an absolute path to a folder on the host. It is never written to: changes go to a copy in
    /// memory that ends with the run. Everything in it belongs to [`crate::owner`].
    pub root: PathBuf,
    /// The program and its arguments. A program without a slash is looked up in `PATH` inside.
    pub command: Vec<String>,
    /// Whether to run the function that this program gave to [`crate::init_if_requested_with`], and no program of the
    /// root. `command` then holds the function's arguments.
    #[serde(default)]
    pub worker: bool,
    /// Environment variables. They come in addition to the fixed ones (`PATH`, `HOME`, `USER`, `LANG`, `LC_ALL`, `TZ`),
    /// or replace them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working folder, an absolute path inside.
    #[serde(default = "default_cwd")]
    pub cwd: PathBuf,
    /// Folders and files of the host that are visible inside.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Further empty folders in memory. `/tmp` and `/dev/shm` exist without being listed.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// The file mode creation mask, at most `0o777`.
    #[serde(default = "default_umask")]
    pub umask: u32,
    /// The host name, 1 to 64 letters, digits, dots and hyphens.
    #[serde(default = "default_hostname")]
    pub hostname: String,
    /// The number of processors that the command sees, 1 to [`Spec::MOST_PROCESSORS`]. The host decides how many work
    /// for it.
    #[serde(default = "default_processors")]
    pub processors: u32,
    /// Words with which no program may be called, on its command line or in a response file (`@FILE`), whole or
    /// followed by a `+`. Such a call fails with EINVAL, and the report names it. Programs that pass words on, or
    /// search for them, are exempt (`words.rs`).
    #[serde(default)]
    pub refused: Vec<String>,
    /// Whether dynamic programs load a library of ours before their own (`preload.rs`). It makes up the date and inode
    /// numbers, which no system call that the helper answers tells. A program with a sanitizer needs its own library
    /// first.
    #[serde(default)]
    pub preload: bool,
    /// The circumstances that are made up differently from another run.
    #[serde(default)]
    pub varied: Varied,
    /// The resources that the command may use.
    #[serde(default)]
    pub limits: RunLimits,
}

/// A folder or file of the host that is visible inside, without the mounts below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// An absolute path on the host. If it is writable, it belongs to [`crate::owner`].
    pub host: PathBuf,
    /// An absolute path inside; it is made if the root does not have it.
    pub inside: PathBuf,
    /// Whether the command may write there. Files that it writes stay on the host.
    #[serde(default)]
    pub writable: bool,
}

/// An empty folder in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// An absolute path inside; it is made if the root does not have it.
    pub inside: PathBuf,
    /// The most bytes that it can hold.
    pub size: u64,
}

/// The resources that the command may use. `None` means that the sandbox sets no limit.
///
/// `RLIMIT_AS` is not offered: it counts address space, of which sanitizers reserve terabytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunLimits {
    /// Memory of all processes together with everything held in `scratch` and `tmpfs`, in bytes. The kernel enforces it
    /// if the caller may make a control group. Otherwise memory is sampled, and a short peak can exceed the limit
    /// ([`crate::MemoryLimiter`]).
    pub memory: Option<u64>,
    /// Processes and threads at one time. The kernel refuses more only at an eighth plus 16 above it.
    pub processes: Option<u64>,
    /// Time from the start of the command to its end.
    pub wall: Option<Duration>,
    /// Disk space that the writable binds, with their earlier files, and `scratch` hold, in bytes. The kernel enforces
    /// it for a [`crate::Volume`] that is a file system of its own.
    pub disk: Option<u64>,
    /// Bytes on standard output and standard error together.
    pub log: Option<u64>,
    /// The size of one file, in bytes (`RLIMIT_FSIZE`).
    pub file_size: Option<u64>,
    /// Open files of one process (`RLIMIT_NOFILE`), at most the caller's own limit.
    pub open_files: u64,
    /// Space for files outside the binds (the root's copy, `/tmp`, `/dev/shm`), in bytes. It is memory; when it is
    /// full, a write fails with "no space left on device".
    pub scratch: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            memory: None,
            processes: None,
            wall: None,
            disk: None,
            log: None,
            file_size: None,
            open_files: 4096,
            scratch: 1 << 30,
        }
    }
}

impl RunLimits {
    /// The number of processes at which the kernel refuses another one. It is above the limit, so that the supervisor
    /// sees the limit exceeded before a build fails with "resource temporarily unavailable".
    pub(crate) fn kernel_processes(&self) -> Option<u64> {
        self.processes.map(|count| count.saturating_add(count / 8 + 16))
    }
}

fn default_cwd() -> PathBuf {
    PathBuf::from("/")
}

fn default_umask() -> u32 {
    0o022
}

fn default_processors() -> u32 {
    2
}

fn default_hostname() -> String {
    "hab".to_owned()
}

impl Spec {
    /// The most processors: the C library's set of processors holds no more (`CPU_SETSIZE`).
    pub const MOST_PROCESSORS: u32 = 1024;

    /// A run of `command` in `root` with every other field at its default.
    pub fn new(root: impl Into<PathBuf>, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            root: root.into(),
            command: command.into_iter().map(Into::into).collect(),
            worker: false,
            env: BTreeMap::new(),
            cwd: default_cwd(),
            binds: Vec::new(),
            tmpfs: Vec::new(),
            umask: default_umask(),
            hostname: default_hostname(),
            processors: default_processors(),
            refused: Vec::new(),
            preload: false,
            varied: Varied::default(),
            limits: RunLimits::default(),
        }
    }

    /// The memory that the command sees, in bytes: its limit, or 4 GiB without a limit.
    pub(crate) fn memory_shown(&self) -> u64 {
        self.limits.memory.unwrap_or(4 << 30)
    }

    /// The variables of the command: the fixed ones, then the spec's, which replace them.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let fixed = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/build"),
            ("USER", "build"),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
        ];
        let mut env: BTreeMap<_, _> = fixed.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        env.extend(self.env.clone());
        env
    }

    /// Refuses values that are not allowed, and names the field.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let invalid = |field, problem: String| Err(SandboxError::Invalid { field, problem });
        if self.command.first().is_none_or(String::is_empty) {
            return invalid("command", "names no program".to_owned());
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return invalid("command", "holds a zero byte".to_owned());
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return invalid("env", format!("`{name}` is not a variable that can be set"));
            }
        }
        if self.umask > 0o777 {
            return invalid("umask", format!("{:o} is more than 777", self.umask));
        }
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if self.hostname.is_empty() || self.hostname.len() > 64 || !self.hostname.chars().all(letters) {
            return invalid("hostname", format!("`{}` is not a host name", self.hostname));
        }
        if !(1..=Self::MOST_PROCESSORS).contains(&self.processors) {
            return invalid(
                "processors",
                format!("{} is not between 1 and {}", self.processors, Self::MOST_PROCESSORS),
            );
        }
        if !self.root.is_absolute() {
            return invalid("root", format!("{} is not an absolute path", self.root.display()));
        }
        if !is_plain(&self.cwd) {
            return invalid("cwd", format!("{} is not a plain absolute path", self.cwd.display()));
        }
        if let Some(bind) = self.binds.iter().find(|bind| !bind.host.is_absolute()) {
            return invalid("binds", format!("{} is not an absolute path", bind.host.display()));
        }
        let mut seen = BTreeSet::new();
        let binds = self.binds.iter().map(|bind| ("binds", &bind.inside));
        for (field, inside) in binds.chain(self.tmpfs.iter().map(|tmpfs| ("tmpfs", &tmpfs.inside))) {
            if !is_plain(inside) {
                return invalid(field, format!("{} is not a plain absolute path", inside.display()));
            }
            let ours = ["/proc", "/dev", "/sys"].iter().any(|own| inside.starts_with(own));
            if ours || inside == Path::new("/") {
                return invalid(field, format!("has {}, where nothing can be mounted", inside.display()));
            }
            if !seen.insert(inside) {
                return invalid(field, format!("{} is listed twice", inside.display()));
            }
        }
        // For tmpfs a size of 0 means no limit.
        if self.limits.scratch == 0 {
            return invalid("scratch", "needs a size above 0".to_owned());
        }
        if self.tmpfs.iter().any(|tmpfs| tmpfs.size == 0) {
            return invalid("tmpfs", "needs a size above 0 for each folder".to_owned());
        }
        Ok(())
    }
}

/// Whether a path is absolute and every part of it is a name.
fn is_plain(path: &Path) -> bool {
    let names = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    path.is_absolute() && names && !path.as_os_str().as_encoded_bytes().contains(&0)
}
