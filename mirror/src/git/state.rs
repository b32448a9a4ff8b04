//! How the last syncs of a project went: a small file beside the repository, for lists and schedules.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Lacking;
use super::packed::has_file_below;
use crate::MirrorError;

/// Whether a sync or an import ever filled the repository at `path`, even with nothing.
pub fn was_synced(path: &Path) -> bool {
    // Every sync and import writes this file; old versions let git write a file for each ref.
    path.join("packed-refs").exists() || has_file_below(&path.join("refs")).unwrap_or(false)
}

/// How the last syncs went. Times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The time of the last try.
    pub tried: Option<i64>,
    /// The time of the last success.
    pub succeeded: Option<i64>,
    /// The upstream of the last success.
    pub upstream: Option<String>,
    /// The number of failures since then.
    pub failures: u32,
    /// The last failure's error.
    pub error: Option<String>,
    /// The number of failures ever.
    pub errors: u64,
    /// The number of upstream's refs that the last sync left out.
    pub left_out: usize,
    /// What belongs to the project and is not in its repository, as of the last change.
    pub lacking: Option<Lacking>,
    /// The digest of the journal's last line when upkeep was last done.
    pub kept_up: Option<String>,
}

impl State {
    /// Reads the file. A file that cannot be parsed counts as empty, because only a schedule depends on it.
    pub(super) fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), MirrorError> {
        // Only a map with keys that are not strings could fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        Ok(hab_file::replace_unsynced(path, 0o600, text.as_bytes())?)
    }
}
