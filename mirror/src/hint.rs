//! Hints: what a person can do about an error.

use crate::MirrorError;
use crate::error::Failed;

/// fsck checks that keep a checkout from writing outside its folder, or from running something.
const GUARDS: [&str; 5] = ["gitmodules", "gitattributes", "hasDot", "fullPathname", "symlink"];

impl MirrorError {
    /// What a person can do about the error, as a sentence of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Git { why: Failed::Fsck(checks), .. } => Some(tolerating(checks)),
            Self::Wiped { project, .. } => Some(format!(
                "`hab-build mirror log {project}` shows what was deleted and when; where the project has moved, name its new \
                 address in hab.toml, [git.{project}]"
            )),
            Self::Journal { path, .. } => {
                let project = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                Some(format!(
                    "put {} back from a backup; without one, `hab-build mirror remove {project}` keeps the file aside and \
                     `hab-build mirror sync {project}` mirrors the project anew",
                    path.display()
                ))
            }
            Self::Missing { partial: true, .. } => Some(
                "bring the rest first: `git fetch --unshallow` for history, `git fetch --refetch --no-filter` for objects"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// What a person can do when fsck refuses a history.
fn tolerating(checks: &[String]) -> String {
    if checks.is_empty() {
        return "`tolerate` in the project's file names fsck checks that a history is known to fail"
            .to_owned();
    }
    let names: Vec<_> = checks.iter().map(|check| format!("\"{check}\"")).collect();
    let line = format!("tolerate = [{}]", names.join(", "));
    if checks.iter().any(|check| GUARDS.iter().any(|guard| check.starts_with(guard))) {
        return format!(
            "this check protects everybody who checks the history out; `{line}` in the project's file accepts it, but \
             only a person who has looked at the object should write that"
        );
    }
    format!(
        "if the project's history is known for this, write `{line}` into its file in the data folder's projects/ \
         (`hab-build mirror add --tolerate` for a new one)"
    )
}
