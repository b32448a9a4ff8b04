//! Patterns with `*` for names of repositories and tags.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A pattern of repository names or tags: `*` matches any run of characters, including `/`; every other character
/// matches itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Box<str>);

/// The error for a text that is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pattern: at most 255 letters, digits, . _ - / and *")]
pub struct PatternError(String);

impl Pattern {
    /// The pattern `*`, which matches every name.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// Whether the pattern matches a name.
    ///
    /// ```
    /// let pattern: hab_store::Pattern = "v*.0".parse()?;
    /// assert!(pattern.matches("v31.0") && !pattern.matches("v31.1"));
    /// # Ok::<(), hab_store::PatternError>(())
    /// ```
    pub fn matches(&self, name: &str) -> bool {
        hab_glob::matches(&self.0, name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-/*".contains(&b);
        if (1..=255).contains(&text.len()) && text.bytes().all(known) {
            Ok(Self(text.into()))
        } else {
            Err(PatternError(text.chars().take(300).collect()))
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of a match, as short as possible.
    fn defined(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                defined(rest, name) || name.split_first().is_some_and(|(_, left)| defined(pattern, left))
            }
            (Some((p, rest)), Some((n, left))) => p == n && defined(rest, left),
            _ => false,
        }
    }

    #[test]
    fn what_no_name_can_hold_is_no_pattern() {
        for bad in ["", "v?", "a b", "ä*", "a:b", &"a".repeat(256)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_defined(pattern in "[ab/*]{1,8}", name in "[ab/]{0,10}") {
            let matches = pattern.parse::<Pattern>().unwrap().matches(&name);
            prop_assert_eq!(matches, defined(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
