//! Projects and their refs: what there is, what moved, and what a person decides.

use hab_mirror::git::without_user;
use hab_mirror::projects::{Interval, Project};
use hab_oci::{few, shown};

use crate::cli::{Global, print_json, terminal, usage};
use crate::farm::{Farm, MirrorRow};

#[derive(Debug, clap::Args)]
pub struct AddArgs {
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

pub fn list(global: &Global, farm: &Farm, all: bool) -> anyhow::Result<()> {
    let rows = farm.mirrors(all)?;
    for row in &rows {
        terminal::say(&line(row));
    }
    if global.json { print_json(&rows) } else { Ok(()) }
}

pub fn log(global: &Global, farm: &Farm, project: &str) -> anyhow::Result<()> {
    let entries = farm.mirror_log(project)?;
    for e in &entries {
        let short = |id: &Option<String>| id.as_deref().and_then(|id| id.get(..12)).unwrap_or("-").to_owned();
        let (old, new, kind) = (short(&e.old), short(&e.new), e.kind);
        let (at, name, from) = (stamp(e.at), shown(&e.reference), shown(&e.upstream));
        terminal::say(&format!("{at} {kind:<12} {old:<12} {new:<12} {name} {from}"));
    }
    if global.json { print_json(&entries) } else { Ok(()) }
}

pub fn accept(
    global: &Global,
    farm: &Farm,
    project: &str,
    reference: &str,
    value: Option<&str>,
) -> anyhow::Result<()> {
    let accepted = farm.accept_ref(project, reference, value)?;
    let (name, old, new) = (shown(&accepted.reference), &accepted.old, &accepted.new);
    terminal::say(&if old == new {
        format!("{name} of {project} stays at {new}")
    } else {
        format!("{name} of {project} is {new} from now on; {old} stays in its history")
    });
    if global.json { print_json(&accepted) } else { Ok(()) }
}

pub fn verify(global: &Global, project: Option<&str>, quick: bool) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(terminal.clone())?;
    let projects = match project {
        Some(project) => vec![project.to_owned()],
        None => farm.mirrors(false)?.into_iter().map(|row| row.project).collect(),
    };
    let (mut rows, mut first) = (Vec::new(), None);
    for project in &projects {
        match farm.mirror_verify(project, !quick) {
            Ok(row) => {
                let head = row.head.as_ref().map_or_else(String::new, ToString::to_string);
                terminal::say(&format!("{project}: {} changes, all of them here; head {head}", row.entries));
                rows.push(row);
            }
            Err(e) if projects.len() > 1 => {
                terminal::say(&format!("{project}: {e}"));
                first = first.or(Some(e));
            }
            Err(e) => return Err(e.into()),
        }
    }
    terminal.finish();
    match first {
        Some(e) => Err(e.into()),
        None if global.json => print_json(&rows),
        None => Ok(()),
    }
}

pub fn gc(global: &Global, farm: &Farm, dry_run: bool) -> anyhow::Result<()> {
    let found = farm.mirror_gc(dry_run)?;
    for one in &found {
        terminal::say(&format!("{} bytes {}: {}", one.size, one.path.display(), one.what));
    }
    let total: u64 = found.iter().map(|one| one.size).sum();
    let word = if dry_run { "would be removed" } else { "removed" };
    terminal::say(&format!("{total} bytes {word}"));
    if global.json { print_json(&found) } else { Ok(()) }
}

pub fn add(global: &Global, farm: &Farm, args: &AddArgs) -> anyhow::Result<()> {
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
    // The file has its addresses as they were given; nobody else needs the passwords in them.
    project.urls = project.urls.iter().map(|url| without_user(url)).collect();
    if global.json { print_json(&project) } else { Ok(()) }
}

fn line(row: &MirrorRow) -> String {
    if !row.mirrored {
        return format!("{:<28} not mirrored; {}", row.project, few(row.urls.iter().map(shown), 20, " "));
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
        names => format!(", waiting: {}", few(names.iter().map(shown), 20, " ")),
    };
    let (mib, refs) = (row.size >> 20, row.refs);
    format!("{:<28} {mib:>6} MiB {refs:>6} refs, {last}{lag}{failed}{frozen}", row.project)
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}
