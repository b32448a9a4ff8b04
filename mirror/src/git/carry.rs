//! Carrying a mirror to another place by hand: a bundle and a journal, out and in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use git2::Oid;

use super::journal::{Change, Entry, Journal};
use super::program::Git;
use super::quarantine::Quarantine;
use super::sync::{Synced, Wish};
use super::url::Allow;
use super::{Bounds, GitMirror};
use crate::{MirrorError, Observer};

/// How a journal names what was carried in.
const CARRIED: &str = "import";

/// A mirror, ready to be carried: its files lie in the folder that was given.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Every ref, those under `refs/history/` among them.
    pub refs: BTreeMap<String, String>,
    /// Whether there is a bundle: not where nothing is new.
    pub bundle: bool,
}

impl GitMirror {
    /// Writes `journal` and `bundle` into `folder`. What `since` names need not be carried again.
    pub fn carry_out(
        &self,
        folder: &Path,
        since: Option<&BTreeMap<String, String>>,
        observer: &dyn Observer,
    ) -> Result<Carried, MirrorError> {
        let _alone = self.lock(observer)?;
        let journal = folder.join("journal");
        let from = self.path.with_extension("journal");
        // A chain that does not hold is not handed on.
        self.journal()?;
        if from.exists() {
            fs::copy(&from, &journal).map_err(MirrorError::io(&from))?;
        } else {
            File::create(&journal).map_err(MirrorError::io(&journal))?;
        }
        let refs = self.targets("refs/")?;
        let text = |(name, id): (&String, &Oid)| (name.clone(), id.to_string());
        let carried: BTreeMap<_, _> = refs.iter().map(text).collect();
        let known: Vec<&String> = since.into_iter().flat_map(BTreeMap::values).collect();
        let fresh = carried.values().any(|id| !known.contains(&id));
        if carried.is_empty() || !fresh {
            return Ok(Carried { refs: carried, bundle: false });
        }
        let bundle = folder.join("bundle");
        let mut arguments: Vec<&OsStr> = vec!["create".as_ref(), "--quiet".as_ref(), bundle.as_os_str()];
        let mut not = Vec::new();
        for id in known {
            if self.has(id)? {
                not.push(format!("^{id}"));
            }
        }
        let all: String = not.iter().chain(carried.keys()).fold(String::new(), |all, one| all + one + "\n");
        arguments.push("--stdin".as_ref());
        let git = self.local(observer);
        git.told("bundle", &self.path, &arguments, all)?;
        Ok(Carried { refs: carried, bundle: true })
    }

    /// Takes in what was carried here, as if it came from an upstream: into quarantine, checked, written down, and only
    /// then served. A mirror that has no history of its own takes over the journal, if everything it says holds.
    pub fn carry_in(
        &self,
        bundle: Option<&Path>,
        journal: &Path,
        refs: &BTreeMap<String, String>,
        wish: &Wish<'_>,
        observer: &dyn Observer,
    ) -> Result<Synced, MirrorError> {
        let theirs = Journal::open(journal)?;
        if let Some(bundle) = bundle {
            self.take_objects(bundle, wish, observer)?;
        }
        for id in refs.values().chain(theirs.entries().iter().flat_map(|e| e.old.iter().chain(&e.new))) {
            if !self.has(id)? {
                return Err(self.not_whole(&format!(
                    "object {id}, which it names, is neither in it nor here; import what it continues first"
                )));
            }
        }
        let said = replay(theirs.entries());
        let branches = |(name, _): &(&String, &String)| !name.starts_with("refs/history/");
        let offered: BTreeMap<String, String> =
            refs.iter().filter(branches).map(|(n, id)| (n.clone(), id.clone())).collect();
        if said != offered {
            let odd =
                offered.iter().find(|(name, id)| said.get(*name) != Some(id)).map(|(name, _)| name.clone());
            let odd = odd.or_else(|| said.keys().find(|name| !offered.contains_key(*name)).cloned());
            return Err(self.not_whole(&format!(
                "its journal and its refs do not say the same about {}",
                odd.unwrap_or_default()
            )));
        }
        let own = self.path.with_extension("journal");
        if self.journal()?.entries().is_empty() && self.refs()?.is_empty() {
            let _alone = self.lock(observer)?;
            let text = fs::read(journal).map_err(MirrorError::io(journal))?;
            let folder = own.parent().unwrap_or(&own);
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(MirrorError::io(folder))?;
            file.write_all(&text).map_err(MirrorError::io(&own))?;
            file.as_file().sync_all().map_err(MirrorError::io(&own))?;
            file.persist(&own).map_err(|e| MirrorError::io(&own)(e.error))?;
            File::open(folder).and_then(|f| f.sync_all()).map_err(MirrorError::io(folder))?;
            let zero = Oid::ZERO_SHA1;
            let text =
                said.iter().fold(String::new(), |all, (n, id)| all + &format!("update {n} {id} {zero}\n"));
            self.local(observer).update_refs(&self.path, text)?;
        }
        self.take_refs(CARRIED, &offered, wish, observer)
    }

    fn take_objects(
        &self,
        bundle: &Path,
        wish: &Wish<'_>,
        observer: &dyn Observer,
    ) -> Result<(), MirrorError> {
        let _alone = self.lock(observer)?;
        let allow = Allow { file: true, http: false };
        let git =
            Git { project: &self.project, allow, bounds: wish.bounds, tolerate: wish.tolerate, observer };
        let url = bundle.display().to_string();
        let refs = git.ls_remote(&url, true)?;
        let known = self.known()?;
        let place = Quarantine::new(&git, self.quarantine(), &self.objects, &known)?;
        let names: Vec<&str> = refs.keys().map(String::as_str).collect();
        place.fetch(&url, &names, false)?;
        place.release()
    }

    fn local<'a>(&'a self, observer: &'a dyn Observer) -> Git<'a> {
        let bounds = Bounds::default();
        Git { project: &self.project, allow: Allow::default(), bounds, tolerate: &[], observer }
    }

    fn not_whole(&self, detail: &str) -> MirrorError {
        MirrorError::Malformed {
            what: format!("what was carried of {}", self.project),
            expected: "a mirror of it",
            detail: detail.to_owned(),
        }
    }
}

/// What the refs are when a journal has been followed to its end.
fn replay(entries: &[Entry]) -> BTreeMap<String, String> {
    let mut refs = BTreeMap::new();
    for entry in entries {
        if let (Change::New | Change::FastForward | Change::Accepted, Some(new)) = (entry.kind, &entry.new) {
            refs.insert(entry.reference.clone(), new.clone());
        }
    }
    refs
}
