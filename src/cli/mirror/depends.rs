//! `hab-build mirror depends` and `export-depends`: the sources of Bitcoin Core's depends packages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hab_mirror::depends::{Selection, Triplet};

use crate::cli::{Global, complete, print_json, terminal, usage};
use hab_farm::{Farm, FarmError, counted};

pub const PINNED: &str = "\
Nothing is judged here: each file is pinned by the sha256 that the revision itself names, and by nothing else. Verify the
revision first (`hab-build verify tag`), where it matters who wrote that.";

#[derive(Debug, clap::Args)]
struct Selected {
    /// A platform to build for, such as aarch64-linux-gnu [default: those that releases are built for]
    #[arg(long = "host", value_name = "TRIPLET")]
    hosts: Vec<String>,
    /// A platform to build on [default: x86_64 and aarch64 Linux]
    #[arg(long = "build", value_name = "TRIPLET")]
    builds: Vec<String>,
    /// A variable on make's command line, such as NO_QT=1
    #[arg(long = "set", value_name = "NAME=VALUE")]
    options: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Fetch {
    /// The mirrored project
    #[arg(add = complete::projects())]
    project: String,
    /// Its tag or commit
    revision: String,
    #[command(flatten)]
    selected: Selected,
    /// Only list the sources; fetch nothing
    #[arg(long)]
    list: bool,
}

#[derive(Debug, clap::Args)]
pub struct Export {
    /// The folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The project's tag or commit
    revision: String,
    /// The mirrored project
    #[arg(long, default_value = "bitcoin", add = complete::projects())]
    project: String,
    #[command(flatten)]
    selected: Selected,
}

pub fn fetch(global: &Global, args: &Fetch) -> anyhow::Result<()> {
    let selection = args.selected.selection()?;
    let depends = with_farm(global, |farm| {
        let depends = farm.depends().of(&args.project, &args.revision, &selection)?;
        if !args.list {
            farm.depends().fetch(&depends)?;
        }
        Ok(depends)
    })?;
    for source in &depends.sources {
        let (package, version) = (&source.package, &source.version);
        let line = format!("{}  {}  {package} {version}", source.digest.hex(), source.file);
        match (args.list, global.json) {
            // The list is what was asked for. Otherwise these lines only report what was done.
            (true, false) => terminal::print(&line),
            _ => terminal::say(&line),
        }
    }
    let done = if args.list { "named" } else { "here" };
    let (project, revision, commit) = (&depends.project, &depends.revision, &depends.commit);
    let sources = counted(depends.sources.len() as u64, "source");
    terminal::say(&format!("{done}: {sources} of {project} {revision} ({commit})"));
    if global.json { print_json(&depends) } else { Ok(()) }
}

pub fn export(global: &Global, args: &Export) -> anyhow::Result<()> {
    let selection = args.selected.selection()?;
    let exported = with_farm(global, |farm| {
        let depends = farm.depends().of(&args.project, &args.revision, &selection)?;
        farm.depends().fetch(&depends)?;
        farm.depends().export(&depends, &args.folder)
    })?;
    let folder = exported.folder.display();
    let (files, stamps) = (counted(exported.files as u64, "file"), counted(exported.stamps as u64, "stamp"));
    terminal::say(&format!("{folder}: {files} and {stamps}"));
    terminal::say(&format!("make -C depends SOURCES_PATH={folder}"));
    if global.json { print_json(&exported) } else { Ok(()) }
}

fn with_farm<T>(global: &Global, work: impl FnOnce(&Farm) -> Result<T, FarmError>) -> anyhow::Result<T> {
    let farm = global.farm()?;
    Ok(farm.finish(work(&farm))?)
}

impl Selected {
    fn selection(&self) -> anyhow::Result<Selection> {
        let parse = |names: &[String]| {
            names.iter().map(|name| name.parse::<Triplet>()).collect::<Result<Vec<_>, _>>()
        };
        let wrong = |e| usage(e);
        let mut selection = Selection::releases().map_err(wrong)?;
        if !self.hosts.is_empty() {
            selection.hosts = parse(&self.hosts).map_err(wrong)?;
        }
        if !self.builds.is_empty() {
            selection.builds = parse(&self.builds).map_err(wrong)?;
        }
        let options = self.options.iter().map(|option| {
            let (name, value) = option.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let options: Option<BTreeMap<_, _>> = options.collect();
        let malformed = || usage(anyhow::anyhow!("--set needs a variable and its value, such as NO_QT=1"));
        selection.options = options.ok_or_else(malformed)?;
        Ok(selection)
    }
}
