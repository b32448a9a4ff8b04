//! `hab-build mirror`: what is mirrored, what moved, and whether all of it is still here.

use std::sync::Arc;

use hab_mirror::projects::{Interval, Project};

use super::{Global, print_json, terminal, usage};
use crate::farm::{Farm, FarmError, MirrorRow, Quiet};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The git projects that are mirrored here: size, refs, last success, lag, and refs that wait for `accept`
    List {
        /// Also those that are known but not mirrored yet
        #[arg(long)]
        all: bool,
    },
    /// Add a project to those that are known; `sync` mirrors it
    Add(AddArgs),
    /// Bring projects up to date with their upstreams
    Sync {
        /// The projects; without names, those that are mirrored already
        projects: Vec<String>,
        /// All known projects
        #[arg(long, conflicts_with = "projects")]
        all: bool,
    },
    /// Every change of a project's refs that was ever seen
    Log {
        /// The project
        project: String,
    },
    /// Decide about a tag that moved or a branch that was rewritten: which value it has from now on
    Accept {
        /// The project
        project: String,
        /// The tag or branch, or its full name: v1.0, refs/heads/master
        reference: String,
        /// The id, or its first seven digits or more, of a value that it was seen to have; the newest one without
        value: Option<String>,
    },
    /// Check a project's ref journal, and that every object it names is still here and whole
    Verify {
        /// The project; all without one
        project: Option<String>,
        /// Only the journal and the objects that it names, not everything that they reach
        #[arg(long)]
        quick: bool,
    },
    /// Pack what is mirrored so that it is served fast, and judge the branches of projects whose policy can
    Upkeep {
        /// The projects; all without names
        projects: Vec<String>,
    },
    /// Remove what killed runs left; nothing that a journal ever named is removed
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// The project's name
    name: String,
    /// Its upstreams, the preferred one first: https, ssh or git addresses
    #[arg(required = true)]
    urls: Vec<String>,
    /// Which refs, as full names with at most one * [default: refs/heads/* and refs/tags/*]
    #[arg(long = "ref", value_name = "PATTERN")]
    refs: Vec<String>,
    /// The policy that its refs are judged by
    #[arg(long)]
    policy: Option<String>,
    /// How often upstream is asked while serving: 30m, 1h, 1d
    #[arg(long, default_value = "1h")]
    interval: String,
    /// The project of which it is a fork, to keep their objects together
    #[arg(long, value_name = "PROJECT")]
    fork_of: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Sync { projects, all } => return sync(global, projects, *all),
        What::Upkeep { projects } => return upkeep(global, projects),
        _ => {}
    }
    let farm = global.open(Arc::new(Quiet::default()))?;
    match &args.what {
        What::List { all } => {
            let rows = farm.mirrors(*all)?;
            for row in &rows {
                terminal::say(&line(row));
            }
            if global.json { print_json(&rows) } else { Ok(()) }
        }
        What::Add(args) => add(global, &farm, args),
        What::Log { project } => {
            let entries = farm.mirror_log(project)?;
            for e in &entries {
                let short =
                    |id: &Option<String>| id.as_deref().and_then(|id| id.get(..12)).unwrap_or("-").to_owned();
                let (old, new, kind) = (short(&e.old), short(&e.new), e.kind);
                terminal::say(&format!(
                    "{} {kind:<12} {old:<12} {new:<12} {} {}",
                    stamp(e.at),
                    e.reference,
                    e.upstream
                ));
            }
            if global.json { print_json(&entries) } else { Ok(()) }
        }
        What::Accept { project, reference, value } => {
            let accepted = farm.accept_ref(project, reference, value.as_deref())?;
            let (name, old, new) = (&accepted.reference, &accepted.old, &accepted.new);
            terminal::say(&if old == new {
                format!("{name} of {project} stays at {new}")
            } else {
                format!("{name} of {project} is {new} from now on; {old} stays in its history")
            });
            if global.json { print_json(&accepted) } else { Ok(()) }
        }
        What::Verify { project, quick } => {
            let projects = match project {
                Some(project) => vec![project.clone()],
                None => farm.mirrors(false)?.into_iter().map(|row| row.project).collect(),
            };
            let check = |p: &String| farm.mirror_verify(p, !quick);
            let rows = projects.iter().map(check).collect::<Result<Vec<_>, _>>()?;
            for row in &rows {
                let head = row.head.as_ref().map_or_else(String::new, ToString::to_string);
                let entries = row.entries;
                terminal::say(&format!("{}: {entries} changes, all of them here; head {head}", row.project));
            }
            if global.json { print_json(&rows) } else { Ok(()) }
        }
        What::Gc { dry_run } => {
            let found = farm.mirror_gc(*dry_run)?;
            for one in &found {
                terminal::say(&format!("{} bytes {}: {}", one.size, one.path.display(), one.what));
            }
            let total: u64 = found.iter().map(|one| one.size).sum();
            let word = if *dry_run { "would be removed" } else { "removed" };
            terminal::say(&format!("{total} bytes {word}"));
            if global.json { print_json(&found) } else { Ok(()) }
        }
        // Handled above, because they show progress.
        What::Sync { .. } | What::Upkeep { .. } => Ok(()),
    }
}

fn add(global: &Global, farm: &Farm, args: &AddArgs) -> anyhow::Result<()> {
    let mut project = Project::new(&args.name, args.urls.clone());
    if !args.refs.is_empty() {
        let refs: Result<_, String> = args.refs.iter().map(|text| text.parse()).collect();
        project.refs = refs.map_err(|e| usage(&anyhow::anyhow!(e)))?;
    }
    project.interval = Interval::try_from(args.interval.clone()).map_err(|e| usage(&anyhow::anyhow!(e)))?;
    project.policy.clone_from(&args.policy);
    project.fork_of.clone_from(&args.fork_of);
    let path = farm.add_project(&project)?;
    terminal::say(&format!(
        "{} is written; `hab-build mirror sync {}` mirrors it",
        path.display(),
        args.name
    ));
    if global.json { print_json(&project) } else { Ok(()) }
}

/// What became of one project in a run over several.
#[derive(serde::Serialize)]
struct Row<T> {
    project: String,
    #[serde(flatten)]
    done: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Does `work` for every project; one that fails does not keep the others from their turn, and the first failure is the
/// result.
fn each<T: serde::Serialize>(
    global: &Global,
    farm: &Farm,
    projects: &[Project],
    work: impl Fn(&Farm, &Project) -> Result<T, FarmError>,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut first = None;
    for project in projects {
        let done = work(farm, project);
        let interrupted = matches!(&done, Err(e) if e.exit_status() == crate::farm::ExitStatus::Interrupted);
        let (done, error) = match done {
            Ok(done) => (Some(done), None),
            Err(e) => {
                let said = std::iter::successors(Some(&e as &dyn std::error::Error), |e| e.source());
                let text = said.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                if projects.len() > 1 {
                    terminal::say(&format!("{}: {text}", project.name));
                }
                first = first.or(Some(e));
                (None, Some(text))
            }
        };
        rows.push(Row { project: project.name.clone(), done, error });
        if interrupted {
            break;
        }
    }
    match first {
        // With several projects the document says which of them failed; the exit code is the first failure's.
        Some(e) if projects.len() > 1 && global.json => {
            print_json(&rows)?;
            Err(super::Said(e).into())
        }
        Some(e) => Err(e.into()),
        None if global.json => print_json(&rows),
        None => Ok(()),
    }
}

fn sync(global: &Global, names: &[String], all: bool) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(terminal.clone())?;
    let projects = farm.wanted_projects(names, all)?;
    if projects.is_empty() {
        terminal::say(
            "nothing is mirrored yet; name a project, or use --all; `hab-build mirror list --all` shows them",
        );
    }
    let result = each(global, &farm, &projects, |farm, project| {
        let synced = farm.sync_project(project)?;
        let waits = match synced.frozen.len() {
            0 => String::new(),
            n => format!(", {n} waiting for `hab-build mirror accept`: {}", synced.frozen.join(", ")),
        };
        let (moved, from) = (synced.moved, &synced.upstream);
        terminal::say(&format!("{}: {moved} refs moved, from {from}{waits}", project.name));
        Ok(synced)
    });
    terminal.finish();
    result
}

fn upkeep(global: &Global, names: &[String]) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(terminal.clone())?;
    let projects = farm.wanted_projects(names, false)?;
    let result = each(global, &farm, &projects, Farm::keep_up);
    terminal.finish();
    result
}

fn line(row: &MirrorRow) -> String {
    if !row.mirrored {
        return format!("{:<28} not mirrored; {}", row.project, row.urls.join(" "));
    }
    let last =
        row.state.succeeded.map_or_else(|| "never synced".to_owned(), |at| format!("synced {}", stamp(at)));
    let lag = row.lag.filter(|lag| *lag > 0).map_or_else(String::new, |lag| format!(", {lag} s late"));
    let failed = match row.state.failures {
        0 => String::new(),
        n => format!(", failed {n} times since"),
    };
    let frozen = match row.frozen.as_slice() {
        [] => String::new(),
        names => format!(", waiting: {}", names.join(" ")),
    };
    let (mib, refs) = (row.size >> 20, row.refs);
    format!("{:<28} {mib:>6} MiB {refs:>6} refs, {last}{lag}{failed}{frozen}", row.project)
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}
