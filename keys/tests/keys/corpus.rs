//! Real signatures by real keys. A fresh clone has no corpus, and says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use hab_keys::{Attestations, Certificates, Examined, Judge, ListKind, Policy, Verdict};

fn corpus() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    if folder.is_dir() {
        return Some(folder);
    }
    hab_skip::skip(hab_skip::Lack::Corpus, "no corpus of real signatures beside this checkout");
    None
}

/// A shipped policy and the builders' certificates that it pins.
fn shipped(name: &str, corpus: &std::path::Path) -> (Policy, Certificates) {
    let file = format!("{}/trust/{name}/policy.toml", env!("CARGO_MANIFEST_DIR"));
    let policy = Policy::parse(name, &std::fs::read_to_string(file).unwrap()).unwrap();
    let certificates = Certificates::find(&policy, &[corpus.join("guix.sigs/builder-keys")]).unwrap();
    (policy, certificates)
}

/// Keys expire, so real ones are judged on one day.
fn day() -> SystemTime {
    "2026-11-25T12:00:00Z".parse::<jiff::Timestamp>().unwrap().into()
}

#[test]
fn every_core_commit_is_good_but_those_whose_pinned_certificate_is_missing() {
    let Some(corpus) = corpus() else { return };
    let (policy, certificates) = shipped("bitcoin-core", &corpus);
    let judge = Judge::new(&policy, &certificates, day());
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(corpus.join("git-objects/bitcoin-core-commits")).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let seen = Examined::commit(id, &bytes, &judge).unwrap().signatures;
        let [seen] = seen.as_slice() else { panic!("{id}: {seen:?}") };
        let what = if seen.verdict == Verdict::CertificateMissing { seen.key.as_str() } else { "" };
        *found.entry(format!("{} {what}", seen.verdict)).or_default() += 1;
    }
    let missing = "pinned, certificate missing 4D1B3D5ECBA1A7E05371EEBE46800E30FC748A66".to_owned();
    assert_eq!(found, [("good ".to_owned(), 293), (missing, 7)].into());
}

#[test]
fn the_builders_of_30_0_and_31_0_agree() {
    let Some(corpus) = corpus() else { return };
    let (policy, certificates) = shipped("bitcoin-core", &corpus);
    for (version, attesters) in [("30.0", 23), ("31.0", 19)] {
        let submitted = hab_keys::read_attestations(&corpus.join("guix.sigs"), version).unwrap();
        let judged =
            Attestations::judge(version, &submitted, &Judge::new(&policy, &certificates, day())).unwrap();
        judged.check_accepted().unwrap();
        let all = judged.lists.iter().find(|l| l.list == ListKind::All).unwrap();
        let expired = |a: &&hab_keys::Attester| {
            matches!(a.signature.as_ref().unwrap().verdict, Verdict::ExpiredSince(_))
        };
        assert_eq!(all.attesters.len(), attesters);
        assert_eq!(all.attesters.iter().filter(expired).count(), 3, "{version}");
        assert!(all.attesters.iter().all(|a| a.counts), "{version}");
        assert!(all.files.iter().all(|f| f.said.len() == 1), "{version}");
        // Where expired keys do not count, these three do not.
        let strict = policy.text().replace("expired-since = true", "");
        let strict = Policy::parse("bitcoin-core", &strict).unwrap();
        let judged =
            Attestations::judge(version, &submitted, &Judge::new(&strict, &certificates, day())).unwrap();
        let all = judged.lists.iter().find(|l| l.list == ListKind::All).unwrap();
        assert_eq!(all.attesters.iter().filter(|a| a.counts).count(), attesters - 3, "{version}");
    }
}

#[test]
fn old_core_tags_are_too_weak_and_later_ones_by_known_keys_are_good() {
    let Some(corpus) = corpus() else { return };
    let (policy, certificates) = shipped("bitcoin-core", &corpus);
    let judge = Judge::new(&policy, &certificates, day());
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(corpus.join("git-objects/bitcoin-tags")).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let seen = Examined::tag(id, &bytes, &judge).unwrap().signatures;
        let what = match seen.first().map(|s| &s.verdict) {
            None => "unsigned",
            Some(Verdict::Good) => "good",
            Some(Verdict::Weak(why)) if why.contains("SHA1") => "SHA-1",
            Some(Verdict::UnknownKey | Verdict::Unidentified(_)) => "unknown",
            Some(other) => panic!("{id}: {other}"),
        };
        *found.entry(what).or_default() += 1;
    }
    assert_eq!(found, [("unsigned", 8), ("good", 22), ("SHA-1", 26), ("unknown", 15)].into());
}
