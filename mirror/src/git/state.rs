//! How the last sync of a project went: a small file beside the repository, for lists and schedules.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Lacking;
use super::packed::has_file_below;
use crate::MirrorError;

/// Whether the repository at `path` was ever filled by a sync or an import, be it with nothing.
pub fn was_synced(path: &Path) -> bool {
    // All who fill one write this file; before, git itself may have made files for refs.
    path.join("packed-refs").exists() || has_file_below(&path.join("refs")).unwrap_or(false)
}

/// How the last syncs went. Times are unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// When one was last tried.
    pub tried: Option<i64>,
    /// When one last succeeded.
    pub succeeded: Option<i64>,
    /// From which upstream.
    pub upstream: Option<String>,
    /// How many failed since.
    pub failures: u32,
    /// What the last failure said.
    pub error: Option<String>,
    /// How many failed ever.
    pub errors: u64,
    /// How many refs of upstream the last one left out.
    pub left_out: usize,
    /// What belongs to the project and is not in its repository, as of the last change.
    pub lacking: Option<Lacking>,
    /// The journal's last line when upkeep was last done.
    pub kept_up: Option<String>,
}

impl State {
    /// What the file says; one that does not read says nothing, because nothing but a schedule rests on it.
    pub(super) fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), MirrorError> {
        let folder = path.parent().unwrap_or(path);
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(MirrorError::io(folder))?;
        // Only a map with keys that are not strings could fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        file.write_all(text.as_bytes()).map_err(MirrorError::io(path))?;
        file.persist(path).map_err(|e| MirrorError::io(path)(e.error))?;
        Ok(())
    }
}
