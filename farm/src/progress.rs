//! Reports what happens: to a terminal, to a log, later to a page.

use std::sync::atomic::AtomicBool;

/// Receives reports of what happens. Methods may be called from several threads.
pub trait Progress: Send + Sync {
    /// A new stage of the work begins; the stage before it is done.
    fn stage(&self, what: &str);
    /// `done` of `total` bytes (or objects, or packages) of `what` are done.
    fn amount(&self, what: &str, done: u64, total: Option<u64>);
    /// `done` of `total` things of `what` are done; `unit` names them, such as "objects".
    fn count(&self, _what: &str, _done: u64, _total: u64, _unit: &str) {}
    /// A line that the build printed.
    fn line(&self, text: &str);
    /// A sentence that a person should read.
    fn note(&self, text: &str);
    /// Set when the person asked to stop.
    fn cancel(&self) -> &AtomicBool;
}

/// Passes on only the notes, one line each, for a service's log.
pub struct Notes {
    cancel: AtomicBool,
    say: fn(&str),
}

impl Notes {
    /// Passes each note to `say`.
    pub fn new(say: fn(&str)) -> Self {
        Self { cancel: AtomicBool::new(false), say }
    }
}

impl Progress for Notes {
    fn stage(&self, _what: &str) {}
    fn amount(&self, _what: &str, _done: u64, _total: Option<u64>) {}
    fn line(&self, _text: &str) {}
    fn note(&self, text: &str) {
        (self.say)(text);
    }
    fn cancel(&self) -> &AtomicBool {
        &self.cancel
    }
}

/// Passes the mirror's reports to a [`Progress`].
pub(super) struct MirrorView<'a>(pub &'a dyn Progress);

impl hab_mirror::Observer for MirrorView<'_> {
    fn fetching(&self, what: &str, done: u64, total: Option<u64>) {
        self.0.amount(what, done, total);
    }
    fn counting(&self, what: &str, done: u64, total: u64, unit: &str) {
        self.0.count(what, done, total, unit);
    }
    fn note(&self, text: &str) {
        self.0.note(text);
    }
    fn cancelled(&self) -> bool {
        self.0.cancel().load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Passes the builder's reports to a [`Progress`].
pub(super) struct BuilderView<'a>(pub &'a dyn Progress);

impl hab_builder::Observer for BuilderView<'_> {
    fn stage(&self, what: &str) {
        self.0.stage(what);
    }
    fn note(&self, what: &str) {
        self.0.note(what);
    }
    fn amount(&self, what: &str, done: u64, total: u64) {
        self.0.amount(what, done, Some(total));
    }
    fn line(&self, text: &str) {
        self.0.line(text);
    }
    fn cancel(&self) -> &AtomicBool {
        self.0.cancel()
    }
}
