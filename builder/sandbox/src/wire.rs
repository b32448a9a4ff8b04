//! The messages between the caller and its helper: JSON in packets over a socket pair, with file descriptors where a
//! path would be of no use to the other side.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::spec::Spec;
use crate::words::Refused;

/// A message from the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first message: run this job. It carries a mount for each of the job's volumes.
    Run(Box<Job>),
    /// The other first message: make a file system in memory and send it back.
    Memory { bytes: u64, files: u64 },
    /// The answer to [`Notice::MapMe`].
    Mapped,
}

/// Everything that the helper needs to know for a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub spec: Spec,
    /// The caller's process id. If the helper's parent is another process, the caller is gone.
    pub caller: u32,
    /// The binds whose source came with this message, by their number.
    pub volumes: Vec<usize>,
    /// Whether the helper starts with the privileges of root, and gives them up to become another user.
    pub privileged: bool,
}

/// A message from the helper or process 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// The file system that [`Order::Memory`] asks for, as a mount.
    Memory,
    /// New mounts of the volumes for their next run, in the order of their binds, because this run's mounts end with
    /// it.
    Volumes,
    /// The user namespace exists and waits for its map.
    MapMe,
    /// Process 1 exists. The message carries a descriptor for it.
    Init,
    /// From process 1 to the helper, with the descriptor on which calls are answered.
    Listener { preloaded: bool },
    /// The command runs. The message carries descriptors for the new `/proc`, the scratch space and every tmpfs.
    Started { clock_shifted: bool, preloaded: bool },
    /// A step failed, and nothing runs.
    Failed(Failure),
    /// A program was refused, and not started.
    Refused(Refused),
    /// The command ended, with its raw wait status.
    Ended(i32),
}

/// The largest message: larger than any sensible spec, smaller than a socket's default buffer on any host (212,992).
const LARGEST: usize = 128 << 10;
/// The most descriptors in one message, a limit of the kernel (`SCM_MAX_FD`).
const MOST_FDS: usize = 253;

/// Makes the two ends of a connection, both closed on execution.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one whole message.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LARGEST || fds.len() > MOST_FDS {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and the descriptors that it carries; `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LARGEST];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let got = match got {
        // The other side was killed before it had read everything.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, fds)))
}
