//! `hab-build mirror`: mirrored projects, their changes, and whether everything is still here.

mod accept;
mod archives;
mod carry;
mod depends;
mod packages;
mod refs;
mod remove;
mod sync;
mod view;

use std::path::PathBuf;

use super::{Global, complete};
use hab_farm::carry::import::ImportSelection;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the git projects that are mirrored here: size, refs, last success, lag, and refs that wait for `accept`
    List {
        /// List also projects that are known but not mirrored yet
        #[arg(long)]
        all: bool,
    },
    /// Add a project to the known ones; `sync` mirrors it
    Add(refs::AddArgs),
    /// Bring projects up to date with their upstreams
    Sync {
        /// The projects; without names, those that are mirrored already
        #[arg(add = complete::projects())]
        projects: Vec<String>,
        /// All known projects
        #[arg(long, conflicts_with = "projects")]
        all: bool,
    },
    /// List every change of a project's refs that was ever seen
    Log {
        /// The project
        #[arg(add = complete::projects())]
        project: String,
    },
    /// Decide about a tag that moved or a branch that was rewritten: which value it has from now on
    Accept(accept::Args),
    /// Show which refs of a project are in its verified view, and why the others are missing there
    View {
        /// The project
        #[arg(add = complete::projects())]
        project: String,
        /// Only these tags and branches; the history of a branch is judged only if it is named
        references: Vec<String>,
    },
    /// Remove a project's mirror; its journal, its file and everything that was built of it stay
    Remove {
        /// The project
        #[arg(add = complete::projects())]
        project: String,
        /// Remove it; without this, only say what would be removed
        #[arg(long)]
        yes: bool,
    },
    /// Check a project's ref journal, and that every object it names is still here and whole
    Verify {
        /// The project; without one, all
        #[arg(add = complete::projects())]
        project: Option<String>,
        /// Check only the journal and the objects that it names, not everything that they reach
        #[arg(long)]
        quick: bool,
    },
    /// Pack mirrors so that they are served fast, and judge the branches of projects whose policy can
    Upkeep {
        /// The projects; without names, all
        #[arg(add = complete::projects())]
        projects: Vec<String>,
    },
    /// Remove what killed runs left; nothing that a journal ever named is removed
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Write everything that is mirrored into one file, to carry it to a place without a network
    Export {
        /// The file: a zstd-compressed tar
        file: PathBuf,
        /// Only these git projects; without names, all
        #[arg(add = complete::projects())]
        projects: Vec<String>,
        /// An earlier export; leave out what it holds
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
    },
    /// Import what `export` wrote, verified as if it came from an upstream
    Import {
        /// The file
        file: PathBuf,
        /// Take also projects that are not known here, with the addresses that the file gives them
        #[arg(long)]
        new_projects: bool,
        /// Take also the crates that this Cargo.lock names
        #[arg(long, value_name = "CARGO.LOCK")]
        crates: Vec<PathBuf>,
        /// Take also the depends sources that this revision of a project names
        #[arg(long, num_args = 2, value_names = ["PROJECT", "REVISION"])]
        depends: Vec<String>,
    },
    /// Keep and serve every package, source and crate that a toolchain's or a recipe's lock names
    Packages,
    /// Keep and serve every crate that a Cargo.lock names
    Crates {
        /// The Cargo.lock files, of version 3 or 4
        #[arg(required = true, value_name = "CARGO.LOCK")]
        locks: Vec<PathBuf>,
    },
    /// Keep and serve a project's releases: their signed lists of hashes, and the files that those name
    Release {
        /// The project
        #[arg(add = complete::projects())]
        project: String,
        /// The versions; without any, those that the project names
        versions: Vec<String>,
    },
    /// Keep and serve the plain files that a project pins
    Files {
        /// The project
        #[arg(add = complete::projects())]
        project: String,
    },
    /// Keep and serve the sources that a revision's depends folder names
    #[command(after_help = depends::PINNED)]
    Depends(depends::Fetch),
    /// Write a revision's depends sources as a SOURCES_PATH that make can use without a network
    #[command(after_help = depends::PINNED)]
    ExportDepends(depends::Export),
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::List { all } => refs::list(global, &*global.farm()?, *all),
        What::Add(args) => refs::add(global, &*global.farm()?, args),
        What::Sync { projects, all } => sync::sync(global, projects, *all),
        What::Upkeep { projects } => sync::upkeep(global, projects),
        What::Log { project } => refs::log(global, &*global.farm()?, project),
        What::Accept(args) => accept::run(global, &*global.farm()?, args),
        What::View { project, references } => view::run(global, project, references),
        What::Remove { project, yes } => remove::run(global, project, *yes),
        What::Verify { project, quick } => refs::verify(global, project.as_deref(), *quick),
        What::Gc { dry_run } => refs::gc(global, &*global.farm()?, *dry_run),
        What::Export { file, projects, since } => carry::export(global, file, projects, since.as_deref()),
        What::Import { file, new_projects, crates, depends } => {
            // Each two values that clap returns are one pair.
            let depends = depends.chunks_exact(2).map(|two| (two[0].clone(), two[1].clone())).collect();
            let wanted = ImportSelection { strangers: *new_projects, crates: crates.clone(), depends };
            carry::import(global, file, &wanted)
        }
        What::Packages => packages::run(global),
        What::Crates { locks } => packages::crates(global, locks),
        What::Release { project, versions } => archives::release(global, project, versions),
        What::Files { project } => archives::files(global, project),
        What::Depends(args) => depends::fetch(global, args),
        What::ExportDepends(args) => depends::export(global, args),
    }
}
