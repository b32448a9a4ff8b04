//! Fetching into the farm's store.

use hab_mirror::{FetchLimits, Fetcher, Outside};

use crate::keep::StoreKeep;
use crate::progress::{MirrorView, Progress};

/// Everything that a fetch uses.
#[derive(Clone, Copy)]
pub struct Fetching<'a> {
    /// Stores what is fetched.
    pub keep: &'a StoreKeep,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
    /// How outside hosts are asked for files.
    pub outside: &'a Outside,
    /// Whether fetching is forbidden.
    pub offline: bool,
}

impl Fetching<'_> {
    /// Runs `work` with a fetcher.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Fetcher<'_>, &MirrorView<'_>) -> T) -> T {
        self.within(FetchLimits::default(), work)
    }

    /// Runs `work` with a fetcher that has other limits.
    pub(crate) fn within<T>(
        &self,
        limits: FetchLimits,
        work: impl FnOnce(&Fetcher<'_>, &MirrorView<'_>) -> T,
    ) -> T {
        let view = MirrorView(self.progress);
        let fetcher = Fetcher::new(self.keep, &view, limits, self.offline);
        let fetcher = fetcher.asking(self.outside.clone());
        work(&fetcher, &view)
    }
}
