//! Why there is no answer: the address, the cause, and all that lies below it; never a user, a password or a query.

use std::error::Error as StdError;
use std::io;

use reqwest::Url;

use crate::origin::shown;
use crate::redirect::NotFollowed;

/// Why a request has no answer that may be used.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct Problem {
    address: String,
    #[source]
    cause: Cause,
}

/// What is in the way.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Name resolution.
    #[error("its host name is not known")]
    UnknownHost(#[source] io::Error),
    /// It is not asked there.
    #[error(
        "it has an address that only this machine or its network can reach, and that the operator did not name"
    )]
    Inner,
    /// Nobody listens.
    #[error("it refuses connections")]
    Refused(#[source] reqwest::Error),
    /// Any other failure to connect.
    #[error("there is no connection to it")]
    NoConnection(#[source] reqwest::Error),
    /// Nobody who is trusted here vouches for it, or not any more, or for another name.
    #[error("its certificate is not trusted ({why})")]
    Certificate {
        /// OpenSSL's words.
        why: String,
        /// All of them.
        #[source]
        source: reqwest::Error,
    },
    /// It does not speak TLS, or no version in common.
    #[error("there is no TLS with it")]
    Tls(#[source] reqwest::Error),
    /// A time limit.
    #[error("it did not answer within {seconds} s")]
    Silent {
        /// The limit.
        seconds: u64,
    },
    /// The trust store cannot be read, or there is no TLS on this machine.
    #[error("TLS cannot be prepared on this machine")]
    Unprepared(#[source] reqwest::Error),
    /// The connection ended where the answer should begin.
    #[error("it closed the connection before it answered")]
    Closed(#[source] reqwest::Error),
    /// The answer began and did not end as it should.
    #[error("its answer broke off")]
    Broken(#[source] reqwest::Error),
    /// A redirect.
    #[error("it redirects to {to}, which is not followed: {why}")]
    Redirect {
        /// Where to.
        to: String,
        /// Why not.
        why: NotFollowed,
    },
    /// The answer is encoded.
    #[error("its answer is encoded as {0:?}, and only identity was asked for")]
    Encoding(String),
    /// The answer's head is too large.
    #[error("the head of its answer has more than {limit} bytes")]
    Head {
        /// In bytes.
        limit: usize,
    },
    /// The answer is too large.
    #[error("its answer has more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// It is no address of HTTP.
    #[error("it is neither http nor https")]
    Scheme,
    /// The environment names a proxy that cannot be used.
    #[error("the environment names a proxy for it that is neither http nor https")]
    Proxy,
    /// Whoever asked does not want it any more.
    #[error("it was not waited for")]
    Cancelled,
    /// What HTTP does not allow, and anything else.
    #[error("its answer is not understood")]
    Other(#[source] reqwest::Error),
}

/// No address of a host is one that may be asked.
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

    /// What came of a request to `url` that has no answer, or of reading one.
    pub(crate) fn of(url: &Url, error: reqwest::Error) -> Self {
        Self::new(url, Cause::of(error.without_url(), url.scheme() == "https"))
    }

    /// The address that was asked, for people.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What is in the way.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What is in the way, for who names the address otherwise.
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
        // native-tls keeps OpenSSL's verdict in its words alone.
        let text = story(&error);
        if text.contains("certificate verify failed") {
            let why = verdict(&text).unwrap_or("its reason is in the log").to_owned();
            return Self::Certificate { why, source: error };
        }
        if error.is_connect() {
            // After TCP comes TLS, and whoever does not speak it often just hangs up.
            let tls = https && !text.contains("tcp connect error") && !text.contains("tunnel");
            return if tls { Self::Tls(error) } else { Self::NoConnection(error) };
        }
        if below().any(is_closed) {
            return Self::Closed(error);
        }
        Self::Other(error)
    }

    /// Whether nothing can be said about the thing that was asked for, because whoever has it was not reached, broke
    /// off, or took too long. Otherwise what it said is refused.
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

/// What OpenSSL says of a certificate: the last words in brackets behind its error's code.
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

/// An error and its causes on one line. What a cause repeats of what was said is left out.
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
