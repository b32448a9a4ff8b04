//! The system calls that have no safe wrapper, and nothing else.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Closes every descriptor from `first` up. For a process that has just been executed and has opened nothing yet, or
/// that has just been forked and never returns: nothing in it uses the descriptors any more.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: no pointer is passed, and no value in this process that is used again owns one of the descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives every signal its default action again, except SIGPIPE, which Rust ignores and resets itself in
/// what it executes. A caller started by nohup would otherwise pass its ignored signals on.
pub(crate) fn default_signals() {
    for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: SIG_DFL installs no code. The calls for KILL, STOP and libc's own fail, as they should.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// `unshare` without `CLONE_FILES`.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the descriptor table stays shared, which is the only thing the caller would have to watch.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// `fork`; `None` in the child. Only the helper calls it, which has one thread.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: with one thread the child's copy of memory and locks is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Loads a system call filter for this process and its children. Returns the descriptor on which calls that the filter
/// hands over (`SECCOMP_RET_USER_NOTIF`) are answered; it is closed on execution.
pub(crate) fn load_filter_with_listener(filter: &[seccompiler::sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut().cast() };
    let load = |flags: libc::c_ulong| {
        // SAFETY: the program points at `len` instructions, which the kernel copies and checks; both types are its
        // `struct sock_filter`.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) }
    };
    // With this flag (Linux 5.19) a signal does not interrupt a call that is being answered; only the end of its
    // process does. Without it such a call is made and answered once more.
    let mut got = load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    if got == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        got = load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    }
    match RawFd::try_from(got) {
        // SAFETY: a new descriptor, which nobody else knows.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Turns the loopback interface of this network namespace on, netdevice(7).
pub(crate) fn raise_loopback() -> io::Result<()> {
    const FLAGS: libc::Ioctl = 0x8914;
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: a structure of integers and a union of them.
    let mut request = unsafe { MaybeUninit::<libc::ifreq>::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the request reads one such structure.
    match unsafe { libc::ioctl(socket.as_raw_fd(), FLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes later programs load at the same addresses each time, personality(2).
pub(crate) fn place_alike() -> io::Result<()> {
    // SAFETY: no pointer is passed, and nothing of this process moves.
    match unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE.cast_unsigned().into()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits for the next call that needs an answer.
pub(crate) fn next_notification(listener: &OwnedFd) -> io::Result<libc::seccomp_notif> {
    // SAFETY: a structure of integers, which the kernel demands to be zero.
    let mut asked = unsafe { MaybeUninit::<libc::seccomp_notif>::zeroed().assume_init() };
    // SAFETY: the request writes one such structure.
    let got = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
    if got == 0 { Ok(asked) } else { Err(io::Error::last_os_error()) }
}

/// Fails unless the call with this number still waits.
pub(crate) fn still_waits(listener: &OwnedFd, id: u64) -> io::Result<()> {
    // SAFETY: the request reads one number.
    let got = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a call return a value or an error, or lets the kernel answer it (`None`).
pub(crate) fn respond(
    listener: &OwnedFd,
    id: u64,
    result: Option<Result<i64, rustix::io::Errno>>,
) -> io::Result<()> {
    let go_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
    let (val, error, flags) = match result {
        Some(Ok(value)) => (value, 0, 0),
        Some(Err(errno)) => (0, -errno.raw_os_error(), 0),
        None => (0, 0, go_on),
    };
    let mut answer = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the request reads one such structure.
    let got = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How a child ended, and the processor time of the child and of all children that it waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub user: Duration,
    pub system: Duration,
}

/// Waits for one child.
pub(crate) fn wait_with_usage(child: Pid) -> io::Result<Ended> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live memory of the right type, which the kernel only writes to.
        let got =
            unsafe { libc::wait4(child.as_raw_nonzero().get(), &raw mut status, 0, usage.as_mut_ptr()) };
        if got > 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: a structure of integers, zeroed above.
    let usage = unsafe { usage.assume_init() };
    let time = |value: libc::timeval| {
        Duration::from_secs(u64::try_from(value.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
    };
    Ok(Ended {
        status: ExitStatus::from_raw(status),
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
    })
}

/// The number of a loop device that nobody uses, loop(4).
pub(crate) fn free_loop(control: impl AsFd) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
    // SAFETY: this request takes no argument.
    let number = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// `struct loop_config` of linux/loop.h. Its names, keys and reserved words are zeros here.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    rest: [u64; 22 + 8],
}

/// Puts `file` on the loop device, which detaches it when nothing uses the device any more.
pub(crate) fn configure_loop(device: impl AsFd, file: impl AsFd, direct: bool) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
    const AUTOCLEAR: u32 = 4;
    const DIRECT_IO: u32 = 16;
    const { assert!(size_of::<LoopConfig>() == 304, "linux/loop.h") }
    let config = LoopConfig {
        file: file.as_fd().as_raw_fd().unsigned_abs(),
        block_size: 0,
        numbers: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: if direct { AUTOCLEAR | DIRECT_IO } else { AUTOCLEAR },
        rest: [0; 30],
    };
    // SAFETY: the pointer is to a live structure of the size and layout that the request reads.
    match unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
