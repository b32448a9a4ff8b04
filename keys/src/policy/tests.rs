use std::collections::BTreeSet;

use super::*;

const GOOD: &str = r#"
name = "p"
[require.release]
kind = "tag"
threshold = 1
group = "maintainers"
[[key]]
fingerprint = "E777299FC265DD04793070EB944D35F9AC3DB76A"
name = "n"
reason = "r"
since = "2020-01-01"
until = "2030-01-01"
groups = ["maintainers"]
"#;

fn said(text: &str) -> String {
    let error = Policy::parse("p", text).unwrap_err();
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn a_policy_reads() {
    let policy = Policy::parse("p", GOOD).unwrap();
    let Rule::Tag(quorum) = &policy.requirement(RuleKind::Tag).unwrap().rule else { panic!() };
    assert_eq!(
        (quorum.threshold, quorum.group.as_deref(), quorum.expired_since),
        (1, Some("maintainers"), false)
    );
    assert_eq!(policy.pins()[0].since.unwrap().to_string(), "2020-01-01T00:00:00Z");
    assert!(policy.accept().met_by(&["release".to_owned()].into()));
    assert!(!policy.accept().met_by(&BTreeSet::new()));
}

#[test]
fn what_would_accept_too_much_or_nothing_is_refused() {
    for (from, to, words) in [
        ("threshold = 1", "threshold = 0", "would accept anything"),
        ("threshold = 1", "threshold = 2", "2 of 1 keys in group maintainers can never sign"),
        ("group = \"maintainers\"", "group = \"others\"", "1 of 0 keys"),
        ("E777299FC265DD04793070EB944D35F9AC3DB76A", "944D35F9AC3DB76A", "not a whole fingerprint"),
        ("E777299FC265DD04793070EB944D35F9AC3DB76A", "SHA256:short", "not the SHA-256"),
        ("name = \"p\"", "name = \"q\"", "lies in folder p"),
        ("name = \"p\"", "name = \"p\"\nneeds-keys = \"none seen\"", "needs-keys, but pins some"),
        ("name = \"p\"", "name = \"p\"\naccept = \"relase\"", "accept names relase"),
        ("name = \"p\"", "name = \"p\"\naccept = { all = [] }", "empty list"),
        ("name = \"p\"", "name = \"p\"\naccept = { some = [] }", "{ all = [...] }"),
        // If both are given, neither may be dropped silently.
        (
            "name = \"p\"",
            "name = \"p\"\naccept = { all = [\"release\"], any = [\"release\"] }",
            "{ all = [...] }",
        ),
        (
            "[[key]]",
            "[require.lax]\nkind = \"tag\"\nthreshold = 1\n[[key]]",
            "require.release is of the same kind as require.lax: tag",
        ),
        ("reason = \"r\"", "reason = \" \"", "needs a name and a reason"),
        ("reason = \"r\"", "", "missing field `reason`"),
        ("kind = \"tag\"", "kind = \"anything\"", "unknown variant"),
        ("threshold = 1", "threshold = 1\nthresholds = 2", "unknown field"),
        ("until = \"2030-01-01\"", "until = \"2010-01-01\"", "not after its since"),
        ("until = \"2030-01-01\"", "until = \"tomorrow\"", "not a day"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let said = said(&GOOD.replace(from, to));
        assert!(said.contains(words), "{to}: {said}");
    }
    let twice =
        format!("{GOOD}{}", GOOD.split_once("[[key]]").map(|(_, key)| format!("[[key]]{key}")).unwrap());
    assert!(said(&twice).contains("pinned twice"));
    let two = GOOD.replace("[[key]]", "[require.other]\nkind = \"unsigned\"\nreason = \"r\"\n[[key]]");
    assert!(said(&two).contains("accept must say which"));
    let stray = "[[weak-hash]]\nfingerprint = \"D1DBF2C4B96F2DEBF4C16654410108112E7EA81F\"\nhash = \"sha1\"\n\
                 until = \"2027-01-01\"\nreason = \"r\"\n";
    assert!(said(&format!("{GOOD}{stray}")).contains("not pinned"));
}

#[test]
fn all_and_any_combine() {
    let any: Accept =
        toml::from_str::<BTreeMap<String, Accept>>("accept = { any = [\"a\", { all = [\"b\", \"c\"] }] }")
            .unwrap()
            .remove("accept")
            .unwrap();
    let met = |names: &[&str]| any.met_by(&names.iter().map(|n| (*n).to_owned()).collect());
    assert!(met(&["a"]) && met(&["b", "c"]) && !met(&["b"]) && !met(&[]));
    assert_eq!(any.to_string(), "a or (b and c)");
}

#[test]
fn the_shipped_policies_read() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/trust")).unwrap() {
        let dir = entry.unwrap();
        let text = std::fs::read_to_string(dir.path().join("policy.toml")).unwrap();
        Policy::parse(dir.file_name().to_str().unwrap(), &text).unwrap();
    }
}
