//! What an operator decides about tags: plain data, read from `hab.toml`.

use hab_oci::{RepositoryName, Tag};
use serde::Deserialize;

use crate::Pattern;

/// Some tags of some repositories.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// Of which repositories; all without it.
    #[serde(default = "Pattern::all")]
    pub repository: Pattern,
    /// Which tags.
    pub tag: Pattern,
}

impl Tags {
    /// Whether this tag is one of them.
    pub fn matches(&self, repository: &RepositoryName, tag: &str) -> bool {
        self.repository.matches(repository.as_str()) && self.tag.matches(tag)
    }

    pub(crate) fn any(rules: &[Self], repository: &RepositoryName, tag: &Tag) -> bool {
        rules.iter().any(|rule| rule.matches(repository, tag.as_str()))
    }
}
