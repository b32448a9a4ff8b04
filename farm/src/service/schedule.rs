//! Syncs mirrored projects on schedule while the farm serves: each at its interval, one fetch per upstream host at a
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use hab_mirror::git::{State, host};
use hab_mirror::projects::Project;

use crate::backoff::wait;
use crate::farm::Farm;
use crate::mirrors::Mirrors;
use crate::source::releases::Releases;
use crate::words::counted;
use hab_chain::chain;
use hab_clock::now;

/// The least time between two tries of one project, in seconds.
const LEAST: i64 = 60;
/// After the list of projects is made anew, a project waits at most this many seconds.
const RECENT: i64 = LEAST;
/// How often to look for projects that are due.
const TICK: Duration = Duration::from_secs(1);
/// How many syncs run at a time, each with other hosts.
const AT_ONCE: usize = 3;

/// The mirrored projects, and when to look at each again.
#[derive(Default)]
struct Agenda {
    /// The stamp of the files from which the list was made. If it changes, the list is made anew.
    made_from: Option<Stamp>,
    /// Each project, with a time in unix seconds.
    projects: Vec<(Project, i64)>,
    /// How often the list was made.
    made: u64,
}

/// What decides on disk which projects there are: names, times and sizes, found without reading a file.
type Stamp = Vec<(PathBuf, SystemTime, u64)>;

impl Agenda {
    /// Makes the list anew if `stamp` has changed. `list` is slow, because it reads files.
    fn renew(&mut self, stamp: Stamp, list: impl FnOnce() -> Vec<Project>) {
        if self.made_from.as_ref() == Some(&stamp) {
            return;
        }
        let later: BTreeMap<String, i64> =
            self.projects.drain(..).map(|(project, at)| (project.name, at)).collect();
        // A changed interval counts soon, but a project that was just tried still waits.
        let soon = |project: Project| {
            let at = later.get(&project.name).copied().unwrap_or(0).min(now() + RECENT);
            (project, at)
        };
        self.projects = list().into_iter().map(soon).collect();
        self.made_from = Some(stamp);
        self.made += 1;
    }
}

/// Syncs projects on schedule.
struct Schedule<'a> {
    mirrors: Mirrors<'a>,
    releases: Releases<'a>,
}

impl Schedule<'_> {
    /// Syncs projects that are due until the person asks to stop. While nothing is due and nothing changes, a tick
    /// reads no file.
    fn follow(&self) {
        let busy: Mutex<BTreeSet<String>> = Mutex::default();
        let mut agenda = Agenda::default();
        let stopped = || self.mirrors.progress.cancel().load(Ordering::Relaxed);
        thread::scope(|scope| {
            while !stopped() {
                agenda.renew(self.stamp(), || {
                    self.mirrors.wanted(&[], false).unwrap_or_else(|e| {
                        self.mirrors.progress.note(&format!("the projects cannot be read: {}", chain(&e)));
                        Vec::new()
                    })
                });
                let now = now();
                for (project, at) in agenda.projects.iter_mut().filter(|(_, at)| *at <= now) {
                    // Another process may have synced the project meanwhile.
                    let due = self.mirrors.repositories.get(&project.name).map(|m| due(project, &m.state()));
                    let Ok(due) = due else { continue };
                    if due > now {
                        *at = due;
                        continue;
                    }
                    let hosts: Vec<String> = project.urls.iter().map(|url| place(url)).collect();
                    let mut taken = busy.lock().unwrap_or_else(PoisonError::into_inner);
                    if taken.len() >= AT_ONCE || hosts.iter().any(|host| taken.contains(host)) {
                        continue;
                    }
                    taken.extend(hosts.iter().cloned());
                    // If the disk cannot record the try, the upstream must still not be asked every second.
                    *at = now + LEAST;
                    let (busy, project) = (&busy, project.clone());
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

    /// The stamp of the folder of mirrors, and of every project file in the data folder.
    fn stamp(&self) -> Stamp {
        let (git, projects) = (self.mirrors.data.git(), self.mirrors.data.projects());
        let files = fs::read_dir(&projects).into_iter().flatten().flatten().map(|e| e.path());
        let paths = [git, projects].into_iter().chain(files);
        let about = |path: PathBuf| {
            let about = fs::metadata(&path).ok()?;
            Some((path, about.modified().ok()?, about.len()))
        };
        let mut stamp: Stamp = paths.filter_map(about).collect();
        stamp.sort();
        stamp
    }

    fn follow_one(&self, project: &Project) {
        let name = &project.name;
        match self.mirrors.sync(project) {
            Ok(synced) if synced.changes > 0 => {
                self.mirrors.progress.note(&format!(
                    "{name}: {} from {}",
                    counted(synced.changes as u64, "change"),
                    synced.upstream
                ));
            }
            Ok(_) => {}
            Err(e) => return self.mirrors.progress.note(&format!("{name} is not synced: {}", chain(&e))),
        }
        if let Err(e) = self.releases.sync_project(project) {
            self.mirrors.progress.note(&format!("cannot mirror all files of {name}: {}", chain(&e)));
        }
        if let Err(e) = self.mirrors.keep_up(project) {
            self.mirrors.progress.note(&format!("the upkeep of {name} failed: {}", chain(&e)));
        }
    }
}

/// When a project is due, in unix seconds.
fn due(project: &Project, state: &State) -> i64 {
    let Some(tried) = state.tried else { return 0 };
    let interval = i64::try_from(project.interval.0.as_secs()).unwrap_or(i64::MAX / 4);
    tried + wait(&project.name, tried, interval, state.failures)
}

/// The host of an address, which is asked once at a time; empty for this machine.
fn place(url: &str) -> String {
    host(url).unwrap_or("").to_ascii_lowercase()
}

/// Starts a thread that syncs the farm's projects on schedule, until the farm is stopped.
pub fn follow(farm: Arc<Farm>) -> thread::JoinHandle<()> {
    thread::spawn(move || Schedule { mirrors: farm.mirrors(), releases: farm.releases() }.follow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_projects_is_read_again_only_when_something_changed() {
        let mut agenda = Agenda::default();
        let project = |name: &str| Project::new(name, vec!["https://h.invalid/p.git".to_owned()]);
        let stamp = |n: u64| vec![(PathBuf::from("projects/p.toml"), SystemTime::UNIX_EPOCH, n)];
        for _ in 0..100 {
            agenda.renew(stamp(1), || vec![project("p")]);
        }
        assert_eq!(agenda.made, 1);
        agenda.projects[0].1 = i64::MAX;
        agenda.renew(stamp(2), || vec![project("p"), project("q")]);
        assert_eq!((agenda.made, agenda.projects.len()), (2, 2));
        assert!(agenda.projects[0].1 <= now() + RECENT, "a changed interval counts soon");
        assert_eq!(agenda.projects[1].1, 0, "a new project is looked at at once");
    }

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
