//! Lists projects and changes of their refs, and adds, checks and cleans up projects.

use hab_mirror::git::{Change, without_user};
use hab_mirror::projects::{Interval, Project};
use hab_oci::{few, shown};

use crate::cli::{Global, print_json, terminal, usage};
use hab_farm::Farm;
use hab_farm::mirrors::MirrorRow;

#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// The project's name
    name: String,
    /// Its upstreams, the preferred one first: https, ssh or git addresses
    #[arg(required = true)]
    urls: Vec<String>,
    /// The refs to mirror, as full names with at most one * [default: refs/heads/* and refs/tags/*]
    #[arg(long = "ref", value_name = "PATTERN")]
    refs: Vec<String>,
    /// The policy that judges its refs
    #[arg(long)]
    policy: Option<String>,
    /// How often to ask upstream while serving: 30m, 1h, 1d
    #[arg(long, default_value = "1h")]
    interval: String,
    /// The project that it is a fork of, to keep their objects together
    #[arg(long, value_name = "PROJECT")]
    fork_of: Option<String>,
    /// A check of git's fsck that its history is known to fail, such as badTimezone
    #[arg(long, value_name = "CHECK")]
    tolerate: Vec<String>,
}

pub fn list(global: &Global, farm: &Farm, all: bool) -> anyhow::Result<()> {
    let rows = farm.mirrors().rows(all)?;
    if rows.is_empty() {
        terminal::say("nothing is mirrored yet; `hab-build mirror list --all` shows the projects there are");
    }
    for row in &rows {
        terminal::say(&line(row));
        for more in below(row) {
            terminal::say(&format!("    {more}"));
        }
    }
    if global.json { print_json(&rows) } else { Ok(()) }
}

pub fn log(global: &Global, farm: &Farm, project: &str) -> anyhow::Result<()> {
    let entries = farm.mirrors().log(project)?;
    for e in &entries {
        // HEAD's value is a name and not an id, so it must be shown whole.
        let short = |id: &Option<String>| match id.as_deref() {
            Some(name) if e.kind == Change::Head => shown(name).to_string(),
            Some(id) => id.get(..12).unwrap_or("-").to_owned(),
            None => "-".to_owned(),
        };
        let (old, new, kind) = (short(&e.old), short(&e.new), e.kind);
        let (at, name, from) = (stamp(e.at), shown(&e.reference), shown(&e.upstream));
        terminal::say(&format!("{at} {kind:<12} {old:<12} {new:<12} {name} {from}"));
    }
    if global.json { print_json(&entries) } else { Ok(()) }
}

pub fn verify(global: &Global, project: Option<&str>, quick: bool) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let projects = match project {
        Some(project) => vec![project.to_owned()],
        None => farm.mirrors().rows(false)?.into_iter().map(|row| row.project).collect(),
    };
    let (mut rows, mut first) = (Vec::new(), None);
    for project in &projects {
        match farm.mirrors().check(project, !quick) {
            Ok(row) => {
                let head = row.head.as_ref().map_or_else(String::new, ToString::to_string);
                terminal::say(&format!("{project}: {} changes, all of them here; head {head}", row.entries));
                rows.push(row);
            }
            Err(e) if projects.len() > 1 => {
                terminal::say(&format!("{project}: {e}"));
                if let Some(hint) = e.hint() {
                    terminal::hint(&hint);
                }
                first = first.or(Some(e));
            }
            Err(e) => return Err(e.into()),
        }
    }
    match farm.finish(first) {
        Some(e) => Err(e.into()),
        None if global.json => print_json(&rows),
        None => Ok(()),
    }
}

pub fn gc(global: &Global, farm: &Farm, dry_run: bool) -> anyhow::Result<()> {
    let found = farm.mirrors().sweep(dry_run)?;
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
        project.refs = refs.map_err(|e| usage(anyhow::anyhow!(e)))?;
    }
    project.interval = Interval::try_from(args.interval.clone()).map_err(|e| usage(anyhow::anyhow!(e)))?;
    project.policy.clone_from(&args.policy);
    project.fork_of.clone_from(&args.fork_of);
    project.tolerate.clone_from(&args.tolerate);
    let path = farm.projects().add(&project)?;
    terminal::say(&format!(
        "{} is written; `hab-build mirror sync {}` mirrors it",
        path.display(),
        args.name
    ));
    // The file keeps the addresses as they were given. Nobody else needs the passwords in them.
    project.urls = project.urls.iter().map(|url| without_user(url)).collect();
    if global.json { print_json(&project) } else { Ok(()) }
}

fn line(row: &MirrorRow) -> String {
    if !row.mirrored {
        return format!("{:<28} not mirrored; {}", row.project, few(row.urls.iter().map(shown), 20, " "));
    }
    let last = match row.state.succeeded {
        Some(at) => format!("synced {}", stamp(at)),
        None if row.broken.is_some() => "not known when synced".to_owned(),
        None if row.entries > 0 => "imported".to_owned(),
        None => "never synced".to_owned(),
    };
    let lag = row.lag.filter(|lag| *lag > 0).map_or_else(String::new, |lag| format!(", {lag} s late"));
    let failed = match row.state.failures {
        0 => String::new(),
        1 => ", failed once since".to_owned(),
        n => format!(", failed {n} times since"),
    };
    let broken = if row.broken.is_some() { ", BROKEN" } else { "" };
    let (mib, refs) = (row.size >> 20, row.refs);
    format!("{:<28} {mib:>6} MiB {refs:>6} refs, {last}{lag}{failed}{broken}", row.project)
}

/// The lines about a project that a person may have to act on.
fn below(row: &MirrorRow) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(broken) = &row.broken {
        lines.push(format!("broken: {broken}"));
    }
    lines.extend(row.hint.iter().map(|hint| format!("hint: {hint}")));
    if let Some(error) = &row.state.error {
        lines.push(format!("last error: {error}"));
    }
    if !row.frozen.is_empty() {
        let names = few(row.frozen.iter().map(shown), 20, " ");
        lines.push(format!("waiting for `hab-build mirror accept {}`: {names}", row.project));
    }
    if row.deleted > 0 {
        let word = if row.deleted == 1 { "ref is" } else { "refs are" };
        lines.push(format!("{} {word} deleted upstream and kept here", row.deleted));
    }
    if row.state.left_out > 0 {
        let (count, word) = (row.state.left_out, if row.state.left_out == 1 { "ref" } else { "refs" });
        lines.push(format!("{count} {word} of upstream could not be mirrored; the next sync says why"));
    }
    if let Some(lacking) = row.state.lacking.as_ref().filter(|lacking| !lacking.is_nothing()) {
        if !lacking.submodules.is_empty() {
            let paths = few(lacking.submodules.iter().map(|s| shown(&s.path)), 5, ", ");
            lines.push(format!("submodules are not mirrored with it: {paths}"));
        }
        if lacking.lfs_files > 0 {
            let (count, bytes) = (lacking.lfs_files, lacking.lfs_bytes);
            lines.push(format!(
                "files that Git LFS keeps elsewhere are not mirrored: {count} files of {bytes} bytes"
            ));
        }
    }
    lines
}

pub(super) fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}
