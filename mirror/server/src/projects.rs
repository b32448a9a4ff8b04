//! Lists the repositories that are served below `/git/`: as text with one a line, or as JSON for a client that accepts
//! it.
//!
//! The list has relative addresses, to be appended to its own. So they stay right behind a proxy that serves the list
//! below another path.

use std::fs;
use std::io;
use std::path::Path as FilePath;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hab_mirror::git::is_project_name;
use serde::Serialize;

use crate::Mirror;
use crate::error::Error;
use crate::git::is_served;

/// The most projects that are listed.
const MOST: usize = 10_000;

/// A project that is served.
#[derive(Serialize)]
struct Project {
    name: String,
    /// The relative address of everything that is mirrored.
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<String>,
    /// The relative address of the part that the project's policy accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<String>,
}

#[derive(Serialize)]
struct List {
    projects: Vec<Project>,
}

/// Redirects `/git` to `/git/`: relative addresses need a slash at the end.
pub(crate) async fn redirect() -> Response {
    // A relative redirect, which is right behind a proxy that serves it below another path.
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "git/")]).into_response()
}

/// Answers `/git/`.
pub(crate) async fn list(State(mirror): State<Mirror>, request: Request) -> Result<Response, Error> {
    let folder = mirror.git.clone();
    let projects = tokio::task::spawn_blocking(move || projects(&folder)).await?.map_err(Error::Git)?;
    let vary = [(header::VARY, "Accept"), (header::CACHE_CONTROL, "no-cache")];
    if wants_json(request.headers()) {
        return Ok((vary, Json(List { projects })).into_response());
    }
    let mut text = String::new();
    for path in projects.iter().flat_map(|project| project.git.iter().chain(&project.verified)) {
        text.push_str(path);
        text.push('\n');
    }
    Ok((vary, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// The projects that are served now, by name.
fn projects(folder: &FilePath) -> io::Result<Vec<Project>> {
    let (all, verified) = (names(folder)?, names(&folder.join("verified"))?);
    let mut names: Vec<&String> = all.iter().chain(&verified).collect();
    names.sort();
    names.dedup();
    let project = |name: &String| Project {
        name: name.clone(),
        git: all.contains(name).then(|| format!("{name}.git")),
        verified: verified.contains(name).then(|| format!("verified/{name}.git")),
    };
    Ok(names.into_iter().take(MOST).map(project).collect())
}

/// The names of the projects whose repositories in this folder are served.
fn names(folder: &FilePath) -> io::Result<std::collections::BTreeSet<String>> {
    let mut names = std::collections::BTreeSet::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Nothing is mirrored yet.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(project) = name.strip_suffix(".git") else { continue };
        if is_project_name(project) && is_served(&entry.path()) {
            names.insert(project.to_owned());
        }
    }
    Ok(names)
}

/// Whether a client's Accept header names JSON (RFC 9110, section 12.5.1).
fn wants_json(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|range| {
        let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
        let refused = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
        });
        kind.trim().eq_ignore_ascii_case("application/json") && !refused
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_who_asks_for_it_by_name() {
        for (accept, json) in [
            ("", false),
            ("*/*", false),
            ("text/html, application/xhtml+xml, */*;q=0.8", false),
            ("application/json", true),
            ("text/plain;q=0.5, Application/JSON;q=0.9", true),
            ("application/json;q=0, text/plain", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_json(&headers), json, "{accept}");
        }
        assert!(!wants_json(&HeaderMap::new()));
    }
}
