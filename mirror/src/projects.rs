//! Which projects are mirrored: one small file for each, shipped or written by the operator.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::MirrorError;
use crate::git::{RefPattern, is_project_name, without_user, without_users};
use crate::release::{FileTable, ReleaseTable};

/// The shortest time between two syncs.
const OFTEN: Duration = Duration::from_secs(60);

/// A git project, as its file describes it. Plain data.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Project {
    /// Its name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// Upstream addresses, the preferred one first; the first that answers decides, and the others are compared with
    /// it.
    pub urls: Vec<String>,
    /// A file with the password for the user in one of the addresses. Only the operator's configuration sets it, never
    /// a project's file.
    #[serde(skip)]
    pub password_file: Option<PathBuf>,
    /// Which refs to mirror, as full names with at most one `*`; by default all branches and tags.
    #[serde(default = "RefPattern::usual")]
    pub refs: Vec<RefPattern>,
    /// The policy in keys/trust that judges its refs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The time between two syncs: `1h`, `30m`, `1d`.
    #[serde(default = "Interval::usual")]
    pub interval: Interval,
    /// The project that this one is a fork of: their objects are stored together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork_of: Option<String>,
    /// Checks of git's fsck that this project's history is known to fail (git-config(1), `fsck.<msg-id>`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerate: Vec<String>,
    /// Its releases, if they are mirrored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseTable>,
    /// Plain files that belong to the project.
    #[serde(rename = "file", default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileTable>,
}

/// Shows addresses without user and password.
impl fmt::Debug for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| without_user(url)).collect();
        f.debug_struct("Project").field("name", &self.name).field("urls", &urls).finish_non_exhaustive()
    }
}

/// The time between two syncs, at least a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(pub Duration);

impl Interval {
    fn usual() -> Self {
        Self(Duration::from_secs(3600))
    }
}

impl TryFrom<String> for Interval {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a time of at least a minute, such as 30m, 1h or 1d");
        // A day is 24 hours here; jiff does not assume that.
        let hours = text
            .strip_suffix('d')
            .and_then(|days| days.parse::<u64>().ok())
            .map(|days| days.saturating_mul(24));
        let time = if let Some(hours) = hours {
            Duration::from_secs(hours.saturating_mul(3600))
        } else {
            let span: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
            Duration::try_from(span).map_err(|_| bad())?
        };
        if time < OFTEN || time > Duration::from_secs(366 * 24 * 3600) {
            return Err(bad());
        }
        Ok(Self(time))
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        format!("{}s", interval.0.as_secs())
    }
}

impl Project {
    /// A project with addresses, and defaults for the rest.
    pub fn new(name: &str, urls: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            urls,
            password_file: None,
            refs: RefPattern::usual(),
            policy: None,
            interval: Interval::usual(),
            fork_of: None,
            tolerate: Vec::new(),
            release: None,
            files: Vec::new(),
        }
    }

    /// Parses a project's file.
    pub fn parse(name: &str, text: &str) -> Result<Self, MirrorError> {
        let bad = |detail: String| MirrorError::Project { project: name.to_owned(), detail };
        // Not the error's own text: it quotes the line, which may contain a password.
        let project: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            bad(format!("{line}{}", without_users(e.message())))
        })?;
        let project = Self { name: name.to_owned(), ..project };
        project.check().map_err(bad)?;
        Ok(project)
    }

    /// Checks the fields; the error is a sentence about the wrong one.
    pub fn check(&self) -> Result<(), String> {
        if !is_project_name(&self.name) {
            return Err(
                "a project's name has letters, digits, -, _ and . only, and does not begin with a dot"
                    .to_owned(),
            );
        }
        if self.urls.is_empty() || self.refs.is_empty() {
            return Err("it names no url, or no refs".to_owned());
        }
        if let Some(of) = self.fork_of.as_deref().filter(|of| !is_project_name(of) || *of == self.name) {
            return Err(format!("it cannot be a fork of {of:?}"));
        }
        self.release.as_ref().map_or(Ok(()), ReleaseTable::check)?;
        self.files.iter().try_for_each(FileTable::check)?;
        let word = |check: &&String| !check.is_empty() && check.bytes().all(|b| b.is_ascii_alphanumeric());
        match self.tolerate.iter().find(|check| !word(check)) {
            Some(check) => Err(format!("tolerate: {check:?} is not one of git fsck's message ids")),
            None => Ok(()),
        }
    }

    /// The text of the project's file.
    pub fn to_text(&self) -> String {
        // Serialising fails only for maps whose keys are not strings.
        toml::to_string(self).unwrap_or_default()
    }
}

/// All projects, by name. A fork's objects are stored with a project that is not a fork itself.
#[derive(Clone, Debug, Default)]
pub struct Projects(BTreeMap<String, Project>);

impl Projects {
    /// Adds a project, or replaces the one with its name.
    pub fn add(&mut self, project: Project) {
        self.0.insert(project.name.clone(), project);
    }

    /// Checks the rules that concern several projects.
    pub fn check(&self) -> Result<(), MirrorError> {
        for project in self.0.values() {
            let Some(of) = &project.fork_of else { continue };
            let detail = match self.0.get(of) {
                None => format!("it is a fork of {of}, which is no project"),
                Some(root) if root.fork_of.is_some() => {
                    format!("it is a fork of {of}, which is a fork itself")
                }
                Some(_) => continue,
            };
            return Err(MirrorError::Project { project: project.name.clone(), detail });
        }
        Ok(())
    }

    /// The project with this name.
    pub fn get(&self, name: &str) -> Option<&Project> {
        self.0.get(name)
    }

    /// The project with this name, for changes.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Project> {
        self.0.get_mut(name)
    }

    /// All projects, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Project> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_only_what_is_unusual() {
        let project = Project::parse("p", "urls = [\"https://h.invalid/p.git\"]\n").unwrap();
        assert_eq!(project.interval.0.as_secs(), 3600);
        assert!(project.refs.iter().any(|r| r.matches("refs/tags/v1")));
        assert_eq!(Project::parse("p", &project.to_text()).unwrap().to_text(), project.to_text());
    }

    #[test]
    fn what_cannot_be_is_said() {
        let url = "urls = [\"https://h.invalid/p.git\"]\n";
        for (name, text, said) in [
            ("p", String::new(), "missing field `urls`"),
            ("p", "urls = []\n".to_owned(), "no url"),
            ("../p", url.to_owned(), "a project's name"),
            ("p", format!("{url}refs = [\"master\"]\n"), "not a ref's full name"),
            ("p", format!("{url}interval = \"1s\"\n"), "at least a minute"),
            ("p", format!("{url}interval = \"soon\"\n"), "at least a minute"),
            ("p", format!("{url}fork-of = \"p\"\n"), "cannot be a fork"),
            ("p", format!("{url}tolerate = [\"x=ignore\"]\n"), "message ids"),
            (
                "p",
                format!("{url}[[file]]\nname = \"a/b\"\nurls = []\nsha256 = \"{}\"\n", "0".repeat(64)),
                "name of a file",
            ),
            (
                "p",
                format!("{url}[release]\nurls = []\nsums = \"S\"\nsignatures = []\npolicy = \"p\"\n"),
                "no url",
            ),
            ("p", format!("{url}colour = \"red\"\n"), "unknown field"),
        ] {
            let error = Project::parse(name, &text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_does_not_read_is_told_without_its_passwords() {
        let text = "urls = [\"https://me:secret@h.invalid/p.git\"\nrefs = 1\n";
        for text in [text, "urls = \"https://me:secret@h.invalid/p.git\"\n"] {
            let said = Project::parse("p", text).unwrap_err().to_string();
            assert!(said.contains("line ") && !said.contains("secret"), "{said}");
        }
        let project = Project::new("p", vec!["https://me:secret@h.invalid/p.git".to_owned()]);
        assert!(!format!("{project:?}").contains("secret"));
    }

    #[test]
    fn a_fork_has_a_root() {
        let mut projects = Projects::default();
        let fork = |name: &str, of: &str| Project {
            fork_of: Some(of.to_owned()),
            ..Project::new(name, vec!["https://h.invalid/p".to_owned()])
        };
        projects.add(fork("b", "a"));
        assert!(projects.check().unwrap_err().to_string().contains("no project"));
        projects.add(Project::new("a", vec!["https://h.invalid/a".to_owned()]));
        projects.check().unwrap();
        projects.add(fork("c", "b"));
        assert!(projects.check().unwrap_err().to_string().contains("a fork itself"));
    }
}
