//! Fetching into the farm's store.

use hab_mirror::{Fetcher, Limits, Outside};

use crate::keep::StoreKeep;
use crate::progress::{MirrorView, Progress};

/// What a fetch needs.
#[derive(Clone, Copy)]
pub struct Fetching<'a> {
    /// Where what comes is kept.
    pub keep: &'a StoreKeep,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// How hosts of files are asked.
    pub outside: &'a Outside,
    /// Whether nothing may be fetched.
    pub offline: bool,
}

impl Fetching<'_> {
    /// Runs `work` with a fetcher.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Fetcher<'_>, &MirrorView<'_>) -> T) -> T {
        self.within(Limits::default(), work)
    }

    /// The same, within other limits.
    pub(crate) fn within<T>(
        &self,
        limits: Limits,
        work: impl FnOnce(&Fetcher<'_>, &MirrorView<'_>) -> T,
    ) -> T {
        let view = MirrorView(self.progress);
        let fetcher = Fetcher::new(self.keep, &view, limits, self.offline);
        let fetcher = fetcher.asking(self.outside.clone());
        work(&fetcher, &view)
    }
}
