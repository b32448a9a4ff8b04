//! A host's answer, read in pieces or whole, within limits.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use reqwest::{Response, StatusCode, Url};
use tokio::time::timeout;

use crate::problem::{Cause, Problem};

/// The most bytes of an answer's head. The HTTP library itself stops at a few times as much, and at 100 headers.
const HEAD: usize = 64 << 10;

/// What a host answered: **unverified**.
#[derive(Debug)]
pub struct Answer {
    response: Response,
    url: Url,
    redirected: bool,
    silence: Duration,
}

impl Answer {
    pub(crate) fn new(
        response: Response,
        url: Url,
        redirected: bool,
        silence: Duration,
    ) -> Result<Self, Problem> {
        let head: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head > HEAD {
            return Err(Problem::new(&url, Cause::Head { limit: HEAD }));
        }
        Ok(Self { response, url, redirected, silence })
    }

    /// Refuses an encoded body: its bytes would not be those that a digest or a parser expects.
    pub(crate) fn plain(self) -> Result<Self, Problem> {
        let encoded = self.response.headers().get_all(CONTENT_ENCODING).iter().find_map(|value| {
            let name = value.to_str().unwrap_or("something that is not plain text");
            (!matches!(name.trim().to_ascii_lowercase().as_str(), "" | "identity")).then(|| name.to_owned())
        });
        match encoded {
            Some(mut name) => {
                name.truncate(name.floor_char_boundary(40));
                Err(Problem::new(&self.url, Cause::Encoding(name)))
            }
            None => Ok(self),
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The length of the body that the answer declares.
    pub fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Whether another host than the one that was asked answers, after a redirect. Then the caller must not send
    /// credentials that the answer asks for.
    pub fn is_redirected(&self) -> bool {
        self.redirected
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The address that answered, without secrets, for people.
    pub fn address(&self) -> String {
        crate::shown(&self.url)
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        match timeout(self.silence, self.response.chunk()).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Problem::of(&self.url, error)),
            Err(_) => Err(Problem::new(&self.url, Cause::Silent { seconds: whole_seconds(self.silence) })),
        }
    }

    /// The whole body, of at most `limit` bytes, within `time`.
    pub async fn whole(mut self, limit: usize, time: Duration) -> Result<Vec<u8>, Problem> {
        let url = self.url.clone();
        let too_large = || Problem::new(&url, Cause::TooLarge { limit });
        if self.content_length().is_some_and(|said| said > limit as u64) {
            return Err(too_large());
        }
        let collect = async {
            let mut bytes = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                if bytes.len() + chunk.len() > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        };
        let slow = |_| Problem::new(&url, Cause::Silent { seconds: whole_seconds(time) });
        timeout(time, collect).await.map_err(slow)?
    }
}

/// A time in seconds for messages: at least one.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}
