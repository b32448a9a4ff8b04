//! Random names that nobody can guess.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// 128 random bits as 32 hexadecimal digits, for names that nobody can guess and that never repeat.
pub fn random_hex() -> Result<String, Error> {
    let mut bits = [0; 16];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("read", "the system's random numbers".as_ref())(e.into()))?;
    Ok(hex::encode(bits))
}

/// The name of an upload: 128 random bits, as 32 hexadecimal digits. Any client that knows it may write to the upload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UploadId(Box<str>);

/// The error for a text that is not the name of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an upload")]
pub struct UploadIdError;

impl UploadId {
    pub(crate) fn random() -> Result<Self, Error> {
        Ok(Self(random_hex()?.into()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        let valid = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text.into())) } else { Err(UploadIdError) }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
