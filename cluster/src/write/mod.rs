//! The settings that a host needs, merged with those that it has.

mod containerd;
mod containers;
mod docker;
mod k3s;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_farms;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use similar::TextDiff;

use crate::authority;
use crate::check::check_with;
use crate::file::{self, FileError, Regular};
use crate::host::Host;
use crate::kept::Versions;
use crate::used::{self, Use};
use crate::{Finding, Kind, Registry, Runtime};

/// The first line of files that this program writes as a whole.
const HEAD: &str = "# Everything is pulled from the farm, and from nowhere else.\n";

/// Files by their paths on the host, and what else a person must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Files {
    /// Path without a leading slash, and content.
    pub files: BTreeMap<String, String>,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

/// A file that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path on the host, without a leading slash.
    pub path: String,
    /// What is there now; `None` if there is no file.
    pub before: Option<String>,
    /// What would be there; `None` if the file would be removed.
    pub after: Option<String>,
}

/// What would be written to a host, and what would follow. Nothing is written here: see [`crate::place::apply`].
#[derive(Clone, Debug)]
pub struct Plan {
    /// The files that would change.
    pub changes: Vec<Change>,
    /// What else a person must know.
    pub notes: Vec<String>,
    /// Registries that the host uses today and for which the farm has no upstream. Their images could not be pulled any
    /// more.
    pub lost: Vec<Use>,
    /// Findings that would contradict "it pulls from here alone" even then.
    pub left: Vec<Finding>,
}

/// The farm's settings cannot be merged with a file of the host.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file has something that the farm's settings cannot be merged with.
    #[error("cannot lay the farm's settings over /{path}, which {cause}")]
    Over {
        /// The file, as the host names it, without its leading slash.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The file may be somebody else's.
    #[error(transparent)]
    File(#[from] FileError),
}

impl PlanError {
    fn new(path: &str, cause: impl Into<String>) -> Self {
        Self::Over { path: path.to_owned(), cause: cause.into() }
    }

    /// What a person can do about the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Over { .. } => None,
            Self::File(error) => error.hint(),
        }
    }
}

/// The files for a host with this runtime and without settings of its own.
pub fn files(runtime: Runtime, registry: &Registry) -> Files {
    let none = BTreeMap::new();
    let mut host = Host::new(registry, None, &none);
    // A host without files has nothing that cannot be merged.
    wanted(&mut host, runtime).unwrap_or_default()
}

fn wanted(host: &mut Host<'_>, runtime: Runtime) -> Result<Files, PlanError> {
    let mut files = match runtime {
        Runtime::Containerd => containerd::files(host),
        Runtime::K3s | Runtime::Rke2 => k3s::files(host, runtime)?,
        Runtime::Crio | Runtime::Podman => containers::files(host, runtime)?,
        Runtime::Docker => docker::files(host)?,
    };
    if let Some(authority) = &host.registry.authority {
        files.files.insert(host.registry.authority_path(runtime), authority.clone());
    }
    Ok(files)
}

/// The files that a plan for this host may write: where its settings lead, and where they lead by default.
pub(crate) fn written(host: &mut Host<'_>, runtime: Runtime) -> Vec<String> {
    let mut paths = match runtime {
        Runtime::Containerd => containerd::written(host),
        Runtime::K3s | Runtime::Rke2 => k3s::written(host, runtime),
        Runtime::Crio | Runtime::Podman => containers::written(),
        Runtime::Docker => docker::written(),
    };
    paths.extend(authority::of_each(host, runtime).into_iter().map(|(_, path)| path));
    paths
}

/// The versions of a file that this program kept.
fn versions(host: &Host<'_>, path: &str) -> Versions {
    // For a host without files, or with an unreadable folder, no version is known.
    host.place(path).ok().and_then(|place| Versions::of(&place).ok()).unwrap_or_default()
}

/// Certificates that this program wrote for another farm, or for this farm when it had one, and that nobody had there
/// before.
fn outdated(host: &mut Host<'_>, runtime: Runtime) -> Vec<String> {
    let registry = host.registry;
    let others = authority::of_each(host, runtime).into_iter().filter(|(name, _)| !registry.is_here(name));
    let mut paths: Vec<_> = others.map(|(_, path)| path).collect();
    // K3s has one file, which nothing names any more if this farm has no certificate of its own.
    if matches!(runtime, Runtime::K3s | Runtime::Rke2) && registry.authority.is_none() {
        paths.push(registry.authority_path(runtime));
    }
    paths.retain(|path| versions(host, path).none && host.has(path));
    paths
}

impl Plan {
    /// Plans for the host whose files are below `root`, and rehearses: its findings are those that [`crate::check`]
    /// would have afterwards.
    pub fn new(runtime: Runtime, registry: &Registry, root: &Path) -> Result<Self, PlanError> {
        let none = BTreeMap::new();
        let mut host = Host::new(registry, root, &none);
        let Files { files, mut notes } = wanted(&mut host, runtime)?;
        let outdated = outdated(&mut host, runtime);
        let goes =
            |path: &String| format!("the certificate /{path}, put there by an earlier --write, is removed");
        notes.extend(outdated.iter().map(goes));
        let after = files.iter().map(|(path, text)| (path, Some(text)));
        let mut changes = Vec::new();
        for (path, after) in after.chain(outdated.iter().map(|path| (path, None))) {
            // Check before showing it: another user's link may lead to a file that only root may read.
            Regular::new("write over", &file::find(root, path)?)?;
            let before = host.text(path);
            let unread = host.found.iter().find(|f| f.kind == Kind::Unknown && f.path[1..] == **path);
            if let Some(unread) = unread {
                return Err(PlanError::new(path, unread.words.clone()));
            }
            if before.as_ref() != after {
                changes.push(Change { path: path.clone(), before, after: after.cloned() });
            }
        }
        let lost = used::registries(&mut host, runtime);
        let lost = lost.into_iter().filter(|used| !registry.upstreams.contains(&used.registry)).collect();
        let left = check_with(runtime, registry, root, &files);
        Ok(Self { changes, notes, lost, left })
    }

    /// The changes for people to read, as unified diffs, without passwords.
    pub fn diff(&self) -> String {
        let mut text = String::new();
        for Change { path, before, after } in &self.changes {
            let side = |side: &Option<String>| match side {
                Some(text) => (without_secrets(text), format!("/{path}")),
                None => (String::new(), "/dev/null".to_owned()),
            };
            let ((old, from), (new, to)) = (side(before), side(after));
            let diff = TextDiff::from_lines(&old, &new);
            let _ = write!(text, "{}", diff.unified_diff().context_radius(3).header(&from, &to));
        }
        text
    }
}

/// Parts of keys whose values nobody else may read.
const SECRET: [&str; 6] = ["auth", "password", "token", "secret", "identity", "passwd"];

/// Hides passwords in a text: values of keys that name one, and the text before `@` in addresses.
fn without_secrets(text: &str) -> String {
    text.split_inclusive('\n').map(line_without_secrets).collect()
}

fn line_without_secrets(line: &str) -> String {
    let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
    let secret = body.match_indices([':', '=']).map(|(at, _)| at).find(|at| {
        let before = body[..*at].trim_end_matches(['"', '\'', ' ']).to_ascii_lowercase();
        let key = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next();
        let value = body[at + 1..].trim();
        // A mapping has keys of its own, which are checked on their lines.
        let value = if value.starts_with('{') { "" } else { value };
        SECRET.iter().any(|word| key.is_some_and(|key| key.contains(word))) && !value.is_empty()
    });
    if let Some(at) = secret {
        return format!("{} …{end}", &body[..=at]);
    }
    let (mut said, mut rest) = (String::new(), body);
    while let Some((before, after)) = rest.split_once("://") {
        said.push_str(before);
        said.push_str("://");
        let stop = after.find(['/', '"', '\'', ' ', ',']).unwrap_or(after.len());
        match after[..stop].rfind('@') {
            Some(at) => {
                said.push('…');
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    said + rest + end
}
