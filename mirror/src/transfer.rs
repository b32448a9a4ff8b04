//! Why a single transfer failed.

use std::io;

use hab_oci::Digest;

/// Why one transfer from one upstream failed.
#[derive(Debug, thiserror::Error)]
pub enum Transfer {
    /// The connection, TLS or the protocol failed, a time limit passed, or a redirect or an encoding is refused.
    #[error(transparent)]
    Http(hab_outbound::Cause),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] hab_outbound::NoClient),
    /// The status is neither 200 nor 206.
    #[error("it answered {0}")]
    Status(u16),
    /// The body has more bytes than the lock says or the limit allows.
    #[error("it sent more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The limit in bytes.
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
    /// Reading the body, or writing it to disk, failed.
    #[error("the transfer broke off")]
    Io(#[source] io::Error),
    /// The transfer took too long.
    #[error("it took longer than {seconds} s")]
    TooSlow {
        /// The limit in seconds.
        seconds: u64,
    },
    /// The file does not have the size that the lock gives, so it cannot have the digest either.
    #[error("it has {actual} bytes, not {expected}")]
    WrongSize {
        /// The size that the lock gives, in bytes.
        expected: u64,
        /// The size upstream, in bytes.
        actual: u64,
    },
    /// The bytes do not match the digest. Another upstream is asked before this becomes an error.
    #[error("it sent other bytes: expected {expected}, got {actual}")]
    WrongDigest {
        /// The digest that was expected.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// A document from outside gives the address of a file on this machine.
    #[error("a document from outside must not name files of this machine")]
    File,
    /// The address is of a kind that cannot be fetched.
    #[error("only http, https and file addresses are fetched from")]
    Scheme,
}

impl Transfer {
    /// Whether the same host may succeed the next time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Short { .. } | Self::Io(_) | Self::Status(206 | 416) => true,
            Self::Http(cause) => cause.is_away(),
            _ => false,
        }
    }
}

impl From<hab_outbound::Problem> for Transfer {
    /// Drops the address, because the caller's error names it.
    fn from(problem: hab_outbound::Problem) -> Self {
        Self::Http(problem.into_cause())
    }
}
