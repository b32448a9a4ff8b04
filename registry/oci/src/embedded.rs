//! Content that a descriptor holds itself, in its field `data` (image specification, "Embedded Content"). Clients may
//! use it instead of the bytes that the digest names, so it has to be these bytes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::Digest;

/// Why embedded content is not what its descriptor says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    /// Not base64 (RFC 4648, section 4): another alphabet, line breaks, or missing padding.
    #[error("it is not base64")]
    Encoding,
    /// Another size.
    #[error("it has {found} bytes, and the descriptor's size is {expected}")]
    Size {
        /// The descriptor's size.
        expected: u64,
        /// How many bytes there are.
        found: u64,
    },
    /// Other bytes.
    #[error("its digest is {found}")]
    Digest {
        /// The digest of these bytes.
        found: Digest,
    },
}

/// Refuses content that is not the `size` bytes of `digest`.
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
        // Without padding, with a line break, with bits that are thrown away, and of the alphabet for addresses.
        for bad in ["e30", "e30=\n", "e31=", "_-8=", "e30=e30=", "\u{e4}"] {
            assert_eq!(check(bad, &Digest::of(b"{}"), 2), Err(EmbeddedError::Encoding), "{bad}");
        }
    }
}
