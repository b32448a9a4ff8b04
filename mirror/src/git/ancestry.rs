//! Finds which commits are ancestors of which, for many pairs in one walk. Compared one by one, each pair of unrelated
//! commits costs a walk of the whole history, and an upstream may rewrite thousands of branches.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use git2::{Oid, Repository, Sort};

use super::GitMirror;
use super::change::{KnownRefs, Step, UpstreamRefs, is_tag};
use super::journal::Journal;
use crate::Observer;

/// Up to this many pairs are compared one by one.
const MANY: usize = 200;
/// The most pairs that one walk compares: it keeps as many bits for each commit that is still to come.
const AT_ONCE: usize = 4096;

impl GitMirror {
    /// The steps that follow from the upstreams' answers.
    pub(super) fn steps(
        &self,
        refs: &BTreeMap<String, Oid>,
        journal: &Journal,
        answers: &[UpstreamRefs],
        observer: &dyn Observer,
    ) -> Vec<Step> {
        let alone = |one: Oid, other: Oid| {
            !observer.cancelled() && self.repository.graph_descendant_of(one, other).unwrap_or(false)
        };
        let Some(first) = answers.first() else { return Vec::new() };
        // The pairs that change.rs may compare for a branch that moved: it looks at three values.
        let mut pairs = BTreeSet::new();
        for (name, theirs) in first.refs.iter().filter(|(name, _)| !is_tag(name)) {
            if let Some(ours) = refs.get(name).filter(|ours| *ours != theirs) {
                let said = journal.about(name).rev().find(|e| e.upstream == first.upstream);
                let said = said.and_then(|e| Oid::from_str(e.new.as_deref()?).ok());
                pairs.extend([(*theirs, *ours), (*ours, *theirs)]);
                pairs.extend(said.map(|said| (*theirs, said)));
            }
        }
        // A few branches that went on a little are faster to compare one by one.
        let many = (pairs.len() > MANY).then(|| related(&self.repository, &pairs, &|| observer.cancelled()));
        let contains = |one: Oid, other: Oid| match &many {
            Some(related) if pairs.contains(&(one, other)) => related.contains(&(one, other)),
            _ => alone(one, other),
        };
        KnownRefs { refs, journal, contains: &contains }.steps(answers)
    }
}

/// The pairs whose first commit has the second among its ancestors. An object that is missing or not a commit has none.
/// When `cancelled` says so, the rest counts as unrelated.
fn related(
    repository: &Repository,
    pairs: &BTreeSet<(Oid, Oid)>,
    cancelled: &dyn Fn() -> bool,
) -> BTreeSet<(Oid, Oid)> {
    let is_commit = |id: Oid| repository.find_commit(id).is_ok();
    let pairs: Vec<_> =
        pairs.iter().filter(|(one, other)| one != other && is_commit(*one)).copied().collect();
    let mut found = BTreeSet::new();
    for pairs in pairs.chunks(AT_ONCE) {
        // Nobody can rely on ancestors in a history that cannot be read.
        if cancelled() || walk(repository, pairs, &mut found, cancelled).is_err() {
            break;
        }
    }
    found
}

fn walk(
    repository: &Repository,
    pairs: &[(Oid, Oid)],
    found: &mut BTreeSet<(Oid, Oid)>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), git2::Error> {
    let words = pairs.len().div_ceil(64);
    let mut wanted: HashMap<Oid, Vec<usize>> = HashMap::new();
    // For each commit still to come: the pairs whose first commit it is, or is an ancestor of.
    let mut from: HashMap<Oid, Vec<u64>> = HashMap::new();
    let mut walk = repository.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    for (at, (one, other)) in pairs.iter().enumerate() {
        walk.push(*one)?;
        wanted.entry(*other).or_default().push(at);
        let bits = from.entry(*one).or_insert_with(|| vec![0; words]);
        bits[at / 64] |= 1 << (at % 64);
    }
    for (count, id) in walk.enumerate() {
        if count % 1000 == 0 && cancelled() {
            return Ok(());
        }
        let id = id?;
        // Children come before their parents, so this entry is complete.
        let Some(bits) = from.remove(&id) else { continue };
        for at in wanted.get(&id).into_iter().flatten().filter(|at| bits[**at / 64] & 1 << (**at % 64) != 0) {
            found.insert(pairs[*at]);
        }
        for parent in repository.find_commit(id)?.parent_ids() {
            let theirs = from.entry(parent).or_insert_with(|| vec![0; words]);
            theirs.iter_mut().zip(&bits).for_each(|(theirs, ours)| *theirs |= ours);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use git2::{Signature, Time};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn many_pairs_are_related_as_each_is_alone(parents in proptest::collection::vec((0_usize..40, 0_usize..40, 0_usize..4), 1..30)) {
            let folder = tempfile::tempdir().unwrap();
            let repository = Repository::init_bare(folder.path()).unwrap();
            let tree = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
            let mut ids: Vec<Oid> = Vec::new();
            for (at, (one, other, count)) in parents.iter().enumerate() {
                let who = Signature::new("n", "e@x.invalid", &Time::new(1_600_000_000, 0)).unwrap();
                let mut above: Vec<usize> = [*one, *other].iter().take(*count).copied().filter(|p| *p < at).collect();
                above.dedup();
                let above: Vec<_> = above.iter().map(|p| repository.find_commit(ids[*p]).unwrap()).collect();
                let above: Vec<_> = above.iter().collect();
                ids.push(repository.commit(None, &who, &who, &at.to_string(), &tree, &above).unwrap());
            }
            // An object that is missing, and one that is not a commit.
            let odd = [Oid::from_str(&"1".repeat(40)).unwrap(), tree.id()];
            let all: Vec<Oid> = ids.iter().copied().chain(odd).collect();
            let pairs: BTreeSet<_> = all.iter().flat_map(|one| all.iter().map(|other| (*one, *other))).collect();
            let alone = |(one, other): &&(Oid, Oid)| repository.graph_descendant_of(*one, *other).unwrap_or(false);
            let expected: BTreeSet<_> = pairs.iter().filter(alone).copied().collect();
            prop_assert_eq!(related(&repository, &pairs, &|| false), expected);
        }
    }
}
