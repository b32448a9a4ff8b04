//! Syncing on schedule, while serving: every mirrored project at its interval, one fetch per upstream host at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hab_mirror::git::{State, host};
use hab_mirror::projects::Project;

use super::sync::whole_story;
use super::{Farm, open};

/// The least time between two tries of one project.
const LEAST: Duration = Duration::from_secs(60);
/// How often is looked for what is due.
const TICK: Duration = Duration::from_secs(1);
/// How many syncs run at a time, of different hosts.
const AT_ONCE: usize = 3;
/// The longest that is waited after failures, in seconds.
const PATIENCE: i64 = 24 * 3600;

impl Farm {
    /// Syncs what is due until the person asks to stop.
    pub fn follow(&self) {
        let busy: Mutex<BTreeSet<String>> = Mutex::default();
        // A disk that takes no note of a try must not make an upstream be asked every second.
        let mut tried: BTreeMap<String, Instant> = BTreeMap::new();
        let stopped = || self.progress.cancel().load(Ordering::Relaxed);
        thread::scope(|scope| {
            while !stopped() {
                let projects = self.wanted_projects(&[], false).unwrap_or_else(|e| {
                    self.progress.note(&format!("the projects do not read: {e}"));
                    Vec::new()
                });
                for project in projects {
                    let lately = tried.get(&project.name).is_some_and(|at| at.elapsed() < LEAST);
                    let due = !lately
                        && self
                            .mirrored(&project.name)
                            .is_ok_and(|m| due(&project, &m.state()) <= open::now());
                    let hosts: Vec<String> = project.urls.iter().map(|url| place(url)).collect();
                    let mut taken = busy.lock().unwrap_or_else(PoisonError::into_inner);
                    if !due || taken.len() >= AT_ONCE || hosts.iter().any(|host| taken.contains(host)) {
                        continue;
                    }
                    taken.extend(hosts.iter().cloned());
                    tried.insert(project.name.clone(), Instant::now());
                    let busy = &busy;
                    scope.spawn(move || {
                        self.follow_one(&project);
                        let mut taken = busy.lock().unwrap_or_else(PoisonError::into_inner);
                        for host in &hosts {
                            taken.remove(host);
                        }
                    });
                }
                thread::sleep(TICK);
            }
        });
    }

    fn follow_one(&self, project: &Project) {
        let name = &project.name;
        match self.sync_project(project) {
            Ok(synced) if synced.changes > 0 => {
                let word = if synced.changes == 1 { "change" } else { "changes" };
                self.progress.note(&format!("{name}: {} {word} from {}", synced.changes, synced.upstream));
            }
            Ok(_) => {}
            Err(e) => return self.progress.note(&format!("{name} is not synced: {}", whole_story(&e))),
        }
        if let Err(e) = self.sync_archives(project) {
            self.progress.note(&format!("not all that belongs to {name} is mirrored: {}", whole_story(&e)));
        }
        if let Err(e) = self.keep_up(project) {
            self.progress.note(&format!("{name} is not kept up: {}", whole_story(&e)));
        }
    }
}

/// When a project is due, in unix seconds.
fn due(project: &Project, state: &State) -> i64 {
    let Some(tried) = state.tried else { return 0 };
    let interval = i64::try_from(project.interval.0.as_secs()).unwrap_or(i64::MAX / 4);
    tried + wait(&project.name, tried, interval, state.failures)
}

/// How long what was tried at a time is waited with, in seconds: its interval, doubled for every failure since it last
/// succeeded, and up to a tenth longer, so that not all come at once.
pub(super) fn wait(name: &str, tried: i64, interval: i64, failures: u32) -> i64 {
    let wait = interval.saturating_mul(1 << failures.min(16)).min(PATIENCE.max(interval));
    let mut hasher = DefaultHasher::new();
    (name, tried).hash(&mut hasher);
    let jitter = (wait / 10).max(1);
    wait + i64::try_from(hasher.finish() % jitter.unsigned_abs()).unwrap_or(0)
}

/// What must not be asked twice at a time: a host, or this machine.
fn place(url: &str) -> String {
    host(url).unwrap_or("").to_ascii_lowercase()
}

/// A farm that follows its upstreams in a thread of its own, until it is stopped.
pub fn follow(farm: Arc<Farm>) -> thread::JoinHandle<()> {
    thread::spawn(move || farm.follow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_it_wait_and_a_success_does_not() {
        let project = Project::new("p", vec!["https://h.invalid/p.git".to_owned()]);
        let state = |failures| State { tried: Some(1_000_000), failures, ..State::default() };
        let wait = |failures| due(&project, &state(failures)) - 1_000_000;
        assert_eq!(due(&project, &State::default()), 0);
        assert!((3600..3960).contains(&wait(0)), "{}", wait(0));
        assert!((14400..15840).contains(&wait(2)), "{}", wait(2));
        assert!((86400..95040).contains(&wait(40)), "{}", wait(40));
        assert_eq!(wait(1), wait(1));
    }
}
