//! Compares upstreams' refs with the ones here, and decides what to do. Pure: the caller says which commit contains
//! which.

use std::collections::BTreeMap;

use git2::Oid;

use super::journal::{Change, Journal, JournalEntry, Observation};

/// The refs of one upstream that are wanted.
pub(super) struct UpstreamRefs {
    /// The upstream's address, as the journal has it.
    pub upstream: String,
    pub refs: BTreeMap<String, Oid>,
}

/// One change, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub seen: Observation,
    pub action: Action,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Create the ref, or move it forward to this value.
    Move(Oid),
    /// Leave the ref; keep this other value below `refs/history/`.
    Beside(Oid),
    /// Remove the ref, because another one needs its name; keep this value below `refs/history/`.
    Aside(Oid),
    /// Only record the change.
    Nothing,
}

/// The refs here, what was seen of them before, and which commit contains which.
pub(super) struct KnownRefs<'a> {
    pub refs: &'a BTreeMap<String, Oid>,
    pub journal: &'a Journal,
    /// Whether the first commit has the second among its ancestors.
    pub contains: &'a dyn Fn(Oid, Oid) -> bool,
}

impl KnownRefs<'_> {
    /// The steps that follow from the answers. The first upstream's refs count; the tags of the others are compared
    /// with them.
    pub(super) fn steps(&self, answers: &[UpstreamRefs]) -> Vec<Step> {
        let Some((first, others)) = answers.split_first() else { return Vec::new() };
        let mut steps = Vec::new();
        for (name, theirs) in &first.refs {
            let mut ours = self.refs.get(name).copied();
            // A ref that made room for another and is back has a history: it continues from its last value.
            if ours.is_none()
                && let Some(was) = self.journal.displaced(name).and_then(|id| Oid::from_str(id).ok())
            {
                steps.push(seen(&first.upstream, name, Change::New, None, Some(was)));
                ours = Some(was);
            }
            steps.extend(self.step(&first.upstream, name, ours, *theirs));
        }
        steps.extend(self.gone(first));
        for other in others {
            for (name, theirs) in other.refs.iter().filter(|(name, _)| is_tag(name)) {
                let ours = self.refs.get(name).or_else(|| first.refs.get(name));
                steps.extend(ours.and_then(|ours| self.compared(&other.upstream, name, *ours, *theirs)));
            }
        }
        steps
    }

    /// The refs here that this upstream once had and lacks now. A ref that it never had is not deleted.
    pub(super) fn gone(&self, answer: &UpstreamRefs) -> Vec<Step> {
        let upstream = &answer.upstream;
        let lacks = self.refs.iter().filter(|(name, _)| !answer.refs.contains_key(*name));
        let had = lacks.filter(|(name, _)| self.last_by(upstream, name).is_some_and(|e| e.new.is_some()));
        had.map(|(name, ours)| seen(upstream, name, Change::Deleted, Some(*ours), None)).collect()
    }

    fn step(&self, upstream: &str, name: &str, ours: Option<Oid>, theirs: Oid) -> Option<Step> {
        let Some(ours) = ours else {
            return Some(seen(upstream, name, Change::New, None, Some(theirs)));
        };
        if ours == theirs || is_tag(name) {
            return self.held(upstream, name, ours, theirs, Change::TagMoved);
        }
        let last = self.last_by(upstream, name);
        let said = last.and_then(|e| Oid::from_str(e.new.as_deref()?).ok());
        let frozen = self.journal.is_frozen(name);
        // Already recorded; comparing the histories again would cost as much again.
        if said == Some(theirs) && (frozen || last.is_some_and(|e| e.kind.freezes())) {
            return None;
        }
        let goes_on = (self.contains)(theirs, ours);
        if frozen {
            let kind = if goes_on { Change::Restored } else { Change::Rewritten };
            return Some(seen(upstream, name, kind, Some(ours), Some(theirs)));
        }
        if goes_on {
            return Some(seen(upstream, name, Change::FastForward, Some(ours), Some(theirs)));
        }
        // An upstream may lag behind the one that our value is from, as long as it does not take back a value of its
        // own.
        let lags = (self.contains)(ours, theirs)
            && said.is_none_or(|said| said == theirs || (self.contains)(theirs, said));
        (!lags).then(|| seen(upstream, name, Change::Rewritten, Some(ours), Some(theirs)))
    }

    fn compared(&self, upstream: &str, name: &str, ours: Oid, theirs: Oid) -> Option<Step> {
        self.held(upstream, name, ours, theirs, Change::Disagreed)
    }

    /// A step for a ref that must not change: one for each new value that an upstream has, and one when it has ours
    /// again.
    fn held(&self, upstream: &str, name: &str, ours: Oid, theirs: Oid, kind: Change) -> Option<Step> {
        let last = self.last_by(upstream, name);
        if ours == theirs {
            // A deviation that a person has decided about since does not count.
            let open = |e: &JournalEntry| self.journal.undecided(name).iter().any(|u| u.seq == e.seq);
            let strayed = last.is_some_and(|e| e.kind == Change::Deleted || (e.kind.freezes() && open(e)));
            return strayed.then(|| seen(upstream, name, Change::Restored, Some(ours), Some(theirs)));
        }
        let told = last.is_some_and(|e| e.kind.freezes() && e.new.as_deref() == Some(&theirs.to_string()));
        (!told).then(|| seen(upstream, name, kind, Some(ours), Some(theirs)))
    }

    fn last_by(&self, upstream: &str, name: &str) -> Option<&JournalEntry> {
        self.journal.about(name).rev().find(|e| e.upstream == upstream)
    }
}

pub(super) fn is_tag(name: &str) -> bool {
    name.starts_with("refs/tags/")
}

/// The step for a ref that makes room for another.
pub(super) fn displaced(upstream: &str, name: &str, value: Oid) -> Step {
    let step = seen(upstream, name, Change::Displaced, Some(value), None);
    Step { action: Action::Aside(value), ..step }
}

fn seen(upstream: &str, name: &str, kind: Change, old: Option<Oid>, new: Option<Oid>) -> Step {
    let text = |id: Option<Oid>| id.map(|id| id.to_string());
    let action = match (kind, new) {
        (Change::New | Change::FastForward, Some(new)) => Action::Move(new),
        (kind, Some(new)) if kind.freezes() => Action::Beside(new),
        // A value that continues ours while the ref is frozen must be kept here until a person decides.
        (Change::Restored, Some(new)) if Some(new) != old => Action::Beside(new),
        _ => Action::Nothing,
    };
    let (upstream, reference) = (upstream.to_owned(), name.to_owned());
    Step { seen: Observation { upstream, reference, kind, old: text(old), new: text(new) }, action }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits are numbers; a commit contains those that divide it.
    fn contains(one: Oid, other: Oid) -> bool {
        let number = |id: Oid| u64::from_str_radix(&id.to_string()[..16], 16).unwrap();
        number(one) != number(other) && number(one).is_multiple_of(number(other))
    }

    fn id(number: u64) -> Oid {
        Oid::from_str(&format!("{number:016x}{:024}", 0)).unwrap()
    }

    struct Mirror {
        _folder: tempfile::TempDir,
        journal: Journal,
        refs: BTreeMap<String, Oid>,
        seq: i64,
    }

    impl Mirror {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("j")).unwrap();
            Self { _folder: folder, journal, refs: BTreeMap::new(), seq: 0 }
        }

        /// The steps of a sync as words; moves the refs that they move.
        fn sync(&mut self, answers: &[(&str, &[(&str, u64)])]) -> Vec<String> {
            let answer = |(upstream, refs): &(&str, &[(&str, u64)])| UpstreamRefs {
                upstream: (*upstream).to_owned(),
                refs: refs.iter().map(|(name, number)| (format!("refs/{name}"), id(*number))).collect(),
            };
            let answers: Vec<_> = answers.iter().map(answer).collect();
            let here = KnownRefs { refs: &self.refs, journal: &self.journal, contains: &contains };
            let steps = here.steps(&answers);
            self.seq += 1;
            let all: Vec<_> = steps.iter().map(|step| step.seen.clone()).collect();
            self.journal.append(self.seq, &all).unwrap();
            let words = |step: &Step| {
                let name = step.seen.reference.replacen("refs/", "", 1);
                format!("{} {} {name}", step.seen.upstream, step.seen.kind)
            };
            for step in &steps {
                if let Action::Move(to) = step.action {
                    self.refs.insert(step.seen.reference.clone(), to);
                }
            }
            steps.iter().map(words).collect()
        }

        fn accept(&mut self, name: &str, number: u64) {
            let seen = Observation {
                upstream: "operator".to_owned(),
                reference: format!("refs/{name}"),
                kind: Change::Accepted,
                old: None,
                new: Some(id(number).to_string()),
            };
            self.journal.append(self.seq, &[seen]).unwrap();
            self.refs.insert(format!("refs/{name}"), id(number));
        }

        fn at(&self, name: &str) -> Oid {
            self.refs[&format!("refs/{name}")]
        }
    }

    const M: &str = "heads/m";
    const T: &str = "tags/t";

    #[test]
    fn a_branch_goes_on_and_never_back() {
        let mut mirror = Mirror::new();
        assert_eq!(mirror.sync(&[("a", &[(M, 2)])]), ["a new heads/m"]);
        assert_eq!(mirror.sync(&[("a", &[(M, 4)])]), ["a fast-forward heads/m"]);
        assert!(mirror.sync(&[("a", &[(M, 4)])]).is_empty());
        assert_eq!(mirror.sync(&[("a", &[(M, 2)])]), ["a rewritten heads/m"]);
        assert_eq!(mirror.at(M), id(4));
        assert_eq!(mirror.sync(&[("a", &[(M, 3)])]), ["a rewritten heads/m"]);
        assert!(mirror.sync(&[("a", &[(M, 3)])]).is_empty());
        // Now even a value that continues ours waits for a decision.
        assert_eq!(mirror.sync(&[("a", &[(M, 8)])]), ["a restored heads/m"]);
        assert_eq!(mirror.at(M), id(4));
        mirror.accept(M, 8);
        assert!(mirror.sync(&[("a", &[(M, 8)])]).is_empty());
        assert_eq!(mirror.sync(&[("a", &[(M, 16)])]), ["a fast-forward heads/m"]);
    }

    #[test]
    fn an_upstream_that_lags_takes_nothing_back() {
        let mut mirror = Mirror::new();
        mirror.sync(&[("a", &[(M, 8)])]);
        assert!(mirror.sync(&[("b", &[(M, 4)])]).is_empty());
        assert!(mirror.sync(&[("b", &[(M, 8)])]).is_empty());
        assert_eq!(mirror.sync(&[("b", &[(M, 16)])]), ["b fast-forward heads/m"]);
        assert!(mirror.sync(&[("a", &[(M, 8)])]).is_empty(), "a never said 16");
        assert_eq!(mirror.sync(&[("b", &[(M, 8)])]), ["b rewritten heads/m"]);
    }

    #[test]
    fn a_tag_stays_and_every_move_is_told_once() {
        let mut mirror = Mirror::new();
        mirror.sync(&[("a", &[(T, 1)])]);
        assert_eq!(mirror.sync(&[("a", &[(T, 2)])]), ["a tag-moved tags/t"]);
        assert!(mirror.sync(&[("a", &[(T, 2)])]).is_empty());
        assert_eq!(mirror.sync(&[("a", &[(T, 1)])]), ["a restored tags/t"]);
        assert_eq!(mirror.sync(&[("a", &[(T, 2)])]), ["a tag-moved tags/t"]);
        assert!(mirror.journal.is_frozen("refs/tags/t"));
        // A person decides for our value: upstream may keep the value that it had, but not change to a third one.
        mirror.accept(T, 1);
        assert!(mirror.sync(&[("a", &[(T, 2)])]).is_empty());
        assert!(!mirror.journal.is_frozen("refs/tags/t"));
        assert_eq!(mirror.sync(&[("a", &[(T, 3)])]), ["a tag-moved tags/t"]);
        mirror.accept(T, 3);
        assert_eq!(mirror.sync(&[("a", &[(T, 1)])]), ["a tag-moved tags/t"]);
    }

    #[test]
    fn two_upstreams_that_disagree_about_a_tag_freeze_it() {
        let mut mirror = Mirror::new();
        let told = mirror.sync(&[("a", &[(T, 1), (M, 2)]), ("b", &[(T, 2), (M, 3)])]);
        assert_eq!(told, ["a new heads/m", "a new tags/t", "b disagreed tags/t"]);
        assert_eq!((mirror.at(T), mirror.journal.frozen()), (id(1), vec!["refs/tags/t"]));
        assert!(mirror.sync(&[("a", &[(T, 1), (M, 2)]), ("b", &[(T, 2)])]).is_empty());
        // The first upstream is away, and the other one has nothing new.
        assert!(mirror.sync(&[("b", &[(T, 2)])]).is_empty());
        assert_eq!(mirror.sync(&[("b", &[(T, 1)])]), ["b restored tags/t"]);
    }

    #[test]
    fn what_upstream_deletes_stays_and_only_what_it_had() {
        let mut mirror = Mirror::new();
        mirror.sync(&[("a", &[(T, 1), (M, 2)])]);
        assert!(mirror.sync(&[("b", &[])]).is_empty());
        assert_eq!(mirror.sync(&[("a", &[(M, 2)])]), ["a deleted tags/t"]);
        assert!(mirror.sync(&[("a", &[(M, 2)])]).is_empty());
        assert_eq!(mirror.sync(&[("a", &[(M, 2), (T, 1)])]), ["a restored tags/t"]);
    }
}
