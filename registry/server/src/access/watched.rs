//! Files that are read again when they change, and what was made of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::error::AccessError;
use crate::chain::chain;

/// Whether a file is still the one that was read, and whoever may write it still the same: its number, size and last
/// change, of what is in it or of who may do what with it. That last time, unlike the other one, nobody can set back.
type Stamp = Option<(u64, u64, i64, i64)>;

type Load<T> = Box<dyn Fn() -> Result<T, AccessError> + Send + Sync>;

/// What was made of some files the last time that they were good.
pub(crate) struct Watched<T> {
    paths: Vec<PathBuf>,
    load: Load<T>,
    /// Of the files as they were tried last. Held while they are read, by one at a time.
    stamps: Mutex<Vec<Stamp>>,
    /// Held to copy or replace a pointer only.
    current: RwLock<Arc<T>>,
}

impl<T> Watched<T> {
    pub(crate) fn open(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        // Looked at before they are read: a change in between is found the next time.
        let stamps = Mutex::new(stamps(&paths));
        let current = RwLock::new(Arc::new(load()?));
        Ok(Self { paths, load: Box::new(load), stamps, current })
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again if one of them changed, or in any case. Where they cannot be used, what was is still so.
    pub(crate) fn refresh(&self, always: bool) {
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.paths);
        if !always && *known == now {
            return;
        }
        *known = now;
        match (self.load)() {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(files = ?self.paths, "read again");
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "a changed file cannot be used; what it was before stays in force");
            }
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::access::tokens::Revoked;

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        let file = path.clone();
        let watched = Watched::open(vec![path.clone()], move || Revoked::load(&file)).unwrap();
        let has = |id| watched.get().has(id);
        fs::write(&path, "0000000000000001\n").unwrap();
        assert!(!has(1), "not looked at yet");
        watched.refresh(false);
        assert!(has(1));
        fs::write(&path, "0000000000000002\nbroken\n").unwrap();
        watched.refresh(false);
        assert!(has(1) && !has(2));
        // Moved over, as editors do.
        fs::write(path.with_extension("new"), "0000000000000003\n").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        watched.refresh(false);
        assert!(!has(1) && has(3));
        fs::remove_file(&path).unwrap();
        watched.refresh(true);
        assert!(!has(3));
    }
}
