//! Amounts as people write them: `30d`, `50MiB`.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A span of time: a number and `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(u32);

/// An amount of bytes: a number, alone or with `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(u64);

/// The error for a text that is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The text is not a span of time.
    #[error("{0:?} is not a span of time, such as 90s, 30m, 12h or 30d")]
    Span(String),
    /// The text is not an amount of bytes.
    #[error("{0:?} is not an amount of bytes, such as 4096, 64KiB, 50MiB or 1GiB")]
    Bytes(String),
}

impl Span {
    /// One minute.
    pub const MINUTE: Self = Self(60);

    /// A span of whole hours.
    pub const fn hours(hours: u16) -> Self {
        Self(hours as u32 * 3600)
    }

    /// The span in seconds.
    pub const fn seconds(self) -> i64 {
        self.0 as i64
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.0.into())
    }
}

impl Bytes {
    /// An amount of whole mebibytes.
    pub const fn mebi(mebi: u32) -> Self {
        Self((mebi as u64) << 20)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)];
        let seconds = units
            .iter()
            .find_map(|(unit, worth)| text.strip_suffix(unit)?.parse::<u32>().ok()?.checked_mul(*worth));
        seconds.map(Self).ok_or_else(|| AmountError::Span(text.chars().take(40).collect()))
    }
}

impl FromStr for Bytes {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];
        let bytes = units
            .iter()
            .find_map(|(unit, worth)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*worth));
        bytes.map(Self).ok_or_else(|| AmountError::Bytes(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Span {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl TryFrom<String> for Bytes {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(text.parse::<Span>().unwrap().seconds(), seconds);
        }
        for (text, bytes) in [("7", 7), ("64KiB", 65_536), ("50MiB", 52_428_800), ("2GiB", 2 << 30)] {
            assert_eq!(text.parse::<Bytes>().unwrap().get(), bytes);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for bad in ["", "d", "-1d", "1.5d", "1 d", "1w", "99999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["", "MiB", "-1", "1MB", "99999999999999GiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }
}
