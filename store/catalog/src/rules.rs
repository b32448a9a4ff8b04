//! The operator's rules about tags: plain data, read from `hab.toml`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use hab_oci::RepositoryName;
use serde::Deserialize;

use crate::tags::Tags;
use crate::{Pattern, Span, TagRow};

/// A rule for tags that a collection deletes. A tag is deleted when all conditions of the rule hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RuleTable")]
pub struct Retain {
    /// The tags that the rule is about.
    pub tags: Tags,
    /// The tag is not among the `keep` tags of this rule that moved last in its repository.
    pub keep: Option<u32>,
    /// The tag has not moved for this long.
    pub older: Option<Span>,
    /// For this long the tag has not moved, and nobody has pulled its manifest.
    pub unpulled: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    #[serde(default = "Pattern::all")]
    repository: Pattern,
    tag: Pattern,
    keep: Option<u32>,
    older: Option<Span>,
    unpulled: Option<Span>,
}

impl TryFrom<RuleTable> for Retain {
    type Error = &'static str;

    fn try_from(said: RuleTable) -> Result<Self, Self::Error> {
        let RuleTable { repository, tag, keep, older, unpulled } = said;
        if keep.is_none() && older.is_none() && unpulled.is_none() {
            return Err("a rule needs keep, older or unpulled; without them all of its tags would go");
        }
        Ok(Self { tags: Tags { repository, tag }, keep, older, unpulled })
    }
}

impl Retain {
    /// Returns the tags of a repository that the rules let go at `now`, in unix seconds.
    pub(crate) fn expired<'a>(
        rules: &[Self],
        immutable: &[Tags],
        repository: &RepositoryName,
        rows: &'a [TagRow],
        now: i64,
    ) -> Vec<&'a TagRow> {
        let mut newest_first: Vec<&TagRow> = rows.iter().collect();
        // Of tags that were pushed within one second, the one with the greater name is probably the later one.
        newest_first.sort_by_key(|row| Reverse((row.moved, row.tag.as_str())));
        let mut gone = BTreeSet::new();
        for rule in rules {
            let own = newest_first.iter().filter(|row| rule.tags.matches(repository, row.tag.as_str()));
            let goes = own.enumerate().filter(|(index, row)| rule.lets_go(*index, row, now));
            gone.extend(goes.map(|(_, row)| row.tag.as_str()));
        }
        let goes =
            |row: &&TagRow| gone.contains(row.tag.as_str()) && !Tags::any(immutable, repository, &row.tag);
        rows.iter().filter(goes).collect()
    }

    fn lets_go(&self, index: usize, row: &TagRow, now: i64) -> bool {
        let long_ago = |at: i64, span: Option<Span>| span.is_none_or(|span| now - at > span.seconds());
        let used = row.pulled.map_or(row.moved, |pulled| pulled.max(row.moved));
        self.keep.is_none_or(|keep| index >= keep as usize)
            && long_ago(row.moved, self.older)
            && long_ago(used, self.unpulled)
    }
}

#[cfg(test)]
mod tests {
    use hab_oci::Digest;
    use proptest::prelude::*;

    use super::*;

    fn row(tag: &str, moved: i64, pulled: Option<i64>) -> TagRow {
        TagRow { tag: tag.parse().unwrap(), digest: Digest::of(tag.as_bytes()), moved, pulled }
    }

    fn rule(tag: &str, keep: Option<u32>, older: Option<&str>, unpulled: Option<&str>) -> Retain {
        let span = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let tags = Tags { repository: Pattern::all(), tag: tag.parse().unwrap() };
        Retain { tags, keep, older: span(older), unpulled: span(unpulled) }
    }

    fn gone(rules: &[Retain], rows: &[TagRow], now: i64) -> Vec<String> {
        let name = "a/b".parse().unwrap();
        let expired = Retain::expired(rules, &[], &name, rows, now);
        expired.iter().map(|row| row.tag.to_string()).collect()
    }

    #[test]
    fn the_newest_stay_and_other_names_do_not_count() {
        let rows = [row("pr-1", 1, None), row("pr-2", 3, None), row("pr-3", 2, None), row("v1", 0, None)];
        assert_eq!(gone(&[rule("pr-*", Some(2), None, None)], &rows, 9), ["pr-1"]);
        assert_eq!(gone(&[rule("pr-*", Some(0), None, None)], &rows, 9).len(), 3);
    }

    #[test]
    fn all_that_a_rule_says_has_to_be_so() {
        let rows = [row("a", 0, Some(150)), row("b", 0, None), row("c", 190, None)];
        assert_eq!(gone(&[rule("*", None, Some("100s"), None)], &rows, 200), ["a", "b"]);
        assert_eq!(gone(&[rule("*", None, None, Some("100s"))], &rows, 200), ["b"]);
        assert_eq!(gone(&[rule("*", Some(2), Some("100s"), None)], &rows, 200), ["a"]);
        let either = [rule("a", None, Some("1s"), None), rule("b", None, None, Some("1s"))];
        assert_eq!(gone(&either, &rows, 200), ["a", "b"]);
    }

    #[test]
    fn an_immutable_tag_stays_whatever_a_rule_says() {
        let rows = [row("v1", 0, None), row("x", 0, None)];
        let stays = [Tags { repository: Pattern::all(), tag: "v*".parse().unwrap() }];
        let rules = [rule("*", Some(0), None, None)];
        let expired = Retain::expired(&rules, &stays, &"a".parse().unwrap(), &rows, 9);
        assert_eq!(expired, [&rows[1]]);
    }

    proptest! {
        #[test]
        fn whatever_the_rule_as_many_stay_as_it_keeps(moves in proptest::collection::vec(0i64..50, 0..12), keep in 0u32..6) {
            let rows: Vec<_> = moves.iter().enumerate().map(|(n, at)| row(&format!("t{n}"), *at, None)).collect();
            let gone = gone(&[rule("*", Some(keep), None, None)], &rows, 100);
            prop_assert_eq!(rows.len() - gone.len(), rows.len().min(keep as usize));
            let moved = |name: &String| rows.iter().find(|row| row.tag.as_str() == name).unwrap().moved;
            let stay = rows.iter().filter(|row| !gone.contains(&row.tag.to_string()));
            let oldest_kept = stay.map(|row| row.moved).min().unwrap_or(i64::MAX);
            prop_assert!(gone.iter().all(|name| moved(name) <= oldest_kept));
        }
    }
}
