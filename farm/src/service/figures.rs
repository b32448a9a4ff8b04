//! Numbers about mirrored projects for Prometheus, beside the registry's own below `/metrics`.
//!
//! Anybody may ask for them, but counting refs and bytes costs disk reads. So they are counted only when a project's
//! files have changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hab_mirror::projects::Project;
use hab_registry::Metrics;

use crate::farm::Farm;
use crate::mirrors::{MirrorRow, Mirrors};
use hab_clock::now;

/// How often to look whether a project's files have changed.
const LOOK: Duration = Duration::from_secs(5);
/// How soon the thread notices that the program ends.
const TICK: Duration = Duration::from_millis(200);

/// When each project's files last changed, and the numbers counted then.
type Known = BTreeMap<String, (Vec<Option<SystemTime>>, MirrorRow)>;

/// Takes a number from a project's row, at a time in unix seconds.
type Number = fn(&MirrorRow, i64) -> Option<i64>;

/// A metric family.
struct Family {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    help: &'static str,
    /// Each project's number.
    number: Number,
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str, number: Number) -> Family {
    Family { name, kind: "gauge", unit, help, number }
}

const fn counter(name: &'static str, help: &'static str, number: Number) -> Family {
    Family { name, kind: "counter", unit: "", help, number }
}

const FAMILIES: [Family; 8] = [
    gauge("hab_mirror_refs", "", "Branches and tags that are mirrored", |row, _| count(row.refs)),
    gauge("hab_mirror_frozen_refs", "", "Refs that wait for a decision", |row, _| count(row.frozen.len())),
    gauge("hab_mirror_size_bytes", "bytes", "Bytes of a project's own folder", |row, _| {
        i64::try_from(row.size).ok()
    }),
    gauge(
        "hab_mirror_last_sync_timestamp_seconds",
        "seconds",
        "When a sync last succeeded, in unix time",
        |row, _| row.state.succeeded,
    ),
    gauge("hab_mirror_age_seconds", "seconds", "Time since a sync last succeeded", |row, now| {
        Some((now - row.state.succeeded?).max(0))
    }),
    gauge("hab_mirror_failures", "", "Syncs that failed since one last succeeded", |row, _| {
        Some(row.state.failures.into())
    }),
    counter("hab_mirror_errors", "Syncs that failed ever", |row, _| i64::try_from(row.state.errors).ok()),
    gauge("hab_mirror_broken", "", "Whether a mirror or its journal cannot be read", |row, _| {
        Some(row.broken.is_some().into())
    }),
];

/// Adds a farm's mirrors to `/metrics`. A thread of its own counts, and ends when the farm is told to stop.
pub fn watch(farm: Arc<Farm>, metrics: &Metrics) -> thread::JoinHandle<()> {
    let known: Arc<Mutex<Known>> = Arc::default();
    let shown = Arc::clone(&known);
    metrics.also(move || text(&shown.lock().unwrap_or_else(PoisonError::into_inner), now()));
    thread::spawn(move || {
        let stopped = || farm.mirrors().progress.cancel().load(Ordering::Relaxed);
        while !stopped() {
            look(&farm.mirrors(), &known);
            let looked = Instant::now();
            while looked.elapsed() < LOOK && !stopped() {
                thread::sleep(TICK);
            }
        }
    })
}

/// Counts anew for each project whose files have changed.
fn look(mirrors: &Mirrors<'_>, known: &Mutex<Known>) {
    let names = mirrors.repositories.names();
    // Keep the old numbers while a project file is only half written.
    let Ok(projects) = mirrors.projects.all() else { return };
    for name in &names {
        let times = times(&mirrors.data.git(), name);
        let same = |known: &Known| known.get(name).is_some_and(|(seen, _)| *seen == times);
        if same(&known.lock().unwrap_or_else(PoisonError::into_inner)) {
            continue;
        }
        let unnamed = || Project::new(name, Vec::new());
        let row = mirrors.row(&projects.get(name).cloned().unwrap_or_else(unnamed));
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), (times, row));
    }
    known.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
}

/// When the files last changed that every sync, decision and upkeep of a project changes.
fn times(folder: &Path, name: &str) -> Vec<Option<SystemTime>> {
    let files = ["state", "journal", "git/packed-refs", "git/refs", "git/objects/pack"];
    let time =
        |file: &str| fs::metadata(folder.join(format!("{name}.{file}"))).and_then(|m| m.modified()).ok();
    files.into_iter().map(time).collect()
}

fn count(number: usize) -> Option<i64> {
    i64::try_from(number).ok()
}

/// Writes OpenMetrics text, without its end marker. A project's name needs no escaping.
fn text(known: &Known, now: i64) -> String {
    let mut out = String::new();
    for Family { name, kind, unit, help, number } in FAMILIES {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let total = if kind == "counter" { "_total" } else { "" };
        for (project, (_, row)) in known {
            if let Some(number) = number(row, now) {
                let _ = writeln!(out, "{name}{total}{{project=\"{project}\"}} {number}");
            }
        }
    }
    out
}
