//! The system calls that describe the machine, answered for it: uname(2), sysinfo(2) and sched_getaffinity(2).
//!
//! `/proc` is made up (`facts.rs`), and these would tell the truth beside it. A filter hands them to the helper
//! (seccomp_unotify(2)), which writes the answer into the memory of the process that asks. The helper outlives every
//! process that can ask; where it cannot write, the kernel's own answer for a bad address is given.
//!
//! The answer is written through `/proc/<pid>/mem`, opened first and used only when the call is still waiting then: so
//! a number that another process got meanwhile cannot lead the write to that one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use seccompiler::sock_filter;

use crate::machine::{Identity, Machine};
use crate::spec::Spec;
use crate::sys;

const CALLS: [libc::c_long; 4] =
    [libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity];

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
}

impl Answers {
    /// The `/proc` to give to [`Answers::new`]; opened before the helper's root is the view.
    pub(crate) fn proc() -> io::Result<OwnedFd> {
        Ok(openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    pub(crate) fn new(listener: OwnedFd, proc: OwnedFd, spec: &Spec) -> Self {
        let (machine, identity) = (spec.machine.clone(), spec.machine.identity(&spec.hostname));
        Self { listener, proc, machine, identity, memory: spec.memory_shown() }
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
        match sys::respond(&self.listener, asked.id, result) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn result(&self, asked: &libc::seccomp_notif) -> Result<i64, Errno> {
        let [first, second, third, ..] = asked.data.args;
        match libc::c_long::from(asked.data.nr) {
            libc::SYS_uname => self.write(asked, first, &self.identity.bytes()).map(|()| 0),
            libc::SYS_sysinfo => self.write(asked, first, &self.machine.sysinfo(self.memory)).map(|()| 0),
            libc::SYS_sched_getaffinity => {
                let set = self.machine.processor_set();
                // As the kernel has it: whole words, and no fewer than its set has.
                let room = usize::try_from(second & 0xffff_ffff).unwrap_or(0);
                if room % 8 != 0 || room < set.len() {
                    return Err(Errno::INVAL);
                }
                self.write(asked, third, &set)?;
                Ok(i64::try_from(set.len()).unwrap_or(0))
            }
            // A processor that is not there can be asked for as well.
            libc::SYS_sched_setaffinity => Ok(0),
            _ => Err(Errno::NOSYS),
        }
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
