//! Docker: daemon.json, of which two keys are ours.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Files, PlanError};
use crate::host::Host;

const DAEMON: &str = "etc/docker/daemon.json";

pub(super) fn files(host: &mut Host<'_>) -> Result<Files, PlanError> {
    let registry = host.registry;
    let mut daemon: Map<String, Value> = match host.text(DAEMON) {
        Some(text) if !text.trim().is_empty() => serde_json::from_str(&text)
            .map_err(|e| PlanError::new(DAEMON, format!("is not an object in JSON: {e}")))?,
        _ => Map::new(),
    };
    let mut notes = Vec::new();
    let mut insecure = list(&daemon, "insecure-registries")?;
    if registry.insecure() && !insecure.iter().any(|name| name == registry.host()) {
        insecure.push(registry.host().into());
    }
    let mut mirrors = list(&daemon, "registry-mirrors")?;
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
    daemon.insert("insecure-registries".to_owned(), Value::Array(insecure));
    daemon.insert("registry-mirrors".to_owned(), Value::Array(mirrors));
    notes.push(format!(
        "Docker cannot be kept from asking Docker Hub, which its mirrors fall back to, and registry-mirrors is for Docker \
         Hub alone: name images in full, such as {}/docker.io/library/alpine, and block the way out",
        registry.host()
    ));
    let text = format!("{:#}\n", Value::Object(daemon));
    Ok(Files { files: BTreeMap::from([(DAEMON.to_owned(), text)]), notes })
}

/// What a plan may write beside certificates.
pub(super) fn written() -> Vec<String> {
    vec![DAEMON.to_owned()]
}

fn list(daemon: &Map<String, Value>, key: &str) -> Result<Vec<Value>, PlanError> {
    match daemon.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.clone()),
        Some(_) => Err(PlanError::new(DAEMON, format!("has {key} that is not a list"))),
    }
}
