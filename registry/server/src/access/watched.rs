//! Files that are read again when they change, and the value that was made from them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::error::AccessError;
use hab_chain::chain;

/// Tells whether a file, or who may write it, changed since it was read: its inode, size and ctime. The ctime changes
/// with the content, the owner and the mode, and unlike the mtime, nobody can set it back.
type Stamp = Option<(u64, u64, i64, i64)>;

type Load<T> = Box<dyn Fn() -> Result<T, AccessError> + Send + Sync>;

/// The value that was made from some files when they were last valid.
pub(crate) struct Reloading<T> {
    paths: Vec<PathBuf>,
    load: Load<T>,
    /// The stamps of the files when they were last tried. Held while they are read, by one caller at a time.
    stamps: Mutex<Vec<Stamp>>,
    /// Held to copy or replace a pointer only.
    current: RwLock<Arc<T>>,
}

impl<T> Reloading<T> {
    pub(crate) fn open(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        // Taken before the files are read, so that a change in between is found the next time.
        let stamps = Mutex::new(stamps(&paths));
        let current = RwLock::new(Arc::new(load()?));
        Ok(Self { paths, load: Box::new(load), stamps, current })
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again if one of them changed, or if `always` is set. If they are not valid, the old value stays.
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
                tracing::warn!(error, "a changed file cannot be used; its old content stays in force");
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
        let watched = Reloading::open(vec![path.clone()], move || Revoked::load(&file)).unwrap();
        let has = |id| watched.get().has(id);
        fs::write(&path, "0000000000000001\n").unwrap();
        assert!(!has(1), "not looked at yet");
        watched.refresh(false);
        assert!(has(1));
        fs::write(&path, "0000000000000002\nbroken\n").unwrap();
        watched.refresh(false);
        assert!(has(1) && !has(2));
        // Replaced by a rename, as editors do.
        fs::write(path.with_extension("new"), "0000000000000003\n").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        watched.refresh(false);
        assert!(!has(1) && has(3));
        fs::remove_file(&path).unwrap();
        watched.refresh(true);
        assert!(!has(3));
    }
}
