//! Carrying a mirror to another place by hand: a bundle and a journal, out and in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use git2::Oid;
use hab_oci::shown;

use super::change::Answer;
use super::heal::replay;
use super::journal::{Change, Entry, Journal};
use super::program::{Git, Head, lines};
use super::quarantine::Quarantine;
use super::refs::{is_ours, is_ref_name};
use super::remote::Remote;
use super::sync::{Synced, Wish};
use super::url::Allow;
use super::{Bounds, GitMirror};
use crate::{MirrorError, Observer};

/// How a journal names what was carried in.
const CARRIED: &str = "import";

/// The longest line of a bundle's list, in bytes.
const LINE: u64 = 4096;

/// A mirror, ready to be carried: its files lie in the folder that was given.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Every ref, those under `refs/history/` among them.
    pub refs: BTreeMap<String, String>,
    /// Whether there is a bundle: not where nothing is new.
    pub bundle: bool,
    /// The branch that HEAD names.
    pub head: Option<String>,
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

    /// Takes in what was carried here, as if it came from an upstream: into quarantine, checked, written down, and only
    /// then served. A mirror that has no history of its own takes over the journal, if everything it says holds.
    pub fn carry_in(
        &self,
        bundle: Option<&Path>,
        journal: &Path,
        refs: &BTreeMap<String, String>,
        head: Option<&String>,
        wish: &Wish<'_>,
        observer: &dyn Observer,
    ) -> Result<Synced, MirrorError> {
        let _alone = self.lock(observer)?;
        let allow = Allow { file: true, http: false };
        let git =
            Git { project: &self.project, allow, bounds: wish.bounds, tolerate: wish.tolerate, observer };
        let theirs = Journal::open(journal)?;
        let named = refs.keys().chain(theirs.entries().iter().flat_map(named));
        if let Some(odd) = named.chain(head).find(|name| !is_ref_name(name)) {
            return Err(self.not_whole(&format!("no ref may be named {:?}", shown(odd))));
        }
        let ids = refs.values().chain(theirs.entries().iter().flat_map(Entry::objects));
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
            return Err(self.not_whole(&format!("its journal and its refs do not say the same about {odd}")));
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
        let answers = [Answer { upstream: CARRIED.to_owned(), refs }];
        let mut synced = self.settle(&git, wish, &here, &mut own, &answers)?;
        let head = head.map(|name| Head::Branch(name.clone()));
        synced.head = self.follow_head(&mut own, CARRIED, head.as_ref(), true, fresh, observer)?;
        if fresh {
            // What a journal brought that was taken over is as new here as what a sync brings.
            synced.changes += theirs.entries().len();
            synced.moved += said.len();
        }
        Ok(synced)
    }

    /// A bundle's objects in quarantine, checked one by one.
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
        let folder = own.parent().unwrap_or(&own);
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(MirrorError::io(folder))?;
        file.write_all(&text).map_err(MirrorError::io(&own))?;
        file.as_file().sync_all().map_err(MirrorError::io(&own))?;
        file.persist(&own).map_err(|e| MirrorError::io(&own)(e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(MirrorError::io(folder))
    }

    fn local<'a>(&'a self, observer: &'a dyn Observer) -> Git<'a> {
        let bounds = Bounds::default();
        Git { project: &self.project, allow: Allow::default(), bounds, tolerate: &[], observer }
    }

    pub(super) fn not_whole(&self, detail: &str) -> MirrorError {
        MirrorError::Malformed {
            what: format!("what was carried of {}", self.project),
            expected: "a mirror of it",
            detail: detail.to_owned(),
        }
    }
}

/// The refs that an entry names.
fn named(entry: &Entry) -> Vec<&String> {
    match entry.kind {
        Change::Head => entry.old.iter().chain(&entry.new).collect(),
        _ => vec![&entry.reference],
    }
}

/// What a bundle's own list names (gitformat-bundle(5)). git reads that list byte by byte, each with a system call.
fn tips(bundle: &Path, most: usize) -> Result<Option<BTreeSet<Oid>>, MirrorError> {
    let mut file = BufReader::new(File::open(bundle).map_err(MirrorError::io(bundle))?);
    let mut tips = BTreeSet::new();
    // More lines than refs: what it needs is listed first.
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
