//! Answers system calls that describe the machine: uname(2), sysinfo(2), sched_getaffinity(2), and those that reveal
//! the disk: getdents64(2) by the order of its names (`listing.rs`), statfs(2) and fstatfs(2) (`filesystem.rs`).
//! Refuses execve(2) and execveat(2) for some words (`words.rs`).
//!
//! `/proc` is made up (`facts.rs`), and these calls would tell the truth beside it. So a filter hands them to the
//! helper (seccomp_unotify(2)), which writes its answer into the memory of the calling process. The helper outlives
//! every process that can call it. Where it cannot write, the caller gets the kernel's own error for a bad address.
//!
//! The helper opens `/proc/<pid>/mem` first, then checks that the call still waits, and only then writes. So it never
//! writes to another process that got the same number meanwhile.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use seccompiler::sock_filter;

use crate::filesystem::{FileSystems, open_in};
use crate::listing::Page;
use crate::machine::{Identity, Machine};
use crate::preload;
use crate::spec::Spec;
use crate::sys;
use crate::vary::Vary;
use crate::words::{Memory, Refused, Words};

const CALLS: [libc::c_long; 7] = [
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getdents64,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
];

/// These calls are handed to the helper only if the spec refuses words, because every start of a program waits for it.
const STARTS: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// Loads this filter in process 1, after every other one, and returns the descriptor on which its calls are answered.
pub(crate) fn listen(spec: &Spec) -> io::Result<OwnedFd> {
    // The opcodes' bit patterns are in linux/bpf_common.h. A filter sees the number of a call first, and its
    // architecture second. Calls of another architecture never come here, because the other filters end them.
    let (load, jump_equal, answer) = (0x20, 0x15, 0x06);
    let line = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    let starts: &[_] = if spec.refused.is_empty() { &[] } else { &STARTS };
    let calls = [&CALLS, starts].concat();
    let mut filter = vec![line(load, 0, 0)];
    for (at, call) in calls.iter().enumerate() {
        let to_the_end = u8::try_from(calls.len() - at).unwrap_or(0);
        filter.push(line(jump_equal, to_the_end, u32::try_from(*call).unwrap_or(u32::MAX)));
    }
    filter.push(line(answer, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(line(answer, 0, libc::SECCOMP_RET_USER_NOTIF));
    sys::load_filter_with_listener(&filter)
}

/// Everything that the helper needs to answer calls.
pub(crate) struct Answers {
    listener: OwnedFd,
    /// The `/proc` that shows the helper's process numbers, because the listener names processes by these.
    proc: OwnedFd,
    machine: Machine,
    identity: Identity,
    memory: u64,
    backward: bool,
    /// The key that inode numbers are XORed with.
    key: u64,
    file_systems: FileSystems,
    words: Words,
}

/// How a call ends.
enum CallResult {
    Returns(i64),
    /// With a page of a folder's listing. It counts as read only once the caller has it.
    Lists(Page),
    /// With an error, because the program must not be started.
    Refuses(Refused),
    /// With the kernel's own answer.
    Continues,
}

impl Answers {
    /// Opens the `/proc` for [`Answers::new`]. Call it before the view becomes the helper's root.
    pub(crate) fn proc() -> io::Result<OwnedFd> {
        Ok(openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// `preloaded`: whether programs have the library that changes inode numbers.
    pub(crate) fn new(listener: OwnedFd, proc: OwnedFd, spec: &Spec, preloaded: bool) -> Self {
        let machine = Machine::of(spec);
        let (identity, memory) = (machine.identity(&spec.hostname), spec.memory_shown());
        let file_systems = FileSystems::of(spec, spec.varied.has(Vary::Disk));
        let backward = spec.varied.has(Vary::Order);
        let key = if preloaded { preload::file_key(&spec.varied) } else { 0 };
        let words = Words::new(&spec.refused);
        Self { listener, proc, machine, identity, memory, backward, key, file_systems, words }
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers one waiting call. Returns the program that it refused, if any.
    pub(crate) fn answer(&self) -> io::Result<Option<Refused>> {
        let asked = match sys::next_notification(&self.listener) {
            Ok(asked) => asked,
            // The caller is gone, or a signal interrupted the wait.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let result = self.result(&asked);
        let said = match &result {
            Ok(CallResult::Returns(value)) => Some(Ok(*value)),
            Ok(CallResult::Lists(page)) => {
                Some(page.turn().map(|()| i64::try_from(page.bytes.len()).unwrap_or(0)))
            }
            Ok(CallResult::Refuses(_)) => Some(Err(Errno::INVAL)),
            Ok(CallResult::Continues) => None,
            Err(error) => Some(Err(*error)),
        };
        match sys::respond(&self.listener, asked.id, said) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if let Ok(CallResult::Lists(page)) = &result {
                    page.turn_back();
                }
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(match result {
                Ok(CallResult::Refuses(refused)) => Some(refused),
                _ => None,
            }),
        }
    }

    fn result(&self, asked: &libc::seccomp_notif) -> Result<CallResult, Errno> {
        let [first, second, third, ..] = asked.data.args;
        match libc::c_long::from(asked.data.nr) {
            libc::SYS_uname => self.write(asked, first, &self.identity.bytes())?,
            libc::SYS_sysinfo => self.write(asked, first, &self.machine.sysinfo(self.memory))?,
            libc::SYS_sched_getaffinity => {
                let set = self.machine.processor_set();
                // Like the kernel, refuse a size that is not a multiple of eight bytes or does not hold the whole set.
                let room = usize::try_from(second & 0xffff_ffff).unwrap_or(0);
                if room % 8 != 0 || room < set.len() {
                    return Err(Errno::INVAL);
                }
                self.write(asked, third, &set)?;
                return Ok(CallResult::Returns(i64::try_from(set.len()).unwrap_or(0)));
            }
            // Any affinity can be set, even to a processor that does not exist; it has no effect.
            libc::SYS_sched_setaffinity => {}
            libc::SYS_getdents64 => {
                // If the helper cannot copy the descriptor, the kernel answers: it is not open, or not for reading.
                let Ok(folder) = self.descriptor(asked, first) else { return Ok(CallResult::Continues) };
                let room = usize::try_from(third & 0xffff_ffff).unwrap_or(0);
                let Some(page) = Page::next(folder, room, self.backward, self.key)? else {
                    return Ok(CallResult::Continues);
                };
                self.write(asked, second, &page.bytes)?;
                return Ok(CallResult::Lists(page));
            }
            libc::SYS_fstatfs => {
                let Ok(file) = self.descriptor(asked, first) else { return Ok(CallResult::Continues) };
                return self.tell_of(asked, file, second);
            }
            libc::SYS_statfs => {
                // If the helper cannot open the path, the kernel refuses it with its own error.
                let Ok(file) = self.named(asked, first) else { return Ok(CallResult::Continues) };
                return self.tell_of(asked, file, second);
            }
            libc::SYS_execve => return Ok(self.start(asked, first, second)),
            libc::SYS_execveat => return Ok(self.start(asked, second, third)),
            _ => return Err(Errno::NOSYS),
        }
        Ok(CallResult::Returns(0))
    }

    /// Writes the made-up description of the file system of `file` to `address`.
    fn tell_of(&self, asked: &libc::seccomp_notif, file: OwnedFd, address: u64) -> Result<CallResult, Errno> {
        let Some(answer) = self.file_systems.about(file)? else { return Ok(CallResult::Continues) };
        self.write(asked, address, &answer).map(|()| CallResult::Returns(0))
    }

    /// Opens the file that the caller names by the path at `address`.
    fn named(&self, asked: &libc::seccomp_notif, address: u64) -> Result<OwnedFd, Errno> {
        let path = self.memory(asked)?.path(address)?;
        let folder = self.folder_of(asked)?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        open_in(folder, &path)
    }

    /// Decides whether a program may be started with these words. If the helper cannot read the caller's memory, the
    /// kernel cannot read it either, and refuses the call.
    fn start(&self, asked: &libc::seccomp_notif, path: u64, words: u64) -> CallResult {
        let found = || {
            let memory = self.memory(asked)?;
            let mut program = memory.path(path)?;
            if Words::exempts(&program) {
                return Ok::<_, Errno>(None);
            }
            let found = self.words.find(&memory, words, &|file| self.response(asked, file))?;
            sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
            let Some(word) = found else { return Ok(None) };
            if self.is_absent(asked, path, &program) {
                return Ok(None);
            }
            program.truncate(200);
            Ok(Some(Refused {
                program: String::from_utf8_lossy(&program).into_owned(),
                word: word.to_owned(),
            }))
        };
        found().ok().flatten().map_or(CallResult::Continues, CallResult::Refuses)
    }

    /// Whether the program does not exist. Then the kernel answers, because a shell tries one folder after the other. A
    /// program that is not named by a path of the view, but by a descriptor, counts as existing.
    fn is_absent(&self, asked: &libc::seccomp_notif, address: u64, path: &[u8]) -> bool {
        let by_descriptor = if libc::c_long::from(asked.data.nr) == libc::SYS_execveat {
            !path.starts_with(b"/")
        } else {
            path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/")
        };
        let gone = |error| matches!(error, Errno::NOENT | Errno::NOTDIR);
        !by_descriptor && self.named(asked, address).is_err_and(gone)
    }

    /// Opens a response file, from which the caller would read further words.
    fn response(&self, asked: &libc::seccomp_notif, path: &[u8]) -> Result<File, Errno> {
        let place = open_in(self.folder_of(asked)?, path)?;
        // Opening anything but a regular file can have an effect: a process may wait at the other end of a pipe.
        if !FileType::from_raw_mode(fstat(&place)?.st_mode).is_file() {
            return Err(Errno::INVAL);
        }
        let again = format!("self/fd/{}", place.as_raw_fd());
        Ok(openat(&self.proc, again, OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?
            .into())
    }

    fn memory(&self, asked: &libc::seccomp_notif) -> Result<Memory, Errno> {
        let path = format!("{}/mem", asked.pid);
        Ok(Memory::new(openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn folder_of(&self, asked: &libc::seccomp_notif) -> Result<OwnedFd, Errno> {
        let cwd = format!("{}/cwd", asked.pid);
        openat(&self.proc, cwd, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }

    /// A copy of the caller's descriptor with this number.
    fn descriptor(&self, asked: &libc::seccomp_notif, number: u64) -> Result<OwnedFd, Errno> {
        let number = RawFd::try_from(number & 0xffff_ffff).map_err(|_| Errno::BADF)?;
        let process = self.process(asked.pid)?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        pidfd_getfd(process, number, PidfdGetfdFlags::empty())
    }

    /// Opens the process that a thread belongs to.
    fn process(&self, thread: u32) -> Result<OwnedFd, Errno> {
        let open = |number: Option<i32>| {
            let number = number.and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
            pidfd_open(number, PidfdFlags::empty())
        };
        open(i32::try_from(thread).ok()).or_else(|_| {
            let path = format!("{thread}/status");
            let status = openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut text = String::new();
            File::from(status).take(4096).read_to_string(&mut text).map_err(|_| Errno::SRCH)?;
            open(text.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()))
        })
    }

    fn write(&self, asked: &libc::seccomp_notif, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let path = format!("{}/mem", asked.pid);
        // This fails for a process that hides its memory from its own user.
        let memory = openat(&self.proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|_| Errno::FAULT)?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        File::from(memory).write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }
}
