//! Names of refs, and patterns for them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether this is a valid ref name (git-check-ref-format(1)) below `refs/`. Each part becomes a file name with a
/// suffix, so parts are limited too.
pub(super) fn is_ref_name(name: &str) -> bool {
    let short = name.len() <= 1024 && name.split('/').all(|part| part.len() <= 200);
    short && name.starts_with("refs/") && git2::Reference::is_valid_name(name)
}

/// The prefixes of refs that a mirror uses itself.
const OURS: [&str; 3] = ["refs/history/", "refs/known/", "refs/_/"];

/// Whether a mirror uses a ref of this name itself.
pub(super) fn is_ours(name: &str) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix))
}

/// A full ref name with at most one `*`, which stands for any text: `refs/heads/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefPattern {
    before: String,
    after: Option<String>,
}

impl RefPattern {
    /// Whether the pattern matches a ref's full name.
    pub fn matches(&self, name: &str) -> bool {
        match &self.after {
            None => name == self.before,
            Some(after) => {
                name.len() >= self.before.len() + after.len()
                    && name.starts_with(&self.before)
                    && name.ends_with(after.as_str())
            }
        }
    }

    /// Whether the pattern matches only branches or only tags.
    pub(super) fn is_branch_or_tag(&self) -> bool {
        self.before.starts_with("refs/heads/") || self.before.starts_with("refs/tags/")
    }

    /// Branches and tags: the refs of a project that sets none.
    pub fn usual() -> Vec<Self> {
        let all = |before: &str| Self { before: before.to_owned(), after: Some(String::new()) };
        vec![all("refs/heads/"), all("refs/tags/")]
    }
}

impl FromStr for RefPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (before, after) = match text.split_once('*') {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (text.to_owned(), None),
        };
        // The mirror's own refs, and patterns that would match them.
        let ours = |prefix: &&str| {
            before.starts_with(*prefix)
                || (after.is_some() && before != "refs/" && prefix.starts_with(&before))
        };
        if !is_ref_name(&text.replacen('*', "x", 1)) || OURS.iter().any(ours) {
            return Err(format!(
                "{text:?} is not a ref's full name with at most one *, such as refs/heads/*"
            ));
        }
        // `refs/*` would match the mirror's own refs.
        if before == "refs/" {
            return Err(format!(
                "{text:?} is too wide; name refs/heads/*, refs/tags/* and what else is wanted"
            ));
        }
        Ok(Self { before, after })
    }
}

impl TryFrom<String> for RefPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RefPattern> for String {
    fn from(pattern: RefPattern) -> Self {
        match pattern.after {
            Some(after) => format!("{}*{after}", pattern.before),
            None => pattern.before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stands_for_anything() {
        let pattern = |text: &str| text.parse::<RefPattern>();
        assert!(pattern("refs/heads/*.x").unwrap().matches("refs/heads/29.x"));
        assert!(!pattern("refs/heads/*.x").unwrap().matches("refs/heads/master"));
        assert!(pattern("refs/heads/master").unwrap().matches("refs/heads/master"));
        assert!(!pattern("refs/heads/aba*aba").unwrap().matches("refs/heads/aba"));
        for bad in [
            "heads/*",
            "refs/*",
            "refs/heads/*/*",
            "refs/../x",
            "refs/history/*",
            "refs/h*",
            "refs/heads/a b",
            "*",
        ] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }
}
