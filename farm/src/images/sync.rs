//! Copies images of other registries here before anybody asks for them: once by hand, or on schedule while serving.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hab_config::RegistryConfig;
use hab_oci::Tag;
use hab_registry::{Change, SyncError, SyncRule, Synced, Upstreams};
use hab_store::Store;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::backoff::wait;
use crate::bridge::Bridge;
use crate::error::{FarmError, Fault};
use crate::facts::Position;
use crate::progress::Progress;
use hab_chain::chain;
use hab_clock::now;

/// How often to look for rules that are due, and for the end of another process's sync.
const TICK: Duration = Duration::from_secs(1);
/// How many hexadecimal digits of a rule's digest its name has.
const SHORT: usize = 16;
/// How long to wait after a failure that was not the upstream's.
const AFTER_OUR_FAULT: Duration = Duration::from_secs(60);

/// How the syncs of a rule went: when it was last tried, in unix seconds, and how many times in a row it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tries {
    at: i64,
    failures: u32,
}

impl Tries {
    fn read(text: &str) -> Option<Self> {
        let (at, failures) = text.split_once(' ')?;
        Some(Self { at: at.parse().ok()?, failures: failures.parse().ok()? })
    }

    fn written(self) -> String {
        format!("{} {}", self.at, self.failures)
    }
}

/// The result of one sync rule.
pub struct ImageSync {
    /// The name of the repository here.
    pub repository: String,
    /// What was done, or why nothing was done.
    pub outcome: Result<Synced, SyncError>,
}

impl ImageSync {
    /// The number of tags, and the errors of those that were not synced. A rule that failed as a whole counts as one.
    fn failures(&self) -> (usize, Vec<&SyncError>) {
        match &self.outcome {
            Err(error) => (1, vec![error]),
            Ok(synced) => {
                let failed = synced.tags.iter().filter_map(|(_, change)| match change {
                    Change::Failed(error) => Some(error),
                    _ => None,
                });
                (synced.tags.len(), failed.collect())
            }
        }
    }
}

/// The error for syncs of which some failed; whose fault it is says the first failure.
pub fn failure(all: &[ImageSync]) -> Option<FarmError> {
    let (mut total, mut failed) = (0, Vec::new());
    for (count, errors) in all.iter().map(ImageSync::failures) {
        total += count;
        failed.extend(errors);
    }
    let fault = match failed.first()? {
        error if error.is_refusal() => Fault::Refused,
        error if error.is_upstream() => Fault::Upstream,
        _ => Fault::Ours,
    };
    Some(FarmError::NotSynced { failed: failed.len(), total, fault })
}

/// Syncs images by the operator's rules.
#[derive(Clone)]
pub struct ImageSyncs {
    /// Stores the images.
    pub store: Store,
    /// Calls the store from synchronous code.
    pub bridge: Bridge,
    /// The configuration, with the operator's rules.
    pub config: RegistryConfig,
    /// Receives progress and notes.
    pub progress: Arc<dyn Progress>,
    /// The folder of the locks that let one process at a time sync an upstream.
    pub work: PathBuf,
    /// Whether fetching is forbidden.
    pub offline: bool,
}

impl ImageSyncs {
    /// Syncs once what the rules select, of all upstreams or of `only`: an upstream, or one repository of it, such as
    /// `docker.io/library/alpine`. Calls `told` for every tag as soon as its result is known.
    pub fn once(
        &self,
        upstreams: &Upstreams,
        only: Option<&str>,
        dry_run: bool,
        told: impl Fn(&str, &Tag, &Change),
    ) -> Result<Vec<ImageSync>, FarmError> {
        if self.offline {
            return Err(FarmError::Usage("--offline syncs nothing; leave it out".to_owned()));
        }
        let chosen: Vec<_> = self
            .config
            .sync_rules()
            .map(|(upstream, rule)| (upstream, format!("{upstream}/{}", rule.repository), rule))
            .filter(|(upstream, name, _)| only.is_none_or(|only| only == *upstream || only == name))
            .collect();
        if chosen.is_empty() {
            let of = only.map_or_else(String::new, |only| format!(" for {only}"));
            return Err(FarmError::Usage(format!(
                "there is no sync rule{of}; write one in [[registry.upstream.NAME.sync]] of hab.toml"
            )));
        }
        let work = async {
            let mut all = Vec::new();
            for (upstream, name, rule) in chosen {
                self.progress.stage(&format!("sync {name}"));
                let _turn = self.turn(upstream).await?;
                let told = |tag: &Tag, change: &Change| told(&name, tag, change);
                let synced = upstreams.sync(&self.store, upstream, rule, dry_run, told).await;
                if !dry_run {
                    self.note(upstream, rule, succeeded(&synced)).await;
                }
                all.push(ImageSync { repository: name, outcome: synced });
            }
            Ok::<_, FarmError>(all)
        };
        self.bridge.wait_unless(self.progress.cancel(), "the next sync goes on with what is here", work)
    }

    /// Syncs rules when they are due, one rule of an upstream at a time, until the task is aborted.
    pub fn follow(self, upstreams: &Upstreams) -> JoinHandle<()> {
        let mut rules: BTreeMap<String, Vec<SyncRule>> = BTreeMap::new();
        for (upstream, rule) in self.config.sync_rules() {
            rules.entry(upstream.to_owned()).or_default().push(rule.clone());
        }
        let upstreams = upstreams.clone();
        self.bridge.clone().spawn(async move {
            let all = rules.iter().map(|(upstream, rules)| self.follow_upstream(&upstreams, upstream, rules));
            futures_util::future::join_all(all).await;
        })
    }

    async fn follow_upstream(&self, upstreams: &Upstreams, upstream: &str, rules: &[SyncRule]) {
        loop {
            for rule in rules {
                let (name, tries) = self.tries(upstream, rule).await;
                if tries.is_some_and(|tries| due(rule, &name, tries) > now()) {
                    continue;
                }
                self.follow_rule(upstreams, upstream, rule).await;
            }
            sleep(TICK).await;
        }
    }

    async fn follow_rule(&self, upstreams: &Upstreams, upstream: &str, rule: &SyncRule) {
        let name = format!("{upstream}/{}", rule.repository);
        let _turn = match self.turn(upstream).await {
            Ok(turn) => turn,
            Err(e) => {
                self.progress.note(&format!("{name} is not synced: {}", chain(&e)));
                return sleep(AFTER_OUR_FAULT).await;
            }
        };
        let told = |tag: &Tag, change: &Change| match change {
            Change::Same(_) => {}
            Change::New(to) => self.progress.note(&format!("{name}:{tag} is {to}")),
            Change::Moved { from, to } => {
                self.progress.note(&format!("{name}:{tag} is {to}; it was {from}"));
            }
            Change::Failed(e) => self.progress.note(&format!("{name}:{tag} is not synced: {}", chain(e))),
        };
        let synced = upstreams.sync(&self.store, upstream, rule, false, told).await;
        if let Err(e) = &synced {
            self.progress.note(&format!("{name} is not synced: {}", chain(e)));
        }
        if !self.note(upstream, rule, succeeded(&synced)).await {
            // If the disk cannot record the try, the upstream must still not be asked every second.
            sleep(AFTER_OUR_FAULT).await;
        }
    }

    /// Waits for the turn to sync an upstream. Only one process at a time has it; dropping the file gives it back.
    async fn turn(&self, upstream: &str) -> Result<File, FarmError> {
        let path = self.work.join(format!("sync-{upstream}.lock"));
        let file = File::create(&path).map_err(FarmError::io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => sleep(TICK).await,
                Err(TryLockError::Error(e)) => return Err(FarmError::io(&path)(e)),
            }
        }
    }

    /// The name of a rule's position, and the recorded tries.
    async fn tries(&self, upstream: &str, rule: &SyncRule) -> (String, Option<Tries>) {
        let name = position(upstream, rule);
        let text = self.store.catalog.position(&name).await.ok().flatten();
        (name, text.as_deref().and_then(Tries::read))
    }

    /// Records a try, and returns whether the record was written.
    async fn note(&self, upstream: &str, rule: &SyncRule, good: bool) -> bool {
        let (name, before) = self.tries(upstream, rule).await;
        let failures = before.map_or(0, |tries| tries.failures);
        let failures = if good { 0 } else { failures.saturating_add(1) };
        let tries = Tries { at: now(), failures };
        self.store.catalog.set_position(&name, &tries.written()).await.is_ok()
    }
}

/// Whether a sync counts as good. Only an upstream's own failure is bad and makes the next try wait; a refusal would
/// come out the same next time.
fn succeeded(synced: &Result<Synced, SyncError>) -> bool {
    match synced {
        Ok(synced) => {
            !synced.tags.iter().any(|(_, change)| matches!(change, Change::Failed(e) if !e.is_refusal()))
        }
        Err(e) => e.is_refusal(),
    }
}

/// The position that records a rule's tries. Its name has the rule's digest, so that a changed rule is due at once.
fn position(upstream: &str, rule: &SyncRule) -> String {
    let (repository, identity) = (rule.repository.as_str(), rule.identity());
    Position::ImageSync { upstream, repository, rule: &identity.hex()[..SHORT] }.name()
}

/// When a rule is due, in unix seconds. As with git, it is later after failures, and not all rules are due at once.
fn due(rule: &SyncRule, name: &str, tries: Tries) -> i64 {
    tries.at + wait(name, tries.at, rule.every.seconds(), tries.failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_read_as_they_were_written_and_failures_make_them_wait() {
        let tries = Tries { at: 1_000_000, failures: 3 };
        assert_eq!(Tries::read(&tries.written()), Some(tries));
        for bad in ["", "1", "a b", "1 -1"] {
            assert_eq!(Tries::read(bad), None, "{bad}");
        }
        let rule = SyncRule {
            repository: "a/b".parse().unwrap(),
            tags: hab_registry::Selection::like(vec!["v*".parse().unwrap()]),
            platforms: Vec::new(),
            referrers: true,
            every: hab_store::Span::hours(1),
        };
        let wait = |failures| due(&rule, "n", Tries { at: 1_000_000, failures }) - 1_000_000;
        assert!((3600..3960).contains(&wait(0)), "{}", wait(0));
        assert!((14400..15840).contains(&wait(2)), "{}", wait(2));
        let other = SyncRule { every: hab_store::Span::hours(2), ..rule.clone() };
        assert_ne!(position("u", &rule), position("u", &other), "a changed rule is another one");
    }
}
