//! What the caller and its helper say to each other: JSON in packets over a socket pair, with file
//! descriptors where a path would be no use on the other side.

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

/// From the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first message. With a mount for each of the job's volumes.
    Run(Box<Job>),
    /// The other first message: make a file system in memory and send it back.
    Memory { bytes: u64, files: u64 },
    /// The answer to [`Notice::MapMe`].
    Mapped,
}

/// All that the helper needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub spec: Spec,
    /// The caller's process id; when the helper's parent is another, the caller is gone.
    pub caller: u32,
    /// The binds whose source came with this message, by their number.
    pub volumes: Vec<usize>,
    /// Whether the helper starts with the privileges of root, and gives them up for another user's.
    pub privileged: bool,
}

/// From the helper or process 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// The file system that [`Order::Memory`] asks for, as a mount.
    Memory,
    /// The volumes' mounts for their next run, in the order of their binds: those of this run end with it.
    Volumes,
    /// The user namespace exists and waits for its map.
    MapMe,
    /// With a descriptor for process 1.
    Init,
    /// From process 1 to the helper, with the end at which calls are answered.
    Listener { preloaded: bool },
    /// The command runs. With descriptors for the new `/proc`, the scratch space and every tmpfs.
    Started { clock_shifted: bool, preloaded: bool },
    /// Nothing runs.
    Failed(Failure),
    /// A program was not started.
    Refused(Refused),
    /// The command ended, with its raw wait status.
    Ended(i32),
}

/// Larger than any sensible spec, smaller than a socket's buffer is by default everywhere (212,992).
const LARGEST: usize = 128 << 10;
/// The kernel's own limit on descriptors in one message (`SCM_MAX_FD`).
const MOST_FDS: usize = 253;

/// The two ends, both closed on execution.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message whole.
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

/// Receives one message and the descriptors it brought; `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LARGEST];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let got = match got {
        // The other side was killed with something unread.
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
