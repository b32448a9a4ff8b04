//! What to run, what it sees and what it may use: plain data, checked before anything starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::vary::Varied;

/// One run. Nothing of the host is visible inside but what is listed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The root filesystem, an absolute path to a folder on the host. It is never written to: changes
    /// go to a copy in memory that ends with the run. Everything in it belongs to [`crate::owner`].
    pub root: PathBuf,
    /// The program and its arguments. A program without a slash is looked up in `PATH` inside.
    pub command: Vec<String>,
    /// Whether the command is no program of the root but the function that this program gave to
    /// [`crate::init_if_requested_with`]: `command` is what it is called with.
    #[serde(default)]
    pub worker: bool,
    /// Variables beside the fixed ones (`PATH`, `HOME`, `USER`, `LANG`, `LC_ALL`, `TZ`), or instead.
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
    /// How many processors the command is told there are, 1 to [`Spec::MOST_PROCESSORS`]. How many work for it is the
    /// host's affair.
    #[serde(default = "default_processors")]
    pub processors: u32,
    /// Words that no program is called with, whole or up to a `+`, on its command line or in a response file (`@FILE`).
    /// Such a call fails with EINVAL, and the report names it. Programs that pass words on, or look for them, are left
    /// alone (`words.rs`).
    #[serde(default)]
    pub refused: Vec<String>,
    /// Whether dynamic programs get a library loaded before their own that makes up what no system call tells: the
    /// date, and the numbers of files (`preload.rs`). A program with a sanitizer wants its own first.
    #[serde(default)]
    pub preload: bool,
    /// What is made up otherwise than in another run.
    #[serde(default)]
    pub varied: Varied,
    /// What the command may use.
    #[serde(default)]
    pub limits: Limits,
}

/// A folder or file of the host that is visible inside, without what is mounted below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// An absolute path on the host. A writable one belongs to [`crate::owner`].
    pub host: PathBuf,
    /// An absolute path inside; made when the root does not have it.
    pub inside: PathBuf,
    /// Whether the command may write there. What it writes stays on the host.
    #[serde(default)]
    pub writable: bool,
}

/// An empty folder in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// An absolute path inside; made when the root does not have it.
    pub inside: PathBuf,
    /// The most it can hold, in bytes.
    pub size: u64,
}

/// What the command may use. `None` is no limit of ours.
///
/// `RLIMIT_AS` is not offered: it counts address space, of which sanitizers reserve terabytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of all processes together with everything held in `scratch` and `tmpfs`, in bytes. The kernel keeps it
    /// where the caller may make a control group; otherwise it is sampled, and a short peak can pass
    /// ([`crate::MemoryLimiter`]).
    pub memory: Option<u64>,
    /// Processes and threads at one time. The kernel refuses more at an eighth plus 16 above it.
    pub processes: Option<u64>,
    /// Time from the start of the command to its end.
    pub wall: Option<Duration>,
    /// Disk space held by the writable binds, what was there before included, and by `scratch`, in bytes. The kernel
    /// keeps it for a [`crate::Volume`] that is a file system of its own.
    pub disk: Option<u64>,
    /// Bytes on standard output and standard error together.
    pub log: Option<u64>,
    /// The size of one file, in bytes (`RLIMIT_FSIZE`).
    pub file_size: Option<u64>,
    /// Open files of one process (`RLIMIT_NOFILE`), at most what the caller itself may have.
    pub open_files: u64,
    /// What can be written outside the binds (the root's copy, `/tmp`, `/dev/shm`), in bytes. It is memory;
    /// beyond it a write fails with "no space left on device".
    pub scratch: u64,
}

impl Default for Limits {
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

impl Limits {
    /// At how many processes the kernel refuses another one. Above the limit, so that the supervisor sees it passed,
    /// rather than a build that fails with "resource temporarily unavailable".
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
    /// As many as a set of processors holds in the C library (`CPU_SETSIZE`).
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
            limits: Limits::default(),
        }
    }

    /// How much memory the command is told there is, in bytes: what it may use, and 4 GiB where there is no limit.
    pub(crate) fn memory_shown(&self) -> u64 {
        self.limits.memory.unwrap_or(4 << 30)
    }

    /// The variables the command sees: the fixed ones, then the spec's.
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

    /// Refuses what cannot be meant, naming the field.
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
                format!("{} is not 1 to {}", self.processors, Self::MOST_PROCESSORS),
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
                return invalid(field, format!("nothing can be put at {}", inside.display()));
            }
            if !seen.insert(inside) {
                return invalid(field, format!("{} is listed twice", inside.display()));
            }
        }
        // To tmpfs a size of nought means no limit.
        if self.limits.scratch == 0 || self.tmpfs.iter().any(|tmpfs| tmpfs.size == 0) {
            return invalid("tmpfs", "a folder in memory needs a size".to_owned());
        }
        Ok(())
    }
}

/// Absolute, and every part is a name.
fn is_plain(path: &Path) -> bool {
    let names = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    path.is_absolute() && names && !path.as_os_str().as_encoded_bytes().contains(&0)
}
