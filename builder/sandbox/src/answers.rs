//! The system calls that describe the machine, answered for it: uname(2), sysinfo(2), sched_getaffinity(2), and
//! those that tell of the disk: getdents64(2) by its order (`listing.rs`), statfs(2) and fstatfs(2) (`filesystem.rs`).
//!
//! `/proc` is made up (`facts.rs`), and these would tell the truth beside it. A filter hands them to the helper
//! (seccomp_unotify(2)), which writes the answer into the memory of the process that asks. The helper outlives every
//! process that can ask; where it cannot write, the kernel's own answer for a bad address is given.
//!
//! The answer is written through `/proc/<pid>/mem`, opened first and used only when the call is still waiting then: so
//! a number that another process got meanwhile cannot lead the write to that one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use seccompiler::sock_filter;

use crate::filesystem::{FileSystems, open_in};
use crate::listing::Page;
use crate::machine::{Identity, Machine};
use crate::spec::Spec;
use crate::sys;
use crate::vary::Vary;

const CALLS: [libc::c_long; 7] = [
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getdents64,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
];

/// In process 1, after every other filter: loads this one and gives the end at which its calls are answered.
pub(crate) fn listen() -> io::Result<OwnedFd> {
    // The bit pattern of opcodes is in linux/bpf_common.h; the number of a call comes first in what a filter sees, the
    // architecture second. Calls of another architecture never come here: the other filters end them.
    let (load, jump_equal, answer) = (0x20, 0x15, 0x06);
    let line = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    let mut filter = vec![line(load, 0, 0)];
    for (at, call) in CALLS.iter().enumerate() {
        let to_the_end = u8::try_from(CALLS.len() - at).unwrap_or(0);
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
    file_systems: FileSystems,
}

/// The longest path, and a part of memory that is there whole or not at all.
const PATH: usize = 4096;
const PAGE: usize = 4096;

/// How a call ends.
enum Answer {
    Returns(i64),
    /// With a page of a folder, which counts when the caller has it.
    Lists(Page),
    /// As the kernel says.
    Continues,
}

impl Answers {
    /// The `/proc` to give to [`Answers::new`]; opened before the helper's root is the view.
    pub(crate) fn proc() -> io::Result<OwnedFd> {
        Ok(openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    pub(crate) fn new(listener: OwnedFd, proc: OwnedFd, spec: &Spec) -> Self {
        let machine = Machine::of(spec);
        let (identity, memory) = (machine.identity(&spec.hostname), spec.memory_shown());
        let file_systems = FileSystems::of(spec, spec.varied.has(Vary::Disk));
        let backward = spec.varied.has(Vary::Order);
        Self { listener, proc, machine, identity, memory, backward, file_systems }
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers one call that waits.
    pub(crate) fn answer(&self) -> io::Result<()> {
        let asked = match sys::next_notification(&self.listener) {
            Ok(asked) => asked,
            // Whoever asked is gone, or a signal came.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let result = self.result(&asked);
        let said = match &result {
            Ok(Answer::Returns(value)) => Some(Ok(*value)),
            Ok(Answer::Lists(page)) => {
                Some(page.turn().map(|()| i64::try_from(page.bytes.len()).unwrap_or(0)))
            }
            Ok(Answer::Continues) => None,
            Err(error) => Some(Err(*error)),
        };
        match sys::respond(&self.listener, asked.id, said) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if let Ok(Answer::Lists(page)) = &result {
                    page.turn_back();
                }
                Ok(())
            }
            other => other,
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
                let Some(page) = Page::next(folder, room, self.backward)? else {
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
        let path = self.path(asked, address)?;
        let cwd = format!("{}/cwd", asked.pid);
        let folder = openat(&self.proc, cwd, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::still_waits(&self.listener, asked.id).map_err(|_| Errno::SRCH)?;
        open_in(folder, &path)
    }

    /// The path in the memory of who asks, without its last zero.
    fn path(&self, asked: &libc::seccomp_notif, address: u64) -> Result<Vec<u8>, Errno> {
        let memory = format!("{}/mem", asked.pid);
        let memory = openat(&self.proc, memory, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let memory = File::from(memory);
        let mut path = Vec::new();
        // By pages, since the next one need not be there.
        while path.len() < PATH {
            let at = address.saturating_add(path.len() as u64);
            let mut page = vec![0; PAGE - usize::try_from(at).unwrap_or(0) % PAGE];
            memory.read_exact_at(&mut page, at).map_err(|_| Errno::FAULT)?;
            if let Some(end) = page.iter().position(|byte| *byte == 0) {
                path.extend_from_slice(&page[..end]);
                return Ok(path);
            }
            path.append(&mut page);
        }
        Err(Errno::NAMETOOLONG)
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
