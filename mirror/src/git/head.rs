//! Decides which branch a clone checks out.

use super::GitMirror;
use super::journal::{Change, Journal, Observation};
use super::program::Head;
use super::view::{Note, tell_clones};
use crate::{MirrorError, Observer};
use hab_clock::now;

impl GitMirror {
    /// The branch that HEAD names, if that branch is here.
    pub fn head(&self) -> Option<String> {
        let head = self.repository.find_reference("HEAD").ok()?;
        let name = head.symbolic_target().ok().flatten()?.to_owned();
        self.repository.find_reference(&name).is_ok().then_some(name)
    }

    /// Makes HEAD name the same branch as upstream's HEAD, so that a clone checks out what upstream intends. Returns
    /// the branch if it is a new one; the change is first recorded in the journal. An upstream that does not lead
    /// counts only if HEAD names nothing or the mirror is `fresh`. If upstream's HEAD names no branch, or one that is
    /// not mirrored, nothing changes.
    pub(super) fn follow_head(
        &self,
        journal: &mut Journal,
        upstream: &str,
        said: Option<&Head>,
        leads: bool,
        fresh: bool,
        observer: &dyn Observer,
    ) -> Result<Option<String>, MirrorError> {
        // A new repository's HEAD names a default branch, which nobody chose.
        let ours = self.head().filter(|_| !fresh);
        let branches = self.targets("refs/heads/")?;
        let wished = match said {
            Some(Head::Branch(name)) => branches.contains_key(name).then(|| name.clone()),
            // Several branches may be at that commit; git's own clone guesses in this order.
            Some(Head::Detached(id)) if ours.is_none() => {
                let at = |name: &&str| branches.get(*name) == Some(id);
                let usual = ["refs/heads/main", "refs/heads/master"].into_iter().find(at);
                usual.or_else(|| branches.keys().map(String::as_str).find(at)).map(str::to_owned)
            }
            _ => None,
        };
        let only = || branches.keys().next().filter(|_| branches.len() == 1).cloned();
        let new = match (&ours, wished) {
            (Some(_), wished) => wished.filter(|_| leads),
            (None, wished) => wished.or_else(only),
        };
        let none = new.is_none() && self.head().is_none() && !branches.is_empty();
        let why = "nothing checked out: upstream's HEAD names no branch that is mirrored; check one out by its name";
        let note = Note { empty: false, text: why.to_owned() };
        tell_clones(&self.path, none.then_some(&note))?;
        if none {
            let project = &self.project;
            observer.note(&format!("{project}: a clone has {why}"));
        }
        let Some(new) = new else { return Ok(None) };
        if ours.as_ref() == Some(&new) {
            return Ok(None);
        }
        let written = journal.last("HEAD").is_some_and(|e| e.new.as_ref() == Some(&new));
        if let Some(old) = ours.as_ref().filter(|_| !written) {
            let (upstream, reference) = (upstream.to_owned(), "HEAD".to_owned());
            let (old, named) = (Some(old.clone()), Some(new.clone()));
            journal
                .append(now(), &[Observation { upstream, reference, kind: Change::Head, old, new: named }])?;
        }
        self.repository.set_head(&new).map_err(self.broken())?;
        Ok(ours.map(|_| new))
    }
}
