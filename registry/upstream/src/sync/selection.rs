//! Selects tags of a repository.

use std::cmp::Ordering;
use std::fmt;

use hab_oci::Tag;
use hab_outbound::story;
use hab_store::{Pattern, PatternError};
use regex::{Regex, RegexBuilder};
use semver::{BuildMetadata, Prerelease, Version, VersionReq};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The longest regular expression, and its largest compiled form, in bytes, so that no configuration takes all memory.
const EXPRESSION: usize = 1000;
const COMPILED: usize = 1 << 20;

/// A selection of tags by pattern, by regular expression or by version; all of those, or the newest.
///
/// Written as a pattern (`"3.*"`), several, or a table with one of `glob`, `regex` and `semver`, and `newest`.
#[derive(Clone, Debug)]
pub struct Selection {
    by: By,
    newest: Option<usize>,
}

#[derive(Clone, Debug)]
enum By {
    Patterns(Vec<Pattern>),
    Expression(Regex),
    Range(VersionReq),
}

/// Why a text is not a selection of tags.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// It is not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// It is not a regular expression, or would become too large.
    #[error("{text:?} is not a regular expression of at most {EXPRESSION} bytes that could be used here")]
    Expression {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Option<Box<regex::Error>>,
    },
    /// It is not a range of versions.
    #[error("{text:?} is not a range of versions, such as \">=3.18, <4\"")]
    Range {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: semver::Error,
    },
    /// It has several of `glob`, `regex` and `semver`, which exclude each other.
    #[error("tags are selected by only one of glob, regex and semver")]
    Several,
    /// It asks for the newest 0 tags.
    #[error("newest = 0 would select nothing")]
    None,
}

impl Selection {
    /// Tags that match one of these patterns.
    pub fn like(patterns: Vec<Pattern>) -> Self {
        Self { by: By::Patterns(patterns), newest: None }
    }

    /// Tags that a regular expression matches from their first to their last character.
    pub fn matching(expression: &str) -> Result<Self, SelectionError> {
        let text = || expression.chars().take(100).collect::<String>();
        if expression.len() > EXPRESSION {
            return Err(SelectionError::Expression { text: text(), source: None });
        }
        let build = |text: &str| RegexBuilder::new(text).size_limit(COMPILED).build();
        // Compiled by itself first: a parenthesis too many could otherwise end the group that is put around it.
        let regex = build(expression).and_then(|_| build(&format!("^(?:{expression})$")));
        let regex =
            regex.map_err(|e| SelectionError::Expression { text: text(), source: Some(Box::new(e)) })?;
        Ok(Self { by: By::Expression(regex), newest: None })
    }

    /// Tags that are versions in a range, in Cargo's syntax.
    pub fn within(range: &str) -> Result<Self, SelectionError> {
        let range = VersionReq::parse(range)
            .map_err(|source| SelectionError::Range { text: range.chars().take(100).collect(), source })?;
        Ok(Self { by: By::Range(range), newest: None })
    }

    /// Limits the selection to the `count` newest tags.
    pub fn newest(mut self, count: usize) -> Result<Self, SelectionError> {
        self.newest = Some(count).filter(|count| *count > 0);
        if self.newest.is_some() { Ok(self) } else { Err(SelectionError::None) }
    }

    /// The selected tags among these, the newest first; each once. Tags under which clients keep artifacts beside an
    /// image (`sha256-…`) go with that image, and are never selected.
    pub fn of(&self, tags: &[Tag]) -> Vec<Tag> {
        let wanted = tags.iter().filter(|tag| !is_beside(tag) && self.selects(tag));
        let mut wanted: Vec<(Age, &Tag)> = wanted.map(|tag| (Age::of(tag), tag)).collect();
        wanted.sort_by(|(a, s), (b, t)| b.cmp(a).then_with(|| t.cmp(s)));
        wanted.dedup_by(|(_, s), (_, t)| s == t);
        wanted.truncate(self.newest.unwrap_or(usize::MAX));
        wanted.into_iter().map(|(_, tag)| tag.clone()).collect()
    }

    fn selects(&self, tag: &Tag) -> bool {
        match &self.by {
            By::Patterns(patterns) => patterns.iter().any(|pattern| pattern.matches(tag.as_str())),
            By::Expression(regex) => regex.is_match(tag.as_str()),
            By::Range(range) => version(tag.as_str()).is_some_and(|(version, _)| range.matches(&version)),
        }
    }
}

/// As it is written in a configuration, on one line.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Patterns(patterns) => {
                f.write_str("glob")?;
                patterns.iter().try_for_each(|pattern| write!(f, " {pattern}"))?;
            }
            By::Expression(regex) => write!(f, "regex {regex}")?,
            By::Range(range) => write!(f, "semver {range}")?,
        }
        self.newest.iter().try_for_each(|newest| write!(f, ", newest {newest}"))
    }
}

/// How new a tag is. A tag that is no version is older than every version. Of two such tags, the later in byte order is
/// the newer, which suits dates. Of one version in several spellings, the longer is the newer: it moves least.
#[derive(Debug, PartialEq, Eq)]
struct Age(Option<(Version, usize)>);

impl Age {
    fn of(tag: &Tag) -> Self {
        Self(version(tag.as_str()))
    }
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Some((a, m)), Some((b, n))) => a.cmp_precedence(b).then(m.cmp(n)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Parses a version, and counts its numbers: `v` or nothing, one to three numbers, which may begin with zeros, `-` with
/// a pre-release, and `_` with build metadata. A version has `+` for that underscore, which a tag cannot (Helm writes
/// it so).
fn version(tag: &str) -> Option<(Version, usize)> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    let (text, build) = text.split_once('_').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let mut numbers = [0; 3];
    let mut count = 0;
    for part in core.split('.') {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        *numbers.get_mut(count)? = digits.then(|| part.parse().ok())??;
        count += 1;
    }
    let mut version = Version::new(numbers[0], numbers[1], numbers[2]);
    if let Some(pre) = pre {
        version.pre = Prerelease::new(pre).ok().filter(|pre| !pre.is_empty())?;
    }
    if let Some(build) = build {
        version.build = BuildMetadata::new(build).ok().filter(|build| !build.is_empty())?;
    }
    Some((version, count))
}

/// Whether a tag belongs to another manifest: a tag of cosign, or of the referrers tag schema.
pub(crate) fn is_beside(tag: &Tag) -> bool {
    let hex = tag.as_str().strip_prefix("sha256-").map(|rest| rest.split('.').next().unwrap_or_default());
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Selection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern of tags, several, or { glob | regex | semver = …, newest = … }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Selection, E> {
        Ok(Selection::like(vec![text.parse().map_err(E::custom)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Selection, A::Error> {
        let mut patterns = Vec::new();
        while let Some(pattern) = seq.next_element()? {
            patterns.push(pattern);
        }
        Ok(Selection::like(patterns))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selection, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            glob: Option<Globs>,
            regex: Option<String>,
            semver: Option<String>,
            newest: Option<usize>,
        }
        let table = Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let selection = match (table.glob, table.regex, table.semver) {
            (None, None, None) => Ok(Selection::like(vec![Pattern::all()])),
            (Some(globs), None, None) => Ok(Selection::like(globs.0)),
            (None, Some(text), None) => Selection::matching(&text),
            (None, None, Some(text)) => Selection::within(&text),
            _ => Err(SelectionError::Several),
        };
        let selection = selection.and_then(|s| match table.newest {
            Some(count) => s.newest(count),
            None => Ok(s),
        });
        selection.map_err(|e| A::Error::custom(story(&e)))
    }
}

/// One pattern or several.
struct Globs(Vec<Pattern>);

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Selection::deserialize(deserializer)?.by {
            By::Patterns(patterns) => Ok(Self(patterns)),
            _ => Err(D::Error::custom("glob is a pattern or several")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(text: &str) -> Vec<Tag> {
        text.split_whitespace().map(|tag| tag.parse().unwrap()).collect()
    }

    fn picked(selection: &Selection, text: &str) -> String {
        let picked = selection.of(&tags(text));
        picked.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ")
    }

    fn read(json: &str) -> Result<Selection, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn tags_are_selected_by_pattern_expression_or_range() {
        let all =
            "latest edge 3 3.18 3.18.2 3.19-rc1 v3.20.1 4.0 30.1 3.20.1 3.18 2.1.0_build.5 2.1.0_ 2.1.0_a_b";
        for (json, found) in [
            (r#""3.1*""#, "3.19-rc1 3.18.2 3.18"),
            (r#"["edge", "4*"]"#, "4.0 edge"),
            (r#"{"glob": "latest"}"#, "latest"),
            (r#"{"regex": "v?3\\.[0-9]+"}"#, "3.18"),
            (r#"{"regex": "3|edge"}"#, "3 edge"),
            (r#"{"semver": ">=3.18, <4"}"#, "v3.20.1 3.20.1 3.18.2 3.18"),
            (r#"{"semver": ">=3.18, <4", "newest": 2}"#, "v3.20.1 3.20.1"),
            (r#"{"semver": "=2.1.0"}"#, "2.1.0_build.5"),
            (r#"{"semver": "=3.19.0-rc1"}"#, "3.19-rc1"),
            (r#"{"newest": 3}"#, "30.1 4.0 v3.20.1"),
        ] {
            assert_eq!(picked(&read(json).unwrap(), all), found, "{json}");
        }
    }

    #[test]
    fn the_newest_are_by_version_then_by_how_exact_they_are_and_what_is_no_version_is_oldest() {
        let newest = Selection::like(vec![Pattern::all()]);
        let all = "a 1.2 1.2.0 1.10 1.9 1.10-rc.2 1.10-rc.10 1.2.3.4 v1.2.0 24.04 z latest 1 1.0-a_b";
        assert_eq!(
            picked(&newest, all),
            "24.04 1.10 1.10-rc.10 1.10-rc.2 1.9 v1.2.0 1.2.0 1.2 1 1.0-a_b z latest a 1.2.3.4"
        );
        let nightly = Selection::matching("nightly-[0-9]{8}").unwrap().newest(2).unwrap();
        assert_eq!(
            picked(&nightly, "nightly-20260101 nightly-20251231 1.0 nightly-20260103"),
            "nightly-20260103 nightly-20260101"
        );
    }

    #[test]
    fn what_is_kept_beside_images_is_never_selected() {
        let hex = "ab".repeat(32);
        let all = format!("sha256-{hex}.sig sha256-{hex} sha256-{hex}.att sha256-ab v1");
        assert_eq!(picked(&Selection::like(vec![Pattern::all()]), &all), "v1 sha256-ab");
    }

    #[test]
    fn what_selects_nothing_is_refused_in_a_sentence() {
        for (json, words) in [
            (r#""a b""#, "is not a pattern"),
            (r#"{"regex": "("}"#, "is not a regular expression"),
            (r#"{"regex": "a)|(?:b"}"#, "is not a regular expression"),
            (r#"{"regex": "(a{1000}){1000}"}"#, "is not a regular expression"),
            (r#"{"semver": "new"}"#, "is not a range of versions"),
            (r#"{"semver": "1", "regex": "a"}"#, "one of glob, regex and semver"),
            (r#"{"newest": 0}"#, "newest = 0 would select nothing"),
            (r#"{"newst": 1}"#, "unknown field `newst`"),
            ("3", "a pattern of tags, several, or"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
        let long = "a".repeat(EXPRESSION + 1);
        assert!(Selection::matching(&long).is_err());
    }

    proptest! {
        #[test]
        fn the_order_is_total_whatever_the_tags(texts in prop::collection::vec("[v0-9a-z.-]{1,12}", 0..12)) {
            let tags: Vec<Tag> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            let all = Selection::like(vec![Pattern::all()]);
            let picked = all.of(&tags);
            let mut turned = tags.clone();
            turned.reverse();
            prop_assert_eq!(&picked, &all.of(&turned));
            let mut unique = tags;
            unique.sort();
            unique.dedup();
            prop_assert_eq!(picked.len(), unique.len());
        }
    }
}
