//! `hab-build mirror`: what is mirrored, what moved, and whether all of it is still here.

use std::sync::Arc;

use super::{Global, packages, print_json, terminal};
use crate::farm::Quiet;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The git projects that are mirrored here
    List,
    /// Every change of a project's refs that was ever seen
    Log {
        /// The project
        project: String,
    },
    /// Check a project's ref journal, and that every object it names is still here
    Verify {
        /// The project; all without one
        project: Option<String>,
    },
    /// Keep and serve every package, source and crate that a toolchain's or a recipe's lock names
    Packages,
    /// Keep and serve every crate that a Cargo.lock names
    Crates {
        /// The locks, of version 3 or 4
        #[arg(required = true, value_name = "CARGO.LOCK")]
        locks: Vec<std::path::PathBuf>,
    },
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let farm = || global.open(Arc::new(Quiet::default()));
    match &args.what {
        What::Packages => packages::run(global),
        What::Crates { locks } => packages::crates(global, locks),
        What::List => {
            let farm = farm()?;
            let rows = farm.mirrors()?;
            for row in &rows {
                let newest = row.newest.map_or_else(|| "never".to_owned(), stamp);
                terminal::say(&format!(
                    "{:<20} {:>6} changes, the newest {newest}",
                    row.project, row.entries
                ));
            }
            if global.json { print_json(&rows) } else { Ok(()) }
        }
        What::Log { project } => {
            let farm = farm()?;
            let entries = farm.mirror_log(project)?;
            for e in &entries {
                let short =
                    |id: &Option<String>| id.as_deref().and_then(|id| id.get(..12)).unwrap_or("-").to_owned();
                let (old, new, kind) = (short(&e.old), short(&e.new), e.kind);
                terminal::say(&format!(
                    "{} {kind:<9} {old:<12} {new:<12} {} {}",
                    stamp(e.at),
                    e.reference,
                    e.upstream
                ));
            }
            if global.json { print_json(&entries) } else { Ok(()) }
        }
        What::Verify { project } => {
            let farm = farm()?;
            let projects = match project {
                Some(project) => vec![project.clone()],
                None => farm.mirrors()?.into_iter().map(|row| row.project).collect(),
            };
            let rows = projects.iter().map(|p| farm.mirror_verify(p)).collect::<Result<Vec<_>, _>>()?;
            for row in &rows {
                terminal::say(&format!(
                    "{}: {} changes, all of them here; head {}",
                    row.project, row.entries, row.head
                ));
            }
            if global.json { print_json(&rows) } else { Ok(()) }
        }
    }
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}
