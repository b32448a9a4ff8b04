//! podman and CRI-O: registries.conf, or a drop-in beside somebody else's, and policy.json.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Files, HEAD, PlanError};
use crate::check::{Conf, ENDS};
use crate::host::Host;
use crate::{Registry, Runtime};

const CONF: &str = "etc/containers/registries.conf";
/// Its name sorts last, because the last drop-in about a registry counts.
const OURS: &str = "etc/containers/registries.conf.d/zz-hab-build.conf";
const POLICY: &str = "etc/containers/policy.json";

pub(super) fn files(host: &mut Host<'_>, runtime: Runtime) -> Result<Files, PlanError> {
    let mut files = BTreeMap::new();
    let others = others(host);
    let conf = registries_conf(host.registry, &others);
    // Another program's file stays as it is, and its other settings, such as short names, still count.
    let main = host.text(CONF);
    let ours = main.as_ref().is_none_or(|text| text.starts_with(HEAD));
    // CRI-O and podman share two files. This program's own file may be one of them, and may be for another farm.
    if ours && (runtime == Runtime::Podman || main.is_some()) {
        files.insert(CONF.to_owned(), conf.clone());
    }
    if runtime == Runtime::Crio || !ours || !others.is_empty() || host.has(OURS) {
        files.insert(OURS.to_owned(), conf);
    }
    let policy = match host.text(POLICY) {
        Some(text) => laid_over(host.registry, &text)?,
        None => new_policy(host.registry),
    };
    files.insert(POLICY.to_owned(), format!("{policy:#}\n"));
    let note = "registries that are not named here are blocked if their names end in .com or another known way; \
         policy.json refuses the others only after they were asked: block the way out, too";
    Ok(Files { files, notes: vec![note.to_owned()] })
}

/// The files that a plan may write, except certificates.
pub(super) fn written() -> Vec<String> {
    [CONF, OURS, POLICY].map(str::to_owned).to_vec()
}

/// Prefixes in other programs' files. Only an entry for the same prefix overrides them.
fn others(host: &mut Host<'_>) -> Vec<String> {
    let ours: &[&str] =
        if host.text(CONF).is_some_and(|text| text.starts_with(HEAD)) { &[OURS, CONF] } else { &[OURS] };
    let conf = Conf::of_host_without(host, ours);
    let registry = host.registry;
    let ways = conf.entries.iter().filter(|(_, entry)| !entry.blocked && !registry.is_here(&entry.location));
    let known =
        |prefix: &&String| registry.upstreams.contains(prefix) || prefix.starts_with("*.") && is_end(prefix);
    ways.map(|(prefix, _)| prefix).filter(|prefix| !known(prefix)).cloned().collect()
}

fn is_end(prefix: &str) -> bool {
    ENDS.iter().any(|end| prefix.strip_prefix("*.") == Some(end))
}

/// Writes a registries.conf. A prefix whose location is the farm is pulled from nowhere else. The longest prefix
/// decides.
fn registries_conf(registry: &Registry, others: &[String]) -> String {
    let mut text = format!("{HEAD}unqualified-search-registries = []\nshort-name-mode = \"enforcing\"\n");
    let (host, insecure) = (registry.host(), registry.insecure());
    let mapped = |text: &mut String, name: &str| {
        let _ = write!(
            text,
            "\n[[registry]]\nprefix = {name:?}\nlocation = \"{host}/{name}\"\ninsecure = {insecure}\n"
        );
    };
    for name in &registry.upstreams {
        mapped(&mut text, name);
    }
    let _ = write!(text, "\n[[registry]]\nlocation = \"{host}\"\ninsecure = {insecure}\n");
    for prefix in others {
        let upstream = registry.upstreams.iter().any(|name| prefix.starts_with(&format!("{name}/")));
        if upstream {
            mapped(&mut text, prefix);
        } else if prefix != host {
            let _ = write!(text, "\n[[registry]]\nprefix = {prefix:?}\nblocked = true\n");
            // An entry must have a location, unless its prefix has a star.
            if !prefix.starts_with("*.") {
                let _ = writeln!(text, "location = {prefix:?}");
            }
        }
    }
    for end in ENDS {
        let _ = write!(text, "\n[[registry]]\nprefix = \"*.{end}\"\nblocked = true\n");
    }
    text
}

fn anything() -> Value {
    json!([{ "type": "insecureAcceptAnything" }])
}

/// Transports that are not registries. They were accepted before, and stay accepted.
fn elsewhere() -> impl Iterator<Item = (String, Value)> {
    let names = ["containers-storage", "docker-daemon", "oci", "oci-archive", "docker-archive", "dir"];
    names.into_iter().map(|name| (name.to_owned(), json!({ "": anything() })))
}

fn names(registry: &Registry) -> impl Iterator<Item = &str> {
    registry.upstreams.iter().map(String::as_str).chain([registry.host()])
}

fn new_policy(registry: &Registry) -> Value {
    let docker: Map<String, Value> = names(registry).map(|name| (name.to_owned(), anything())).collect();
    let mut transports: Map<String, Value> = elsewhere().collect();
    transports.insert("docker".to_owned(), Value::Object(docker));
    json!({ "default": [{ "type": "reject" }], "transports": transports })
}

/// The present policy, with all registries refused except the farm's. A rule for the farm's names that asks for
/// signatures stays.
fn laid_over(registry: &Registry, text: &str) -> Result<Value, PlanError> {
    let bad = |cause: String| PlanError::new(POLICY, cause);
    let mut policy: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| bad(format!("is not a policy in JSON: {e}")))?;
    let rejects = |rules: Option<&Value>| {
        let rules = rules.and_then(Value::as_array);
        rules.is_some_and(|rules| rules.iter().any(|rule| rule["type"] == "reject"))
    };
    let was_closed = rejects(policy.get("default"));
    let mut transports = match policy.remove("transports") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(transports)) => transports,
        Some(_) => return Err(bad("has transports that are not an object".to_owned())),
    };
    let mut docker = match transports.remove("docker") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(docker)) => docker,
        Some(_) => return Err(bad("has a transport docker that is not an object".to_owned())),
    };
    let here = |name: &str| {
        registry.is_here(name)
            || registry.upstreams.iter().any(|known| name == known || name.starts_with(&format!("{known}/")))
    };
    docker.retain(|name, rules| rejects(Some(rules)) || (!name.is_empty() && here(name)));
    for name in names(registry) {
        docker.entry(name).or_insert_with(anything);
    }
    transports.insert("docker".to_owned(), Value::Object(docker));
    // A policy that already refused everything by default names what it accepts.
    if !was_closed {
        for (name, rules) in elsewhere() {
            transports.entry(name).or_insert(rules);
        }
    }
    policy.insert("default".to_owned(), json!([{ "type": "reject" }]));
    policy.insert("transports".to_owned(), Value::Object(transports));
    Ok(Value::Object(policy))
}
