//! Embedded content: bytes in the field `data` of a descriptor (image specification, "Embedded Content"). Clients may
//! use it instead of the bytes that the digest names, so both have to be the same.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::Digest;

/// Why embedded content does not match its descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    /// It is not base64 (RFC 4648, section 4): it has another alphabet, line breaks or no padding.
    #[error("it is not base64")]
    Encoding,
    /// It has another size than the descriptor.
    #[error("it has {found} bytes, and the descriptor's size is {expected}")]
    Size {
        /// The descriptor's size.
        expected: u64,
        /// The size of the content.
        found: u64,
    },
    /// It has another digest than the descriptor.
    #[error("its digest is {found}")]
    Digest {
        /// The digest of the content.
        found: Digest,
    },
}

/// Decodes embedded content, and fails unless it has this digest and size.
pub(crate) fn check(data: &str, digest: &Digest, size: u64) -> Result<(), EmbeddedError> {
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| EmbeddedError::Encoding)?;
    let found = bytes.len() as u64;
    if found != size {
        return Err(EmbeddedError::Size { expected: size, found });
    }
    let found = Digest::of_with(digest.algorithm(), &bytes);
    if found == *digest { Ok(()) } else { Err(EmbeddedError::Digest { found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn embedded_content_is_the_bytes_of_its_descriptor() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of_with(algorithm, b"{}");
            assert_eq!(check("e30=", &digest, 2), Ok(()));
            assert_eq!(check("e30=", &digest, 3), Err(EmbeddedError::Size { expected: 3, found: 2 }));
            let found = Digest::of_with(algorithm, b"[]");
            assert_eq!(check("W10=", &digest, 2), Err(EmbeddedError::Digest { found }));
        }
        assert_eq!(check("", &Digest::of(b""), 0), Ok(()));
        // No padding, a line break, unused bits that are not zero, the alphabet for URLs, padding in the middle, and a
        // letter outside ASCII.
        for bad in ["e30", "e30=\n", "e31=", "_-8=", "e30=e30=", "\u{e4}"] {
            assert_eq!(check(bad, &Digest::of(b"{}"), 2), Err(EmbeddedError::Encoding), "{bad}");
        }
    }
}
