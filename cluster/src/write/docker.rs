//! Docker: daemon.json, of which two keys are the farm's.
//!
//! Docker refuses a daemon.json with a key that it does not know, and the format has no comments. A file beside it
//! records what this program wrote, so that settings for another farm replace that part and leave the operator's alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Files, PlanError, versions};
use crate::host::Host;

const DAEMON: &str = "etc/docker/daemon.json";
const RECORD: &str = "etc/docker/hab-build.json";
const INSECURE: &str = "insecure-registries";
const MIRRORS: &str = "registry-mirrors";

/// What this program wrote into daemon.json.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Record {
    insecure_registries: Vec<String>,
}

impl Record {
    fn of(host: &mut Host<'_>) -> Result<Option<Self>, PlanError> {
        let Some(text) = host.text(RECORD) else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|e| PlanError::new(RECORD, format!("is not what this program writes: {e}")))
    }
}

pub(super) fn files(host: &mut Host<'_>) -> Result<Files, PlanError> {
    let registry = host.registry;
    let mut daemon: Map<String, Value> = match host.text(DAEMON) {
        Some(text) if !text.trim().is_empty() => serde_json::from_str(&text)
            .map_err(|e| PlanError::new(DAEMON, format!("is not an object in JSON: {e}")))?,
        _ => Map::new(),
    };
    let mut notes = Vec::new();
    let (insecure, record) = insecure(host, list(&daemon, INSECURE)?, &mut notes)?;
    let mut mirrors = list(&daemon, MIRRORS)?;
    mirrors.retain(|mirror| {
        let here = mirror.as_str().is_some_and(|mirror| registry.is_here(mirror));
        if !here {
            notes.push(format!(
                "the mirror {} of Docker Hub is left out",
                mirror.as_str().unwrap_or("without an address")
            ));
        }
        here
    });
    daemon.insert(INSECURE.to_owned(), Value::Array(insecure));
    daemon.insert(MIRRORS.to_owned(), Value::Array(mirrors));
    notes.push(format!(
        "Docker cannot be kept from asking Docker Hub, which its mirrors fall back to, and registry-mirrors is for Docker \
         Hub alone: name images in full, such as {}/docker.io/library/alpine, and block the way out",
        registry.host()
    ));
    let text = format!("{:#}\n", Value::Object(daemon));
    let record = format!("{:#}\n", serde_json::json!(record));
    Ok(Files { files: BTreeMap::from([(DAEMON.to_owned(), text), (RECORD.to_owned(), record)]), notes })
}

/// The files that a plan may write, except certificates.
pub(super) fn written() -> Vec<String> {
    [DAEMON, RECORD].map(str::to_owned).to_vec()
}

/// The registries that Docker may ask without TLS: the operator's, and the farm if the farm has no TLS.
fn insecure(
    host: &mut Host<'_>,
    mut names: Vec<Value>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Value>, Record), PlanError> {
    let wanted = host.registry.insecure().then(|| host.registry.host());
    let earlier = Record::of(host)?;
    if earlier.is_none() {
        untold(host, &names, notes);
    }
    let earlier = earlier.unwrap_or_default();
    let written = |name: &str| earlier.insecure_registries.iter().any(|known| known == name);
    names.retain(|name| match name.as_str() {
        Some(name) if written(name) && Some(name) != wanted => {
            notes.push(format!("{name}, which was written for another farm, is removed from {INSECURE}"));
            false
        }
        _ => true,
    });
    let mut record = Record::default();
    if let Some(wanted) = wanted {
        let there = names.iter().any(|name| name == wanted);
        if !there {
            names.push(wanted.into());
        }
        // An entry that the operator wrote stays the operator's.
        if !there || written(wanted) {
            record.insecure_registries.push(wanted.to_owned());
        }
    }
    Ok((names, record))
}

/// Notes entries that may be for an earlier farm, if this program wrote daemon.json and its record is gone.
fn untold(host: &Host<'_>, names: &[Value], notes: &mut Vec<String>) {
    let others = names.iter().filter_map(Value::as_str).filter(|name| *name != host.registry.host());
    let others = others.collect::<Vec<_>>().join(", ");
    if !others.is_empty() && !versions(host, DAEMON).is_empty() {
        notes.push(format!(
            "{others} below {INSECURE} stays, because without /{RECORD} this program does not know whether it wrote \
             that for another farm: if so, take it out"
        ));
    }
}

fn list(daemon: &Map<String, Value>, key: &str) -> Result<Vec<Value>, PlanError> {
    match daemon.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.clone()),
        Some(_) => Err(PlanError::new(DAEMON, format!("has {key} that is not a list"))),
    }
}
