//! Carries out a person's decision about a frozen ref.

use git2::Oid;
use hab_oci::{few, shown};

use super::journal::{Change, Observation};
use super::program::{Git, RefUpdate};
use super::room::beside;
use super::url::Allow;
use super::{Bounds, GitMirror};
use crate::{MirrorError, Observer};
use hab_clock::now;

/// The most refs, or values of a ref, that a sentence names: upstreams choose how many there are.
const NAMED: usize = 20;
/// The upstream's name in a journal entry for a person's decision.
const OPERATOR: &str = "operator";

/// A decision that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The object that it named.
    pub old: String,
    /// The object that it names now.
    pub new: String,
}

impl GitMirror {
    /// Points the frozen ref `name` (`v1.0`, or the full name) at `value`, as a person decided. `value` is an object
    /// id, or its beginning, that the ref was seen to have since the last decision; without it, the newest one. The old
    /// value stays under `refs/history/`.
    pub fn accept(
        &self,
        name: &str,
        value: Option<&str>,
        observer: &dyn Observer,
    ) -> Result<Accepted, MirrorError> {
        let _alone = self.lock(observer)?;
        let git = Git {
            project: &self.project,
            allow: Allow::default(),
            bounds: Bounds::default(),
            tolerate: &[],
            observer,
        };
        let mut journal = self.journal()?;
        self.heal(&git, &journal)?;
        let unknown = |detail: String| MirrorError::NotFrozen {
            project: self.project.clone(),
            name: name.to_owned(),
            detail,
        };
        let fits = |full: &&&str| **full == name || full.ends_with(&format!("/{name}"));
        let frozen = journal.frozen();
        let reference = match frozen.iter().filter(fits).collect::<Vec<_>>().as_slice() {
            [one] => (**one).to_owned(),
            [] if frozen.is_empty() => return Err(unknown("no ref of this project is frozen".to_owned())),
            [] => {
                let waiting = few(frozen.iter().map(shown), NAMED, ", ");
                return Err(unknown(format!("the frozen refs are {waiting}")));
            }
            several => {
                return Err(unknown(format!("it may be {}", few(several.iter().map(shown), NAMED, " or "))));
            }
        };
        let was = self.repository.refname_to_id(&reference).map_err(self.broken())?;
        let old = was.to_string();
        let undecided = journal.undecided(&reference);
        let mut values: Vec<&str> = undecided.iter().filter_map(|e| e.new.as_deref()).collect();
        values.insert(0, &old);
        let new = match value {
            None => values.last().copied(),
            Some(value) if value.len() < 7 => None,
            Some(value) => values.iter().find(|id| id.starts_with(value)).copied(),
        };
        let new = new.map(str::to_owned).ok_or_else(|| {
            values.dedup();
            let seen = few(values.iter().map(shown), NAMED, ", ");
            unknown(format!("its values were {seen}; give 7 or more digits of one"))
        })?;
        let value = Oid::from_str(&new).map_err(self.broken())?;
        if !self.holds(value)? {
            return Err(unknown(format!("{new} is not here; sync first")));
        }
        // The journal must not record something that git then cannot do.
        if reference.starts_with("refs/heads/") && self.repository.find_commit(value).is_err() {
            return Err(unknown(format!("{new} is not a commit, which a branch needs; give another value")));
        }
        let seen = Observation {
            upstream: OPERATOR.to_owned(),
            reference: reference.clone(),
            kind: Change::Accepted,
            old: Some(old.clone()),
            new: Some(new.clone()),
        };
        journal.append(now(), &[seen])?;
        if new != old {
            let moved = RefUpdate { name: reference.clone(), new: value, old: Some(was) };
            let mut names = self.targets("refs/")?.into_keys().collect();
            git.update_refs(&self.path, &[beside(&mut names, &reference, was), moved])?;
        }
        Ok(Accepted { reference, old, new })
    }
}
