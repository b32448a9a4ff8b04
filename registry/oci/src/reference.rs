//! Repository names and tags, as in the OCI distribution specification, "Pulling manifests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// Why a text is not a repository name, a tag or a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not a repository name.
    #[error(
        "{0:?} is not a repository name: lowercase letters, digits, and single . _ - between them, in parts divided by /"
    )]
    Name(String),
    /// Not a tag.
    #[error("{0:?} is not a tag: at most 128 letters, digits, _ . and -, and not . or - first")]
    Tag(String),
}

macro_rules! text_type {
    ($name:ident, $what:literal, $error:ident, $valid:path) => {
        #[doc = $what]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ReferenceError;
            fn from_str(text: &str) -> Result<Self, ReferenceError> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(ReferenceError::$error(text.chars().take(300).collect()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type!(RepositoryName, "A repository's name within a registry, at most 255 bytes.", Name, is_name);
text_type!(Tag, "A mutable name of a manifest within a repository.", Tag, is_tag);

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
fn is_name(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_are_words = bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b));
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends_are_words
        && separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The reference after `/manifests/` in a URL: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagOrDigest {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl FromStr for TagOrDigest {
    type Err = ReferenceError;

    /// A text with a colon is a digest, because a tag cannot have one.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|_| ReferenceError::Tag(text.chars().take(300).collect()))
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "bitcoin", "hab/bitcoin", "a.b_c__d--e/f0", "docker.io/library/busybox"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in
            ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "a._b", "..", "a/../b", "ä"]
        {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["v31.1", "latest", "_x", "A-b.c"] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a b"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }

    #[test]
    fn a_digest_is_told_from_a_tag() {
        assert!(matches!("v1".parse(), Ok(TagOrDigest::Tag(_))));
        assert!(matches!(Digest::of(b"").to_string().parse(), Ok(TagOrDigest::Digest(_))));
        assert!("sha256:00".parse::<TagOrDigest>().is_err());
    }
    /// The specification's grammar, implemented in another way than the code: divides parts at every separator.
    fn is_name_by_the_grammar(text: &str) -> bool {
        let part = |part: &str| {
            let mut rest = part;
            loop {
                let word = rest.bytes().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).count();
                rest = &rest[word..];
                if word == 0 || rest.is_empty() {
                    return word > 0;
                }
                let dashes = rest.bytes().take_while(|b| *b == b'-').count();
                let separator =
                    if rest.starts_with("__") { 2 } else { usize::from(rest.starts_with(['.', '_'])) };
                if dashes.max(separator) == 0 {
                    return false;
                }
                rest = &rest[dashes.max(separator)..];
            }
        };
        text.len() <= 255 && text.split('/').all(part)
    }

    proptest! {
        #[test]
        fn names_are_those_of_the_grammar(text in "[a-c0/._-]{0,12}|.{0,20}") {
            let read = text.parse::<RepositoryName>();
            prop_assert_eq!(read.is_ok(), is_name_by_the_grammar(&text));
            if let Ok(name) = read {
                prop_assert_eq!(name.as_str(), text);
            }
        }

        #[test]
        fn a_reference_is_written_back_the_same(text in "[a-zA-Z0-9._:-]{0,20}|sha256:[0-9a-f]{63,65}|.{0,30}") {
            match text.parse() {
                Ok(TagOrDigest::Tag(tag)) => prop_assert_eq!(tag.as_str(), text),
                Ok(TagOrDigest::Digest(digest)) => prop_assert_eq!(digest.to_string(), text),
                Err(_) => {}
            }
        }
    }
}
