//! Exports and imports a mirror as files: a bundle and a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use git2::Oid;
use hab_oci::shown;

use super::change::UpstreamRefs;
use super::heal::replay;
use super::journal::{Change, Journal, JournalEntry};
use super::program::{Git, Head, lines};
use super::quarantine::Quarantine;
use super::refs::{is_ours, is_ref_name};
use super::remote::Remote;
use super::sync::{SyncRequest, Synced};
use super::url::Allow;
use super::{Bounds, GitMirror};
use crate::{MirrorError, Observer};

/// The upstream's name in journal entries for an import.
const CARRIED: &str = "import";

/// The longest line in a bundle's list of refs, in bytes.
const LINE: u64 = 4096;

/// An exported mirror; its files are in the folder that the caller gave.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Every ref, with those under `refs/history/`.
    pub refs: BTreeMap<String, String>,
    /// Whether there is a bundle; there is none if nothing is new.
    pub bundle: bool,
    /// The branch that HEAD names.
    pub head: Option<String>,
}

impl GitMirror {
    /// Writes `journal` and `bundle` into `folder`. Objects that the refs in `since` name are left out of the bundle.
    pub fn carry_out(
        &self,
        folder: &Path,
        since: Option<&BTreeMap<String, String>>,
        observer: &dyn Observer,
    ) -> Result<Carried, MirrorError> {
        let _alone = self.lock(observer)?;
        let journal = folder.join("journal");
        let from = self.path.with_extension("journal");
        // Refuse to export a journal whose chain is broken.
        self.journal()?;
        if from.exists() {
            fs::copy(&from, &journal).map_err(MirrorError::io(&from))?;
        } else {
            File::create(&journal).map_err(MirrorError::io(&journal))?;
        }
        let refs = self.targets("refs/")?;
        let text = |(name, id): (&String, &Oid)| (name.clone(), id.to_string());
        let carried: BTreeMap<_, _> = refs.iter().map(text).collect();
        let known: BTreeSet<&str> =
            since.into_iter().flat_map(BTreeMap::values).map(String::as_str).collect();
        let fresh = carried.values().any(|id| !known.contains(id.as_str()));
        if carried.is_empty() || !fresh {
            return Ok(Carried { refs: carried, bundle: false, head: self.head() });
        }
        let bundle = folder.join("bundle");
        let mut arguments: Vec<&OsStr> = vec!["create".as_ref(), "--progress".as_ref(), bundle.as_os_str()];
        let mut not = Vec::new();
        for id in known {
            if self.has(id)? {
                not.push(format!("^{id}"));
            }
        }
        let all = lines(not.iter().chain(carried.keys()));
        arguments.push("--stdin".as_ref());
        let git = self.local(observer);
        git.told("bundle", &self.path, &arguments, all, None)?;
        Ok(Carried { refs: carried, bundle: true, head: self.head() })
    }

    /// Imports an exported mirror as if it came from an upstream: into quarantine, checked, recorded in the journal,
    /// and only then served. A mirror without a history of its own takes over the whole journal, if everything in it is
    /// true.
    pub fn carry_in(
        &self,
        bundle: Option<&Path>,
        journal: &Path,
        refs: &BTreeMap<String, String>,
        head: Option<&String>,
        wish: &SyncRequest<'_>,
        observer: &dyn Observer,
    ) -> Result<Synced, MirrorError> {
        let _alone = self.lock(observer)?;
        let allow = Allow { file: true, http: false };
        let git =
            Git { project: &self.project, allow, bounds: wish.bounds, tolerate: wish.tolerate, observer };
        let theirs = Journal::open(journal)?;
        let named = refs.keys().chain(theirs.entries().iter().flat_map(named));
        if let Some(odd) = named.chain(head).find(|name| !is_ref_name(name)) {
            return Err(self.not_whole(&format!("{:?} is not a valid ref name", shown(odd))));
        }
        let ids = refs.values().chain(theirs.entries().iter().flat_map(JournalEntry::objects));
        let ids: BTreeSet<&str> = ids.map(String::as_str).collect();
        if let Some(odd) = ids.iter().find(|id| id.len() != 40 || Oid::from_str(id).is_err()) {
            return Err(self.not_whole(&format!("{:?} is not an object's id", shown(odd))));
        }
        let mut own = self.journal()?;
        self.heal(&git, &own)?;
        let place = bundle.map(|bundle| self.unpack(&git, bundle)).transpose()?;
        observer.counting(&self.project, 0, ids.len() as u64, "named objects checked");
        self.complete(&git, place.as_ref(), &ids)?;
        if let Some(place) = place {
            place.release()?;
        }
        let offered: BTreeMap<&String, &String> = refs.iter().filter(|(name, _)| !is_ours(name)).collect();
        let said = replay(theirs.entries());
        if let Some(odd) = offered
            .keys()
            .chain(&said.keys().collect::<Vec<_>>())
            .find(|name| offered.get(**name).copied() != said.get(**name))
        {
            let odd = shown(odd);
            return Err(self.not_whole(&format!("its journal and its refs differ about {odd}")));
        }
        let fresh = own.entries().is_empty() && self.refs()?.is_empty();
        if fresh {
            self.take_over(journal)?;
            own = self.journal()?;
        }
        observer.counting(&self.project, 0, offered.len() as u64, "refs moved");
        let here = self.heal(&git, &own)?;
        let wanted = |name: &str| wish.refs.iter().any(|pattern| pattern.matches(name));
        let parse = |(name, id): (&&String, &&String)| Some(((**name).clone(), Oid::from_str(id).ok()?));
        let refs = offered.iter().filter(|(name, _)| wanted(name)).filter_map(parse).collect();
        let answers = [UpstreamRefs { upstream: CARRIED.to_owned(), refs }];
        let mut synced = self.apply(&git, wish, &here, &mut own, &answers)?;
        let head = head.map(|name| Head::Branch(name.clone()));
        synced.head = self.follow_head(&mut own, CARRIED, head.as_ref(), true, fresh, observer)?;
        if fresh {
            // The entries of a journal that was taken over count as new, like those of a sync.
            synced.changes += theirs.entries().len();
            synced.moved += said.len();
        }
        Ok(synced)
    }

    /// Fetches a bundle's objects into quarantine, where each is checked.
    fn unpack<'a>(&'a self, git: &'a Git<'a>, bundle: &Path) -> Result<Quarantine<'a>, MirrorError> {
        let tips =
            tips(bundle, git.bounds.refs)?.ok_or_else(|| self.not_whole("its bundle has no list of refs"))?;
        let mut place = Quarantine::new(git, self.quarantine(), &self.objects, &self.known()?)?;
        place.fetch(&Remote::here(bundle), &tips)?;
        Ok(place)
    }

    /// Makes a journal, whose chain was checked, the mirror's own.
    fn take_over(&self, journal: &Path) -> Result<(), MirrorError> {
        let own = self.path.with_extension("journal");
        let text = fs::read(journal).map_err(MirrorError::io(journal))?;
        Ok(hab_file::replace_with(&own, 0o600, &text)?)
    }

    fn local<'a>(&'a self, observer: &'a dyn Observer) -> Git<'a> {
        let bounds = Bounds::default();
        Git { project: &self.project, allow: Allow::default(), bounds, tolerate: &[], observer }
    }

    pub(super) fn not_whole(&self, detail: &str) -> MirrorError {
        MirrorError::Malformed {
            what: format!("the import of {}", self.project),
            expected: "a valid mirror",
            detail: detail.to_owned(),
        }
    }
}

/// The refs that an entry names.
fn named(entry: &JournalEntry) -> Vec<&String> {
    match entry.kind {
        Change::Head => entry.old.iter().chain(&entry.new).collect(),
        _ => vec![&entry.reference],
    }
}

/// The objects in a bundle's own list (gitformat-bundle(5)). git itself reads that list byte by byte, with a system
/// call for each.
fn tips(bundle: &Path, most: usize) -> Result<Option<BTreeSet<Oid>>, MirrorError> {
    let mut file = BufReader::new(File::open(bundle).map_err(MirrorError::io(bundle))?);
    let mut tips = BTreeSet::new();
    // More lines than refs, because the list begins with the objects that the bundle requires.
    for at in 0..=2 * most {
        let mut line = Vec::new();
        file.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(MirrorError::io(bundle))?;
        let Some(line) = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()) else {
            break;
        };
        match line.as_bytes().first() {
            _ if at == 0 && matches!(line, "# v2 git bundle" | "# v3 git bundle") => {}
            _ if at == 0 => break,
            None => return Ok(Some(tips)),
            Some(b'-' | b'@') => {}
            Some(_) => match line.split_once(' ').map(|(id, _)| Oid::from_str(id)) {
                Some(Ok(id)) => {
                    tips.insert(id);
                }
                _ => break,
            },
        }
    }
    Ok(None)
}
