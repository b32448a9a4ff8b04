//! What to fetch from an upstream before anybody asks.

use hab_oci::{Digest, RepositoryName};
use hab_store::Span;
use serde::Deserialize;

use super::platform::PlatformName;
use super::selection::Selection;

/// What to fetch from an upstream before anybody asks. Plain data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SyncRule {
    /// A repository of the upstream: `library/alpine`.
    pub repository: RepositoryName,
    /// Which of its tags.
    pub tags: Selection,
    /// Of an index, only the images for these platforms; all images if empty.
    #[serde(default)]
    pub platforms: Vec<PlatformName>,
    /// Whether to fetch signatures, SBOMs and other referrers of an image.
    #[serde(default = "yes")]
    pub referrers: bool,
    /// How often `serve` syncs.
    #[serde(default = "six_hours")]
    pub every: Span,
}

impl SyncRule {
    /// Identifies this rule among those of its upstream: a digest of everything that it says, so that a changed rule is
    /// another one.
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
