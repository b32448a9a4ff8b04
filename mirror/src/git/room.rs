//! Decides which refs can exist side by side: git stores a ref as a file, so `x` and `x/y` cannot both exist.

use std::collections::{BTreeMap, BTreeSet};

use git2::Oid;
use hab_oci::shown;

use super::GitMirror;
use super::change::{Action, Step, UpstreamRefs, displaced};
use super::journal::Journal;
use super::program::{Few, RefUpdate};
use super::refs::is_ours;
use crate::{MirrorError, Observer};

/// The prefix for a value whose usual name below `refs/history/` collides with another name: an upstream may name its
/// refs after objects.
const APART: &str = "refs/history/_/";

/// A ref of upstream that is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Why not, and what to do if something can be done.
    pub why: String,
}

/// The possible steps, and the refs that cannot be mirrored.
pub(super) struct Fitting {
    pub steps: Vec<Step>,
    pub left_out: Vec<LeftOut>,
}

impl GitMirror {
    /// Leaves out impossible steps: those of a ref that git could not hold, and those for a value whose object did not
    /// arrive. So one such ref does not stop all others. A ref that no upstream has any more makes room for one that
    /// needs its place.
    pub(super) fn fitting(
        &self,
        here: &BTreeMap<String, Oid>,
        journal: &Journal,
        answers: &[UpstreamRefs],
        steps: Vec<Step>,
        observer: &dyn Observer,
    ) -> Result<Fitting, MirrorError> {
        let mut names: BTreeSet<String> = here.keys().cloned().collect();
        let (mut unfit, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let mut fits = Fitting { steps: Vec::new(), left_out: Vec::new() };
        let mut told = Few::new(observer, &self.project);
        for step in steps {
            let name = step.seen.reference.clone();
            if unfit.contains(&name) || gone.contains(&name) {
                continue;
            }
            let room = self.room_for(&step, &names, |way| {
                let there = answers.iter().find(|answer| answer.refs.contains_key(way));
                match (here.get(way), there) {
                    _ if journal.is_frozen(way) => Err(format!(
                        "{} stands in its way and waits for `hab-build mirror accept {} {0}`",
                        shown(way),
                        self.project
                    )),
                    (Some(id), None) => Ok(displaced(&step.seen.upstream, way, *id)),
                    (_, Some(other)) => Err(format!(
                        "{}, which {} has, stands in its way",
                        shown(way),
                        shown(&other.upstream)
                    )),
                    (None, None) => Err(format!("{} stands in its way", shown(way))),
                }
            })?;
            match room {
                Ok(asides) => {
                    for aside in asides {
                        let way = &aside.seen.reference;
                        told.tell(&format!(
                            "{} is gone upstream and makes room for {}: its value {} stays in the journal and below \
                             refs/history/",
                            shown(way),
                            shown(&name),
                            aside.seen.old.as_deref().unwrap_or_default()
                        ));
                        names.remove(way);
                        gone.insert(way.clone());
                        fits.steps.push(aside);
                    }
                    if matches!(step.action, Action::Move(_)) {
                        names.insert(name);
                    }
                    fits.steps.push(step);
                }
                Err(why) => {
                    told.tell(&format!("{} is not mirrored: {why}", shown(&name)));
                    unfit.insert(name.clone());
                    fits.left_out.push(LeftOut { reference: name, why });
                }
            }
        }
        Ok(fits)
    }

    /// The refs that must be removed before a step; or why the step is impossible. `go` decides how a ref in the way is
    /// removed.
    fn room_for(
        &self,
        step: &Step,
        names: &BTreeSet<String>,
        go: impl Fn(&str) -> Result<Step, String>,
    ) -> Result<Result<Vec<Step>, String>, MirrorError> {
        let name = &step.seen.reference;
        Ok(match step.action {
            Action::Move(id) | Action::Beside(id) if !self.holds(id)? => {
                Err("its object did not arrive".to_owned())
            }
            Action::Move(id) if self.is_no_branch(name, id) => {
                Err("it is a branch, but names no commit".to_owned())
            }
            Action::Move(_) => in_the_way(names, name).into_iter().map(go).collect(),
            Action::Beside(_) | Action::Aside(_) | Action::Nothing => Ok(Vec::new()),
        })
    }

    /// Whether git could hold a ref of this name and value beside these names.
    pub(super) fn fits(&self, names: &BTreeSet<String>, name: &str, id: Oid) -> bool {
        in_the_way(names, name).is_empty() && !self.is_no_branch(name, id)
    }

    fn is_no_branch(&self, name: &str, id: Oid) -> bool {
        name.starts_with("refs/heads/") && self.repository.find_commit(id).is_err()
    }
}

/// The refs that `name` cannot exist beside: those whose name begins with it as a folder, and those that are a folder
/// in it.
fn in_the_way<'n>(names: &'n BTreeSet<String>, name: &'n str) -> Vec<&'n str> {
    let folder = format!("{name}/");
    let above = name.match_indices('/').map(|(at, _)| &name[..at]).filter(|above| names.contains(*above));
    let below = names.range(folder.clone()..).take_while(|next| next.starts_with(&folder));
    above.chain(below.map(String::as_str)).collect()
}

/// Keeps another value of a ref: below `refs/history/` under the ref's name, or under [`APART`].
pub(super) fn beside(names: &mut BTreeSet<String>, reference: &str, id: Oid) -> RefUpdate {
    let usual = usual(reference, id);
    let fits = names.contains(&usual) || in_the_way(names, &usual).is_empty();
    let name = if fits { usual } else { format!("{APART}{id}") };
    names.insert(name.clone());
    RefUpdate { name, new: id, old: None }
}

/// Whether a value of a ref is already kept below `refs/history/`.
pub(super) fn is_beside(here: &BTreeMap<String, Oid>, reference: &str, id: Oid) -> bool {
    here.contains_key(&usual(reference, id)) || here.contains_key(&format!("{APART}{id}"))
}

fn usual(reference: &str, id: Oid) -> String {
    format!("{}/{id}", reference.replacen("refs/", "refs/history/", 1))
}

/// The refs here that the journal says made room for others: a killed run did not remove them.
pub(super) fn still_there(here: &BTreeMap<String, Oid>, journal: &Journal) -> Vec<(String, Oid)> {
    let theirs = here.iter().filter(|(name, _)| !is_ours(name) && journal.displaced(name).is_some());
    theirs.map(|(name, id)| (name.clone(), *id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| format!("refs/heads/{name}")).collect()
    }

    #[test]
    fn a_ref_is_in_the_way_of_its_folder_and_of_those_within_it() {
        let all = names(&["x", "x-1", "x/y/z", "xx", "w"]);
        assert_eq!(in_the_way(&all, "refs/heads/x/y"), ["refs/heads/x", "refs/heads/x/y/z"]);
        assert_eq!(in_the_way(&all, "refs/heads/w/1"), ["refs/heads/w"]);
        assert!(in_the_way(&all, "refs/heads/x-").is_empty());
    }

    #[test]
    fn a_value_whose_usual_name_is_taken_is_kept_apart() {
        let id = Oid::from_str(&"1".repeat(40)).unwrap();
        let mut all = names(&[]);
        let first = beside(&mut all, "refs/heads/x", id);
        assert_eq!(first.name, format!("refs/history/heads/x/{id}"));
        // The name of a branch may end in that very object's id.
        let other = beside(&mut all, &format!("refs/heads/x/{id}"), id);
        assert_eq!(other.name, format!("{APART}{id}"));
        assert_eq!(beside(&mut all, "refs/heads/x", id).name, first.name);
    }
}
