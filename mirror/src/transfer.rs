//! Why one transfer failed.

use std::io;

use hab_oci::Digest;

/// Why one transfer from one upstream failed.
#[derive(Debug, thiserror::Error)]
pub enum Transfer {
    /// Connection, TLS, protocol, time-out, or a redirect or an encoding that is refused.
    #[error(transparent)]
    Http(hab_outbound::Cause),
    /// There is nobody to ask through.
    #[error(transparent)]
    Client(#[from] hab_outbound::NoClient),
    /// Not 200 or 206.
    #[error("it answered {0}")]
    Status(u16),
    /// More bytes than the lock says or the limit allows.
    #[error("it sent more than the {limit} bytes that are allowed")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// The body ended early.
    #[error("it sent {got} of {expected} bytes")]
    Short {
        /// Bytes received.
        got: u64,
        /// Bytes promised.
        expected: u64,
    },
    /// Reading from it, or writing what was read.
    #[error("the transfer broke off")]
    Io(#[source] io::Error),
    /// Took too long altogether.
    #[error("it took longer than {seconds} s")]
    TooSlow {
        /// The limit.
        seconds: u64,
    },
    /// Not the size that the lock says, so not the bytes either.
    #[error("it has {actual} bytes, not {expected}")]
    WrongSize {
        /// Bytes wanted.
        expected: u64,
        /// Bytes announced.
        actual: u64,
    },
    /// The digest did not fit; another upstream is asked before this is an error.
    #[error("it sent other bytes: expected {expected}, got {actual}")]
    WrongDigest {
        /// The wanted digest.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A document from outside names a file of this machine.
    #[error("a document from outside named it, so no file of this machine is read there")]
    File,
    /// An address of a kind that is not fetched from.
    #[error("only http, https and file addresses are fetched from")]
    Scheme,
}

impl Transfer {
    /// Whether the same host may do better the next time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Short { .. } | Self::Io(_) | Self::Status(206 | 416) => true,
            Self::Http(cause) => cause.is_away(),
            _ => false,
        }
    }
}

impl From<hab_outbound::Problem> for Transfer {
    /// The address is said by whoever asked for it.
    fn from(problem: hab_outbound::Problem) -> Self {
        Self::Http(problem.into_cause())
    }
}
