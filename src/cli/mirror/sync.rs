//! `hab-build mirror sync` and `hab-build mirror upkeep`.

use hab_mirror::projects::Project;

use hab_oci::{few, shown};

use crate::cli::{AlreadyPrinted, Global, print_json, terminal};
use hab_farm::{Farm, FarmError, Fault, chain};

/// The result for one project in a run over several.
#[derive(serde::Serialize)]
struct Row<T> {
    project: String,
    #[serde(flatten)]
    done: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Does `work` for every project. A project that fails does not stop those after it, and the first failure is the
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
        let interrupted = matches!(&done, Err(e) if e.fault() == Fault::Cancelled);
        let (done, error) = match done {
            Ok(done) => (Some(done), None),
            Err(e) => {
                let text = chain(&e);
                if projects.len() > 1 {
                    terminal::say(&format!("{}: {text}", project.name));
                    if let Some(hint) = e.hint() {
                        terminal::hint(&hint);
                    }
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
        // With several projects, the document says which of them failed, and the exit code is that of the first
        // failure.
        Some(e) if projects.len() > 1 && global.json => {
            print_json(&rows)?;
            Err(AlreadyPrinted(e).into())
        }
        Some(e) => Err(e.into()),
        None if global.json => print_json(&rows),
        None => Ok(()),
    }
}

pub fn sync(global: &Global, names: &[String], all: bool) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let projects = farm.mirrors().wanted(names, all)?;
    if projects.is_empty() {
        terminal::say(
            "nothing is mirrored yet; name a project, or use --all; `hab-build mirror list --all` shows them",
        );
    }
    let result = each(global, &farm, &projects, |farm, project| {
        let synced = farm.mirrors().sync(project)?;
        farm.releases().sync_project(project)?;
        let waits = match synced.frozen.len() {
            0 => String::new(),
            n => format!(
                ", {n} waiting for `hab-build mirror accept`: {}",
                few(synced.frozen.iter().map(shown), 20, ", ")
            ),
        };
        let (moved, from) = (synced.moved, &synced.upstream);
        let word = if moved == 1 { "ref" } else { "refs" };
        let head = synced.head.as_ref().map_or_else(String::new, |name| format!(", HEAD is {}", shown(name)));
        let deleted = match synced.deleted {
            0 => String::new(),
            n => format!(", {n} deleted there and kept here"),
        };
        let left_out = match synced.left_out.len() {
            0 => String::new(),
            n => format!(
                ", {n} not mirrored: {}",
                few(synced.left_out.iter().map(|l| shown(&l.reference)), 5, ", ")
            ),
        };
        terminal::say(&format!(
            "{}: {moved} {word} moved, from {from}{head}{deleted}{left_out}{waits}",
            project.name
        ));
        Ok(synced)
    });
    farm.finish(result)
}

pub fn upkeep(global: &Global, names: &[String]) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let projects = farm.mirrors().wanted(names, false)?;
    let result = each(global, &farm, &projects, |farm, project| farm.mirrors().keep_up(project));
    farm.finish(result)
}
