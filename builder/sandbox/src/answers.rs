//! The system calls that describe the machine, answered for it: uname(2), sysinfo(2), sched_getaffinity(2), and
//! those that tell of the disk: getdents64(2) by its order (`listing.rs`), statfs(2) and fstatfs(2) (`filesystem.rs`).
//! execve(2) and execveat(2) are refused for some words (`words.rs`).
//!
//! `/proc` is made up (`facts.rs`), and these would tell the truth beside it. A filter hands them to the helper
//! (seccomp_unotify(2)), which writes the answer into the memory of the process that asks. The helper outlives every
//! process that can ask; where it cannot write, the kernel's own answer for a bad address is given.
//!
//! The answer is written through `/proc/<pid>/mem`, opened first and used only when the call is still waiting then: so
//! a number that another process got meanwhile cannot lead the write to that one.

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

/// Handed over only where words are refused: every program that is started waits for it.
const STARTS: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// In process 1, after every other filter: loads this one and gives the end at which its calls are answered.
pub(crate) fn listen(spec: &Spec) -> io::Result<OwnedFd> {
    // The bit pattern of opcodes is in linux/bpf_common.h; the number of a call comes first in what a filter sees, the
    // architecture second. Calls of another architecture never come here: the other filters end them.
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

/// Everything that an answer needs.
pub(crate) struct Answers {
    listener: OwnedFd,
    /// The `/proc` of the helper's own process numbers, which the listener uses.
    proc: OwnedFd,
    machine: Machine,
    identity: Identity,
    memory: u64,
    backward: bool,
    /// What numbers of files are changed by.
    key: u64,
    file_systems: FileSystems,
    words: Words,
}

/// How a call ends.
enum Answer {
    Returns(i64),
    /// With a page of a folder, which counts when the caller has it.
    Lists(Page),
    /// With an error for a program that is not started.
    Refuses(Refused),
    /// As the kernel says.
    Continues,
}

impl Answers {
    /// The `/proc` to give to [`Answers::new`]; opened before the helper's root is the view.
    pub(crate) fn proc() -> io::Result<OwnedFd> {
        Ok(openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// `preloaded`: whether programs change the numbers of files by themselves.
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

    /// Answers one call that waits. Gives what it refused.
    pub(crate) fn answer(&self) -> io::Result<Option<Refused>> {
        let asked = match sys::next_notification(&self.listener) {
            Ok(asked) => asked,
            // Whoever asked is gone, or a signal came.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let result = self.result(&asked);
        let said = match &result {
            Ok(Answer::Returns(value)) => Some(Ok(*value)),
            Ok(Answer::Lists(page)) => {
                Some(page.turn().map(|()| i64::try_from(page.bytes.len()).unwrap_or(0)))
            }
            Ok(Answer::Refuses(_)) => Some(Err(Errno::INVAL)),
            Ok(Answer::Continues) => None,
            Err(error) => Some(Err(*error)),
        };
        match sys::respond(&self.listener, asked.id, said) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if let Ok(Answer::Lists(page)) = &result {
                    page.turn_back();
                }
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(match result {
                Ok(Answer::Refuses(refused)) => Some(refused),
                _ => None,
            }),
        }
    }

    fn result(&self, asked: &libc::seccomp_notif) -> Result<Answer, Errno> {
        let [first, second, third, ..] = asked.data.args;
        match libc::c_long::from(asked.data.nr) {
            libc::SYS_uname => self.write(asked, first, &self.identity.bytes())?,
            libc::SYS_sysinfo => self.write(asked, first, &self.machine.sysinfo(self.memory))?,
            libc::SYS_sched_getaffinity => {
                let set = self.machine.processor_set();
                // As the kernel has it: whole words, and no fewer than its set has.
                let room = usize::try_from(second & 0xffff_ffff).unwrap_or(0);
                if room % 8 != 0 || room < set.len() {
                    return Err(Errno::INVAL);
                }
                self.write(asked, third, &set)?;
                return Ok(Answer::Returns(i64::try_from(set.len()).unwrap_or(0)));
            }
            // A processor that is not there can be asked for as well.
            libc::SYS_sched_setaffinity => {}
            libc::SYS_getdents64 => {
                // What cannot be had of the caller's descriptor, the kernel says: it is not open, or not for reading.
                let Ok(folder) = self.descriptor(asked, first) else { return Ok(Answer::Continues) };
                let room = usize::try_from(third & 0xffff_ffff).unwrap_or(0);
                let Some(page) = Page::next(folder, room, self.backward, self.key)? else {
                    return Ok(Answer::Continues);
                };
                self.write(asked, second, &page.bytes)?;
                return Ok(Answer::Lists(page));
            }
            libc::SYS_fstatfs => {
                let Ok(file) = self.descriptor(asked, first) else { return Ok(Answer::Continues) };
                return self.tell_of(asked, file, second);
            }
            libc::SYS_statfs => {
                // What cannot be opened the kernel refuses, for its own reason.
                let Ok(file) = self.named(asked, first) else { return Ok(Answer::Continues) };
                return self.tell_of(asked, file, second);
            }
            libc::SYS_execve => return Ok(self.start(asked, first, second)),
            libc::SYS_execveat => return Ok(self.start(asked, second, third)),
            _ => return Err(Errno::NOSYS),
        }
        Ok(Answer::Returns(0))
    }

    /// Writes to `address` what the file system of `file` is said to be.
    fn tell_of(&self, asked: &libc::seccomp_notif, file: OwnedFd, address: u64) -> Result<Answer, Errno> {
        let Some(answer) = self.file_systems.about(file)? else { return Ok(Answer::Continues) };
        self.write(asked, address, &answer).map(|()| Answer::Returns(0))
    }

    /// The file that the path at `address` leads the caller to.
    fn named(&self, asked: &libc::seccomp_notif, address: u64) -> Result<OwnedFd, Errno> {
        let path = self.memory(asked)?.path(address)?;
        let folder = self.folder_of(asked)?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        open_in(folder, &path)
    }

    /// Whether a program may be started with these words. What cannot be read of the caller, the kernel cannot read
    /// either.
    fn start(&self, asked: &libc::seccomp_notif, path: u64, words: u64) -> Answer {
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
        found().ok().flatten().map_or(Answer::Continues, Answer::Refuses)
    }

    /// Whether there is no such program, which the kernel says: a shell asks for one in one folder after the other. One
    /// that is named in another way than by a path from here is taken to be there.
    fn is_absent(&self, asked: &libc::seccomp_notif, address: u64, path: &[u8]) -> bool {
        let by_descriptor = if libc::c_long::from(asked.data.nr) == libc::SYS_execveat {
            !path.starts_with(b"/")
        } else {
            path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/")
        };
        let gone = |error| matches!(error, Errno::NOENT | Errno::NOTDIR);
        !by_descriptor && self.named(asked, address).is_err_and(gone)
    }

    /// A file that the caller would read further words from.
    fn response(&self, asked: &libc::seccomp_notif, path: &[u8]) -> Result<File, Errno> {
        let place = open_in(self.folder_of(asked)?, path)?;
        // Opening anything else would be felt: by who waits at the other end of a pipe.
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

    /// A copy of what the caller has open under a number.
    fn descriptor(&self, asked: &libc::seccomp_notif, number: u64) -> Result<OwnedFd, Errno> {
        let number = RawFd::try_from(number & 0xffff_ffff).map_err(|_| Errno::BADF)?;
        let process = self.process(asked.pid)?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        pidfd_getfd(process, number, PidfdGetfdFlags::empty())
    }

    /// The process of a thread.
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
        // Not to be had of a process that hides its memory from its own user.
        let memory = openat(&self.proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|_| Errno::FAULT)?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        File::from(memory).write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }
}
