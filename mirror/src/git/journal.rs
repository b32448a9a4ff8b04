//! The ref journal: every change that a sync ever saw, one JSON object a line, each with the digest of the line before.
//! Lines are only ever appended. Changing or removing a line in the middle breaks the chain; cutting off the end shows
//! to anyone who remembers the digest of the last line (`Journal::head`).

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use super::heal::replay;
use crate::MirrorError;

/// The largest journal that is read, in bytes: room for a million changes.
pub const LIMIT: u64 = 512 << 20;

/// What happened to a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The ref was not here before.
    New,
    /// A branch moved forward.
    FastForward,
    /// Upstream has another value of a branch, which does not contain ours: ours stays.
    Rewritten,
    /// Upstream has another value of a tag: ours stays.
    TagMoved,
    /// A second upstream has another value of a tag than the first: ours stays.
    Disagreed,
    /// Upstream does not have the ref any more: ours stays.
    Deleted,
    /// Upstream has our value again.
    Restored,
    /// A person decided which value counts.
    Accepted,
    /// Upstream has another ref in the place of this one: git holds `x` or `x/y`, never both. The value of this one is
    /// kept under `refs/history/`.
    Displaced,
    /// HEAD names another branch; `old` and `new` are branches, not objects.
    Head,
}

impl Change {
    /// Whether this change freezes the ref: it stays where it is until a person decides.
    pub fn freezes(self) -> bool {
        matches!(self, Self::Rewritten | Self::TagMoved | Self::Disagreed)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::FastForward => "fast-forward",
            Self::Rewritten => "rewritten",
            Self::TagMoved => "tag-moved",
            Self::Disagreed => "disagreed",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Accepted => "accepted",
            Self::Displaced => "displaced",
            Self::Head => "head",
        })
    }
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// The entry's number, counted from 0.
    pub seq: u64,
    /// When it was seen, in Unix seconds.
    pub at: i64,
    /// The upstream where it was seen.
    pub upstream: String,
    /// The ref, such as `refs/tags/v1`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What happened.
    pub kind: Change,
    /// The object that the ref named here.
    pub old: Option<String>,
    /// The object that the ref names upstream.
    pub new: Option<String>,
    /// The digest of the line before, line feed included; for the first line, the digest of no bytes.
    pub previous: Digest,
}

impl JournalEntry {
    /// The objects that it names; none if it is about HEAD, which names a branch.
    pub fn objects(&self) -> impl Iterator<Item = &String> {
        let names = self.kind != Change::Head;
        self.old.iter().chain(&self.new).filter(move |_| names)
    }
}

/// A change that has no place in the chain yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The upstream where it was seen.
    pub upstream: String,
    /// The ref.
    pub reference: String,
    /// What happened.
    pub kind: Change,
    /// The object that the ref named here.
    pub old: Option<String>,
    /// The object that the ref names upstream.
    pub new: Option<String>,
}

impl Observation {
    fn is(&self, e: &JournalEntry) -> bool {
        (self.kind, &self.upstream, &self.old, &self.new) == (e.kind, &e.upstream, &e.old, &e.new)
    }
}

/// A project's journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    entries: Vec<JournalEntry>,
    /// The positions of the entries about each ref.
    about: HashMap<String, Vec<usize>>,
    /// The digest of the last line.
    head: Digest,
    /// The bytes of all complete lines; a killed process may have left part of a line after them.
    whole: u64,
}

impl Journal {
    /// Reads a journal and checks its chain; a missing file is an empty journal.
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let text = match hab_file::read(path, LIMIT) {
            Ok(text) => text,
            // Half of it would look like a journal whose end was being written.
            Err(hab_file::Error::TooLarge { .. }) => {
                return Err(MirrorError::Malformed {
                    what: path.display().to_string(),
                    expected: "a ref journal",
                    detail: format!("it has more than {LIMIT} bytes"),
                });
            }
            Err(hab_file::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e.into()),
        };
        let mut this = Self {
            path: path.to_owned(),
            entries: Vec::new(),
            about: HashMap::new(),
            head: Digest::of(b""),
            whole: 0,
        };
        for line in text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")) {
            let entry: JournalEntry =
                serde_json::from_slice(line).map_err(|e| this.broken(&e.to_string()))?;
            if entry.previous != this.head || entry.seq != this.entries.len() as u64 {
                return Err(this.broken("it does not name the line before it"));
            }
            this.head = Digest::of(line);
            this.whole += line.len() as u64;
            this.about.entry(entry.reference.clone()).or_default().push(this.entries.len());
            this.entries.push(entry);
        }
        Ok(this)
    }

    fn broken(&self, detail: &str) -> MirrorError {
        MirrorError::Journal {
            path: self.path.clone(),
            line: self.entries.len() + 1,
            detail: detail.to_owned(),
        }
    }

    /// All entries, the oldest first.
    pub fn entries(&self) -> &[JournalEntry] {
        &self.entries
    }

    /// The digest of the last line. Somebody who remembers it notices when the end is cut off.
    pub fn head(&self) -> &Digest {
        &self.head
    }

    /// Whether the line with this digest is in the journal.
    pub fn contains(&self, head: &Digest) -> bool {
        self.head == *head || self.entries.iter().any(|e| e.previous == *head)
    }

    /// The newest entry about a ref.
    pub fn last(&self, reference: &str) -> Option<&JournalEntry> {
        self.about(reference).last()
    }

    /// All entries about a ref, the oldest first.
    pub fn about(&self, reference: &str) -> impl DoubleEndedIterator<Item = &JournalEntry> {
        self.about.get(reference).into_iter().flatten().filter_map(|at| self.entries.get(*at))
    }

    /// The last value of a ref that made room for another one and has not come back.
    pub fn displaced(&self, reference: &str) -> Option<&str> {
        use Change::{Accepted, Displaced, FastForward, New};
        let moves = |e: &&JournalEntry| matches!(e.kind, New | FastForward | Accepted | Displaced);
        self.about(reference).rev().find(moves).filter(|e| e.kind == Displaced)?.old.as_deref()
    }

    /// The refs at the end of the journal.
    pub fn refs(&self) -> BTreeMap<String, String> {
        replay(&self.entries)
    }

    /// The refs whose newest entry is of this kind, sorted by name.
    pub fn newest(&self, kind: Change) -> Vec<&str> {
        let is = |name: &&str| self.last(name).is_some_and(|e| e.kind == kind);
        let mut names: Vec<_> = self.about.keys().map(String::as_str).filter(is).collect();
        names.sort_unstable();
        names
    }

    /// The entries about a ref since a person last decided about it.
    pub fn undecided(&self, reference: &str) -> Vec<&JournalEntry> {
        let mut since: Vec<_> =
            self.about(reference).rev().take_while(|e| e.kind != Change::Accepted).collect();
        since.reverse();
        since
    }

    /// Whether a ref is frozen: it stays where it is until a person decides.
    pub fn is_frozen(&self, reference: &str) -> bool {
        self.undecided(reference).iter().any(|e| e.kind.freezes())
    }

    /// The frozen refs, sorted by name.
    pub fn frozen(&self) -> Vec<&str> {
        let mut names: Vec<_> =
            self.about.keys().map(String::as_str).filter(|name| self.is_frozen(name)).collect();
        names.sort_unstable();
        names
    }

    /// Appends changes, all or none as far as a file allows: in one write, synced before this returns. Skips a change
    /// that is already the newest entry about its ref, because a sync repeats what a killed one recorded.
    pub fn append(&mut self, at: i64, seen: &[Observation]) -> Result<usize, MirrorError> {
        let mut lines = Vec::new();
        let mut added = Vec::new();
        let mut head = self.head.clone();
        for change in seen {
            let known = self.last(&change.reference);
            if known.is_some_and(|e| change.is(e)) {
                continue;
            }
            let entry = JournalEntry {
                seq: (self.entries.len() + added.len()) as u64,
                at,
                upstream: change.upstream.clone(),
                reference: change.reference.clone(),
                kind: change.kind,
                old: change.old.clone(),
                new: change.new.clone(),
                previous: head,
            };
            // Serialising fails only for maps whose keys are not strings.
            let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
            head = Digest::of(line.as_bytes());
            lines.extend_from_slice(line.as_bytes());
            added.push(entry);
        }
        if added.is_empty() {
            return Ok(0);
        }
        // A journal larger than the limit could never be read again.
        if self.whole + lines.len() as u64 > LIMIT {
            return Err(self.broken(&format!("with it the journal would have more than {LIMIT} bytes")));
        }
        let io = |e| MirrorError::io(&self.path)(e);
        let new = !self.path.exists();
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&self.path).map_err(io)?;
        file.set_len(self.whole).map_err(io)?;
        file.seek(SeekFrom::Start(self.whole)).map_err(io)?;
        file.write_all(&lines).and_then(|()| file.sync_all()).map_err(io)?;
        if new && let Some(folder) = self.path.parent() {
            File::open(folder).and_then(|f| f.sync_all()).map_err(MirrorError::io(folder))?;
        }
        self.whole += lines.len() as u64;
        self.head = head;
        let count = added.len();
        for entry in added {
            self.about.entry(entry.reference.clone()).or_default().push(self.entries.len());
            self.entries.push(entry);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn seen(reference: &str, kind: Change, new: &str) -> Observation {
        let (upstream, reference) = ("u".to_owned(), reference.to_owned());
        Observation { upstream, reference, kind, old: None, new: Some(new.to_owned()) }
    }

    fn journal() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.journal");
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.append(1, &[seen("refs/tags/a", Change::New, "1")]).unwrap(), 1);
        let more = [seen("refs/tags/b", Change::New, "2"), seen("refs/tags/a", Change::TagMoved, "3")];
        assert_eq!(journal.append(2, &more).unwrap(), 2);
        (folder, path)
    }

    #[test]
    fn what_was_written_reads_again_and_is_not_written_twice() {
        let (_folder, path) = journal();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.entries().len(), 3);
        assert_eq!(journal.last("refs/tags/a").unwrap().new.as_deref(), Some("3"));
        assert_eq!(journal.append(3, &[seen("refs/tags/a", Change::TagMoved, "3")]).unwrap(), 0);
        assert_eq!(journal.append(3, &[seen("refs/tags/a", Change::TagMoved, "4")]).unwrap(), 1);
    }

    #[test]
    fn a_changed_removed_or_added_line_breaks_the_chain() {
        let (_folder, path) = journal();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for bad in [
            text.replacen("\"new\":\"1\"", "\"new\":\"9\"", 1),
            [lines[0], lines[2]].concat(),
            [lines[1], lines[2]].concat(),
            [lines[0], lines[1], lines[1], lines[2]].concat(),
            format!("{text}{{}}\n"),
        ] {
            fs::write(&path, bad).unwrap();
            let said = Journal::open(&path).unwrap_err().to_string();
            assert!(said.contains("of ") && said.contains("ref journal"), "{said}");
        }
        // A journal whose end is cut off is valid, only shorter; its old head shows the loss.
        let whole = {
            fs::write(&path, &text).unwrap();
            Journal::open(&path).unwrap()
        };
        fs::write(&path, lines[..2].concat()).unwrap();
        let cut = Journal::open(&path).unwrap();
        assert!(whole.contains(cut.head()) && !cut.contains(whole.head()));
    }

    #[test]
    fn half_a_line_of_a_killed_process_is_written_over() {
        let (_folder, path) = journal();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"seq\":3,\"at\"")).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.entries().len(), 3);
        journal.append(4, &[seen("refs/tags/c", Change::New, "5")]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().entries().len(), 4);
    }
}
