//! Content digests, as in the OCI image specification, "Digests".

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// 32 bytes; the algorithm of every digest that this program computes by itself.
    Sha256,
    /// 64 bytes; accepted from clients that ask for it.
    Sha512,
}

impl Algorithm {
    /// The name that stands before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// `algorithm:lowercase-hex`, the identity of a sequence of bytes.
///
/// ```
/// # use hab_oci::Digest;
/// let empty: Digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!(empty, Digest::of(b""));
/// # Ok::<(), hab_oci::DigestError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon, or the part before it is not a registered algorithm.
    #[error("{0:?} is not a digest: expected sha256: or sha512: and lowercase hexadecimal digits")]
    Algorithm(String),
    /// The part after the colon has the wrong length or wrong characters for the algorithm.
    #[error("{text:?} is not a digest: expected {expected} lowercase hexadecimal digits after the colon")]
    Hex {
        /// The text that is not a digest.
        text: String,
        /// How many digits a digest of the algorithm has.
        expected: usize,
    },
}

impl Digest {
    /// The sha256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_with(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` by a given algorithm.
    pub fn of_with(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The sha256 of everything that `reader` yields, and the number of bytes.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok((hasher.finish(), size)),
                n => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
            }
        }
    }

    /// A sha256 digest from its 64 hexadecimal digits, the form in the indexes of Debian and Cargo.
    pub fn from_sha256_hex(hex: &str) -> Result<Self, DigestError> {
        Self::new(Algorithm::Sha256, hex, hex)
    }

    fn new(algorithm: Algorithm, hex: &str, text: &str) -> Result<Self, DigestError> {
        let valid = hex.len() == algorithm.hex_len()
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid {
            Ok(Self { algorithm, hex: hex.into() })
        } else {
            Err(DigestError::Hex { text: text.chars().take(200).collect(), expected: algorithm.hex_len() })
        }
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits after the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::new(Algorithm::Sha256, hex, text),
            Some(("sha512", hex)) => Self::new(Algorithm::Sha512, hex, text),
            _ => Err(DigestError::Algorithm(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A running digest of a stream.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// The algorithm of the hasher.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds the next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The hasher's state in a few bytes, from which [`Hasher::resume`] continues. Anyone who can change these bytes
    /// decides the digest, so keep them where nobody else can write, or seal them.
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(state) => state.serialize().to_vec(),
            State::Sha512(state) => state.serialize().to_vec(),
        }
    }

    /// Continues from [`Hasher::state`] after `seen` bytes; `None` if `state` is not a state of this algorithm after so
    /// many bytes.
    pub fn resume(algorithm: Algorithm, seen: u64, state: &[u8]) -> Option<Self> {
        fn from<T: SerializableState>(bytes: &[u8]) -> Option<T> {
            T::deserialize(&SerializedState::<T>::try_from(bytes).ok()?).ok()
        }
        // The number of whole blocks follows the eight words. The crate sha2 would accept any number.
        let (words, number, block) = match algorithm {
            Algorithm::Sha256 => (8 * 4, 8, 64),
            Algorithm::Sha512 => (8 * 8, 16, 128),
        };
        let blocks = state.get(words..words + number)?;
        let expected = (seen / block).to_le_bytes();
        if blocks[..8] != expected || blocks[8..].iter().any(|b| *b != 0) {
            return None;
        }
        Some(Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(from(state)?),
            Algorithm::Sha512 => State::Sha512(from(state)?),
        }))
    }

    /// The digest of everything seen.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(s) => {
                Digest { algorithm: Algorithm::Sha256, hex: hex::encode(s.finalize()).into() }
            }
            State::Sha512(s) => {
                Digest { algorithm: Algorithm::Sha512, hex: hex::encode(s.finalize()).into() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_vectors_of_fips_180_4() {
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut h = Hasher::new(Algorithm::Sha512);
        h.update(b"abc");
        assert!(h.finish().to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let upper = format!("sha256:{}", "A".repeat(64));
        for bad in ["", "sha256", "sha256:", "md5:00", "sha256:00", &upper, "sha256:../../etc/passwd"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:zz\"").is_err());
    }

    /// If a new version of the crate sha2 has other states, code that saves states must change its format.
    #[test]
    fn a_state_is_what_it_was_in_earlier_versions() {
        for (algorithm, begin, length) in [
            (
                Algorithm::Sha256,
                "67e6096a85ae67bb72f36e3c3af54fa57f520e518c68059babd9831f19cde05b0000000000000000",
                104,
            ),
            (Algorithm::Sha512, "08c9bcf367e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5", 208),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"abc");
            let state = hasher.state();
            assert!(hex::encode(&state).starts_with(begin), "{}", hex::encode(&state));
            assert_eq!(state.len(), length);
            let mut resumed = Hasher::resume(algorithm, 3, &state).unwrap();
            resumed.update(b"d");
            assert_eq!(resumed.finish(), Digest::of_with(algorithm, b"abcd"));
            assert!(Hasher::resume(algorithm, 3, &state[1..]).is_none());
            assert!(Hasher::resume(algorithm, 300, &state).is_none(), "of another length");
        }
    }

    proptest! {
        #[test]
        fn a_hash_goes_on_from_its_state(
            first in proptest::collection::vec(any::<u8>(), 0..300),
            second in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&first);
                let seen = first.len() as u64;
                let mut hasher = Hasher::resume(algorithm, seen, &hasher.state()).unwrap();
                hasher.update(&second);
                prop_assert_eq!(hasher.finish(), Digest::of_with(algorithm, &[&first[..], &second].concat()));
            }
        }

        #[test]
        fn states_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..250), at in 0usize..2) {
            let (algorithm, length) = [(Algorithm::Sha256, 104), (Algorithm::Sha512, 208)][at];
            let mut exact = bytes.clone();
            exact.resize(length, 0);
            for bytes in [&bytes, &exact] {
                if let Some(mut hasher) = Hasher::resume(algorithm, 0, bytes) {
                    hasher.update(b"more");
                    let _ = hasher.finish();
                }
            }
        }

        #[test]
        fn parsing_never_panics_and_round_trips(text in ".{0,150}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn a_stream_has_the_digest_of_its_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let (digest, size) = Digest::of_reader(bytes.as_slice()).unwrap();
            prop_assert_eq!(digest, Digest::of(&bytes));
            prop_assert_eq!(size, bytes.len() as u64);
        }
    }
}
