//! Decisions that are made again from what was kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::world::{Court, TEXT, cert, court, court_of, detached};
use git2::{ObjectType, Oid, Repository};
use hab_keys::{ChainObserver, Decision, Document, Judge, Policy, Question, Refusal};
use hab_oci::Digest;
use sequoia_openpgp::Cert;

/// Somebody who watches, and may ask to stop.
#[derive(Default)]
struct Watch {
    told: AtomicUsize,
    stop: bool,
}

impl ChainObserver for Watch {
    fn looked_at(&self, done: usize, _: usize, _: Option<&str>) {
        self.told.store(done, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.stop
    }
}

type Kept = BTreeMap<Digest, Vec<u8>>;

fn made(question: Question, documents: &[Vec<u8>], judge: &Judge<'_>) -> (Decision, Kept) {
    let (decision, bytes) = Decision::make(question, documents, judge).unwrap();
    (decision, bytes.into_iter().map(|(document, bytes): (Document, _)| (document.digest, bytes)).collect())
}

fn again(decision: &Decision, kept: &Kept, watch: &Watch) -> Result<Decision, Refusal> {
    let read = |digest: &Digest| {
        let missing = || Refusal::NotListed { what: digest.to_string(), index: "the test".to_owned() };
        kept.get(digest).cloned().ok_or_else(missing)
    };
    decision.again(&read, watch)
}

/// A repository with so many signed commits after its root.
fn history(folder: &std::path::Path, key: &Cert, commits: usize) -> (Court, String) {
    let git = Repository::init_bare(folder).unwrap();
    let odb = git.odb().unwrap();
    let tree = git.treebuilder(None).unwrap().write().unwrap();
    let who = "n <e@x.invalid> 1700000000 +0000";
    let write = |text: String| odb.write(ObjectType::Commit, text.as_bytes()).unwrap();
    let root = write(format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nroot\n"));
    let mut tip: Oid = root;
    for number in 0..commits {
        let text = format!("tree {tree}\nparent {tip}\nauthor {who}\ncommitter {who}\n\n{number}\n");
        let signature = String::from_utf8(detached(key, text.as_bytes())).unwrap();
        tip = git.commit_signed(&text, signature.trim_end(), None).unwrap();
    }
    let text = format!(
        "name = \"test\"\n[require.it]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = false\n[[key]]\n\
         fingerprint = \"{}\"\nname = \"n\"\nreason = \"r\"\n",
        key.fingerprint()
    );
    (court_of(Policy::parse("test", &text).unwrap(), &[key]), tip.to_string())
}

#[test]
fn a_decision_about_a_history_that_is_made_again_tells_how_far_it_is_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let key = cert("key");
    let (court, tip) = history(folder.path(), &key, 70);
    let git = Repository::open(folder.path()).unwrap();
    let bytes = git.odb().unwrap().read(Oid::from_str(&tip).unwrap()).unwrap().data().to_vec();
    let question = Question::Commits { project: "p".to_owned(), repository: folder.path().to_owned(), tip };
    let (decision, kept) = made(question, &[bytes], &court.judge());
    assert_eq!(decision.refusal, None);
    let watch = Watch::default();
    again(&decision, &kept, &watch).unwrap();
    assert_eq!(watch.told.load(Ordering::Relaxed), 70);
    let stop = Watch { stop: true, ..Watch::default() };
    assert!(matches!(again(&decision, &kept, &stop), Err(Refusal::Cancelled { .. })));
}

#[test]
fn what_an_earlier_program_said_in_other_words_is_the_same_answer() {
    let (key, other) = (cert("key"), cert("other"));
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let question = || Question::File { name: "f".to_owned(), signature: Some("f.asc".to_owned()) };
    let (good, kept) = made(question(), &[TEXT.to_vec(), detached(&key, TEXT)], &court.judge());
    let (bad, more) = made(question(), &[TEXT.to_vec(), detached(&other, TEXT)], &court.judge());
    let again = |decision: &Decision| {
        again(decision, if decision.refusal.is_some() { &more } else { &kept }, &Watch::default())
    };
    let mut reworded = bad.clone();
    reworded.refusal = Some("no".to_owned());
    assert_eq!(again(&reworded).unwrap(), bad);
    assert_eq!(again(&good).unwrap(), good);
    // Another answer, other bytes and other signers are not other words.
    let yes = Decision { refusal: None, ..bad.clone() };
    assert!(super_again(&yes, &more).is_err());
    let mut moved = good.clone();
    moved.evidence.signatures[0].key = other.fingerprint().to_string();
    assert!(again(&moved).is_err());
    let mut fewer = good.clone();
    fewer.evidence.signatures.clear();
    assert!(again(&fewer).is_err());
}

fn super_again(decision: &Decision, kept: &Kept) -> Result<Decision, Refusal> {
    again(decision, kept, &Watch::default())
}
