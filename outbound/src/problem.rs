//! Why a request failed: the address, the cause, and the causes below it; never a user, a password or a query.

use std::error::Error as StdError;
use std::io;

use reqwest::Url;

use crate::origin::shown;
use crate::redirect::NotFollowed;

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct Problem {
    address: String,
    #[source]
    cause: Cause,
}

/// The cause of a failed request.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Name resolution failed.
    #[error("its host name is not known")]
    UnknownHost(#[source] io::Error),
    /// The address is inner, so it was not asked.
    #[error(
        "it has an address that only this machine or its network can reach, and that the operator did not name"
    )]
    Inner,
    /// Nothing listens at the address.
    #[error("it refuses connections")]
    Refused(#[source] reqwest::Error),
    /// Any other failure to connect.
    #[error("cannot connect to it")]
    NoConnection(#[source] reqwest::Error),
    /// No trusted authority vouches for the certificate, it expired, or it is for another name.
    #[error("its certificate is not trusted ({why})")]
    Certificate {
        /// OpenSSL's reason.
        why: String,
        /// The whole error.
        #[source]
        source: reqwest::Error,
    },
    /// The host does not speak TLS, or no version that this machine speaks.
    #[error("cannot establish TLS with it")]
    Tls(#[source] reqwest::Error),
    /// A time limit passed.
    #[error("it did not answer within {seconds} s")]
    Silent {
        /// The time limit in seconds.
        seconds: u64,
    },
    /// The trust store cannot be read, or this machine has no TLS.
    #[error("cannot set up TLS on this machine")]
    Unprepared(#[source] reqwest::Error),
    /// The connection ended before an answer began.
    #[error("it closed the connection before it answered")]
    Closed(#[source] reqwest::Error),
    /// The answer ended too early, or is malformed.
    #[error("its answer broke off")]
    Broken(#[source] reqwest::Error),
    /// A redirect that is not followed.
    #[error("it redirects to {to}, which is not followed: {why}")]
    Redirect {
        /// Where it leads.
        to: String,
        /// Why it is not followed.
        why: NotFollowed,
    },
    /// The answer's body is encoded.
    #[error("its answer is encoded as {0:?}, and only identity was asked for")]
    Encoding(String),
    /// The answer's head is too large.
    #[error("the head of its answer has more than {limit} bytes")]
    Head {
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is too large.
    #[error("its answer has more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The address is neither http nor https.
    #[error("it is neither http nor https")]
    Scheme,
    /// The environment names a proxy that cannot be used.
    #[error("the environment names a proxy for it that is neither http nor https")]
    Proxy,
    /// The caller stopped waiting.
    #[error("the request was cancelled")]
    Cancelled,
    /// The answer is no valid HTTP, or anything else went wrong.
    #[error("its answer is not understood")]
    Other(#[source] reqwest::Error),
}

/// A host has an inner address, so it must not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0} has an address that only this machine or its network can reach")]
pub(crate) struct InnerHost(pub(crate) String);

/// A name that does not resolve.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnknownName(#[source] pub(crate) io::Error);

impl Problem {
    pub(crate) fn new(url: &Url, cause: Cause) -> Self {
        Self { address: shown(url), cause }
    }

    /// The problem behind an error of the HTTP library, for a request to `url` or its answer.
    pub(crate) fn of(url: &Url, error: reqwest::Error) -> Self {
        Self::new(url, Cause::of(error.without_url(), url.scheme() == "https"))
    }

    /// The address that was asked, for people.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The cause.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The cause, for callers that name the address themselves.
    pub fn into_cause(self) -> Cause {
        self.cause
    }
}

impl Cause {
    fn of(error: reqwest::Error, https: bool) -> Self {
        let below = || causes(&error);
        if below().any(<dyn StdError>::is::<InnerHost>) {
            return Self::Inner;
        }
        if let Some(UnknownName(why)) = below().find_map(|cause| cause.downcast_ref::<UnknownName>()) {
            return Self::UnknownHost(io::Error::new(why.kind(), why.to_string()));
        }
        if error.is_body() || error.is_decode() {
            return Self::Broken(error);
        }
        let refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
        if below().filter_map(|cause| cause.downcast_ref()).any(refused) {
            return Self::Refused(error);
        }
        // native-tls gives OpenSSL's verdict only as text.
        let text = story(&error);
        if text.contains("certificate verify failed") {
            let why = verdict(&text).unwrap_or("its reason is in the log").to_owned();
            return Self::Certificate { why, source: error };
        }
        if error.is_connect() {
            // TLS follows TCP, and a host that does not speak TLS often just closes the connection.
            let tls = https && !text.contains("tcp connect error") && !text.contains("tunnel");
            return if tls { Self::Tls(error) } else { Self::NoConnection(error) };
        }
        if below().any(is_closed) {
            return Self::Closed(error);
        }
        Self::Other(error)
    }

    /// Whether the request says nothing about the thing that it asked for, because the host was not reached, broke off,
    /// or took too long. If not, the host answered and its answer is refused.
    pub fn is_away(&self) -> bool {
        match self {
            Self::UnknownHost(_)
            | Self::Refused(_)
            | Self::NoConnection(_)
            | Self::Certificate { .. }
            | Self::Tls(_)
            | Self::Silent { .. }
            | Self::Unprepared(_)
            | Self::Closed(_)
            | Self::Broken(_)
            | Self::Proxy
            | Self::Cancelled
            | Self::Other(_) => true,
            Self::Inner
            | Self::Redirect { .. }
            | Self::Encoding(_)
            | Self::Head { .. }
            | Self::TooLarge { .. }
            | Self::Scheme => false,
        }
    }
}

/// Whether a cause is the end of a connection.
fn is_closed(cause: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return error.is_incomplete_message() || error.is_canceled();
    }
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    kind.is_some_and(|kind| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
    })
}

/// OpenSSL's reason for refusing a certificate: the words in parentheses after its error code.
fn verdict(text: &str) -> Option<&str> {
    let behind = text.split("certificate verify failed").nth(1)?;
    let (_, words) = behind.split_once('(')?;
    words.split(')').next()
}

fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// An error and its causes on one line, without words that a cause repeats.
pub fn story(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
    }
    text
}
