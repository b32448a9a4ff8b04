//! The JSON schema of hab.toml, `docs/hab.schema.json`: made from the types and their doc comments, for editors that
//! complete and check TOML files. It is a test's alone, so that the program does not carry what makes it.
//!
//! Types of other crates that are read from a text or a table stand here as what an operator writes.
#![allow(dead_code)] // nothing reads the fields: only their names and comments count

use schemars::JsonSchema;

/// A span of time: a number and `s`, `m`, `h` or `d`.
#[derive(JsonSchema)]
pub struct Span(#[schemars(regex(pattern = r"^[0-9]+[smhd]$"))] String);

/// An amount of bytes: a number, alone or with `KiB`, `MiB` or `GiB`.
#[derive(JsonSchema)]
pub struct Bytes(#[schemars(regex(pattern = r"^[0-9]+(KiB|MiB|GiB)?$"))] String);

/// A name in which `*` stands for any run of characters.
#[derive(JsonSchema)]
pub struct Pattern(String);

/// Tags of repositories.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Tags {
    /// The pattern of the repositories; all of them without it.
    repository: Option<Pattern>,
    /// The pattern of the tags.
    tag: Pattern,
}

/// Tags that go by themselves, when everything that the rule says is so.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retain {
    /// The pattern of the repositories; all of them without it.
    repository: Option<Pattern>,
    /// The pattern of the tags.
    tag: Pattern,
    /// The tag is not among this many of them, in its repository, that moved last.
    keep: Option<u32>,
    /// The tag has not moved for this long.
    older: Option<Span>,
    /// The tag has not moved, and nobody has pulled what it points at, for this long.
    unpulled: Option<Span>,
}

/// What some may do in some repositories.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AccessRule {
    /// `anonymous`, `any`, or names of accounts.
    who: Vec<String>,
    /// The patterns of the repositories; all of them without it.
    repositories: Option<Vec<Pattern>>,
    /// What they may do.
    actions: Vec<Action>,
}

/// What may be done.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Action {
    /// Reading: manifests, blobs, tags, referrers.
    Pull,
    /// Adding content and moving tags.
    Push,
    /// Deleting tags, manifests and blobs.
    Delete,
}

/// What of another registry is kept here without being asked for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SyncRule {
    /// A repository there, such as `library/alpine`.
    repository: String,
    /// Which of its tags.
    tags: Selection,
    /// Images of an index for these platforms only, such as `linux/arm64`; all of them without it.
    platforms: Option<Vec<String>>,
    /// Whether signatures, SBOMs and other referrers come too; they do without it.
    referrers: Option<bool>,
    /// How often `serve` looks; every six hours without it.
    every: Option<Span>,
}

/// Tags by pattern, by expression or by version.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Selection {
    One(Pattern),
    Several(Vec<Pattern>),
    Table(SelectionTable),
}

/// One of `glob`, `regex` and `semver`, and how many.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SelectionTable {
    /// A pattern, or several.
    glob: Option<Globs>,
    /// A regular expression that matches a tag from its first to its last character.
    regex: Option<String>,
    /// A range of versions in Cargo's syntax, such as `>=3.18, <4`.
    semver: Option<String>,
    /// Only so many of the newest.
    newest: Option<u32>,
}

/// A pattern, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Globs {
    One(Pattern),
    Several(Vec<Pattern>),
}

mod tests {
    use crate::Config;

    /// `HAB_WRITE_SCHEMA=1 cargo test -p hab-config schema` writes it anew.
    #[test]
    fn the_schema_in_the_docs_is_that_of_the_types() {
        let schema = schemars::schema_for!(Config);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hab.schema.json");
        if std::env::var_os("HAB_WRITE_SCHEMA").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == text,
            "docs/hab.schema.json is stale: HAB_WRITE_SCHEMA=1 cargo test -p hab-config schema"
        );
    }
}
