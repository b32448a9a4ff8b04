//! What is kept of an upstream without being asked for.

use hab_oci::{Digest, RepositoryName};
use hab_store::Span;
use serde::Deserialize;

use super::platform::PlatformName;
use super::selection::Selection;

/// What is kept of an upstream without being asked for. Plain data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SyncRule {
    /// A repository there: `library/alpine`.
    pub repository: RepositoryName,
    /// Which of its tags.
    pub tags: Selection,
    /// Images of an index for these only; all without.
    #[serde(default)]
    pub platforms: Vec<PlatformName>,
    /// Signatures, SBOMs and whatever else refers to an image.
    #[serde(default = "yes")]
    pub referrers: bool,
    /// How often `serve` looks.
    #[serde(default = "six_hours")]
    pub every: Span,
}

impl SyncRule {
    /// What tells this rule from every other one of its upstream, a changed one among them: a digest of all that it
    /// says.
    pub fn identity(&self) -> Digest {
        let Self { repository, tags, platforms, referrers, every } = self;
        let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let text = format!(
            "{repository}\n{tags}\n{}\nreferrers {referrers}\nevery {} s\n",
            platforms.join(" "),
            every.seconds()
        );
        Digest::of(text.as_bytes())
    }
}

fn yes() -> bool {
    true
}

fn six_hours() -> Span {
    Span::hours(6)
}
