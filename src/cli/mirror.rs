//! `hab-build mirror`: what is mirrored, what moved, and whether all of it is still here.

use std::sync::Arc;

use super::{Global, depends, print_json, terminal};
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
    /// Mirror the sources that a revision's depends folder names
    #[command(after_help = depends::PINNED)]
    Depends(depends::Fetch),
    /// Write those sources as a SOURCES_PATH that make takes without a network
    #[command(after_help = depends::PINNED)]
    ExportDepends(depends::Export),
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Depends(args) => return depends::fetch(global, args),
        What::ExportDepends(args) => return depends::export(global, args),
        _ => {}
    }
    let farm = global.open(Arc::new(Quiet::default()))?;
    match &args.what {
        What::Depends(_) | What::ExportDepends(_) => Ok(()),
        What::List => {
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
