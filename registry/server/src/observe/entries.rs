//! The records of one finished request: for the metrics, and for the access log.

use std::net::IpAddr;

use serde::Serialize;

/// One finished request, for the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) route: &'static str,
    pub(crate) method: &'static str,
    pub(crate) status: u16,
    pub(crate) seconds: f64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// The whole answer was sent.
    pub(crate) whole: bool,
}

/// One finished request, for the access log. Times are in UTC and in seconds; sizes are the bytes of bodies.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    /// RFC 3339, to the millisecond.
    pub(crate) time: String,
    pub(crate) client: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<&'a str>,
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// The client took all of the answer.
    pub(crate) whole: bool,
    pub(crate) seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<&'a str>,
}
