//! Which tags a rule is for: plain data, read from `hab.toml`.

use hab_oci::{RepositoryName, Tag};
use serde::Deserialize;

use crate::pattern::Pattern;

/// A set of tags, chosen by patterns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// The pattern of the repositories; all of them if it is not given.
    #[serde(default = "Pattern::all")]
    pub repository: Pattern,
    /// The pattern of the tags.
    pub tag: Pattern,
}

impl Tags {
    /// Whether this tag is in the set.
    pub fn matches(&self, repository: &RepositoryName, tag: &str) -> bool {
        self.repository.matches(repository.as_str()) && self.tag.matches(tag)
    }

    pub(crate) fn any(rules: &[Self], repository: &RepositoryName, tag: &Tag) -> bool {
        rules.iter().any(|rule| rule.matches(repository, tag.as_str()))
    }
}
