//! Names that a shell completes: recipes, toolchains, projects, policies and images of the farm that HAB_DATA names.
//!
//! What is typed before the word is not looked at, so `--data DIR` does not count here. A farm that is not there yet is
//! not made: then there are no names.

use std::path::PathBuf;
use std::sync::Arc;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use hab_farm::Notes;

use super::{Global, Session};

/// Repositories whose tags are listed, at most: a shell waits for the answer.
const REPOSITORIES: usize = 200;

pub fn recipes() -> ArgValueCandidates {
    names(|farm| farm.recipes().names().into_iter().map(str::to_owned).collect())
}

pub fn toolchains() -> ArgValueCandidates {
    names(|farm| farm.recipes().toolchains().into_iter().map(str::to_owned).collect())
}

/// Projects that are known, mirrored or not.
pub fn projects() -> ArgValueCandidates {
    names(|farm| {
        let known = farm.projects().all();
        known.map(|all| all.iter().map(|project| project.name.clone()).collect()).unwrap_or_default()
    })
}

pub fn policies() -> ArgValueCandidates {
    names(|farm| farm.keyring().policy_names().unwrap_or_default())
}

pub fn repositories() -> ArgValueCandidates {
    names(|farm| {
        let rows = farm.images().repositories().unwrap_or_default();
        rows.into_iter().map(|row| row.name.to_string()).collect()
    })
}

/// `REPOSITORY:TAG`.
pub fn tags() -> ArgValueCandidates {
    names(|farm| {
        let images = farm.images();
        let rows = images.repositories().unwrap_or_default();
        let mut found = Vec::new();
        for row in rows.iter().take(REPOSITORIES) {
            let tags = images.tags(&row.name).unwrap_or_default();
            found.extend(tags.iter().map(|tag| format!("{}:{}", row.name, tag.tag)));
        }
        found
    })
}

fn names(of: fn(&Session) -> Vec<String>) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let found = farm().map(|farm| of(&farm)).unwrap_or_default();
        found.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// The farm, if there is one; nobody is told what it says.
fn farm() -> Option<Session> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let global = Global {
        data: path("HAB_DATA"),
        config: path("HAB_CONFIG"),
        recipes: path("HAB_RECIPES"),
        trust: path("HAB_TRUST"),
        offline: true,
        json: false,
    };
    let is_there = global.data().is_ok_and(|data| data.join("catalog.sqlite").is_file());
    if is_there { global.farm_telling(Arc::new(Notes::new(|_| {}))).ok() } else { None }
}
