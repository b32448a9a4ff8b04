use std::sync::atomic::AtomicBool;

/// Receives what the builder reports, and may ask it to stop.
pub trait Observer: Send + Sync {
    /// A new stage begins; the one before is done.
    fn stage(&self, what: &str);
    /// A sentence that a person should read; it stays visible.
    fn note(&self, what: &str);
    /// `done` of `total` of `what` (bytes, packages).
    fn amount(&self, what: &str, done: u64, total: u64);
    /// A line that a build printed.
    fn line(&self, text: &str);
    /// Set when the build should end as soon as possible.
    fn cancel(&self) -> &AtomicBool;
}
