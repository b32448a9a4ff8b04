//! podman and CRI-O: policy.json (containers-policy.json(5)), which decides only after a registry was asked.

use serde_json::Value;

use crate::Runtime;
use crate::host::Host;

const POLICY: &str = "etc/containers/policy.json";

pub(super) fn check(host: &mut Host<'_>, runtime: Runtime) {
    let path = if runtime == Runtime::Crio { crio(host) } else { POLICY.to_owned() };
    match host.text(&path) {
        Some(text) => judge(host, &path, &text),
        None if host.has(&path) => {}
        None => host.tell(&path, "is not there"),
    }
    if runtime == Runtime::Podman {
        for home in host.homes() {
            let own = format!("{home}/.config/containers/policy.json");
            if let Some(text) = host.text(&own) {
                judge(host, &own, &text);
            }
        }
    }
}

/// The policy that CRI-O reads. Its settings may name another file, and a folder with a policy for each namespace.
fn crio(host: &mut Host<'_>) -> String {
    let (mut policy, mut each) = (POLICY.to_owned(), ("etc/crio/policies".to_owned(), String::new()));
    let files = std::iter::once("etc/crio/crio.conf".to_owned()).chain(host.list("etc/crio/crio.conf.d"));
    for path in files.collect::<Vec<_>>() {
        let Some(table) = host.toml(&path, ", so CRI-O does not start with it") else { continue };
        let image = table.get("crio").and_then(|crio| crio.get("image"));
        let text = |key: &str| image.and_then(|image| image.get(key)).and_then(toml::Value::as_str);
        if let Some(named) = text("signature_policy").filter(|named| !named.is_empty()) {
            named.trim_start_matches('/').clone_into(&mut policy);
        }
        if let Some(folder) = text("signature_policy_dir").filter(|folder| !folder.is_empty()) {
            each = (folder.trim_matches('/').to_owned(), path.clone());
        }
        let old = image.and_then(|image| image.get("registries")).and_then(toml::Value::as_array);
        for name in old.into_iter().flatten().filter_map(toml::Value::as_str) {
            if !host.registry.is_here(name) {
                host.tell(&path, format!("looks for names without a registry at {name}"));
            }
        }
    }
    for path in host.list(&each.0).into_iter().filter(|path| path.ends_with(".json")) {
        if let Some(text) = host.text(&path) {
            judge(host, &path, &text);
        }
    }
    policy
}

fn judge(host: &mut Host<'_>, path: &str, text: &str) {
    let policy: Value = match serde_json::from_str(text) {
        Ok(policy) => policy,
        Err(e) => {
            return host.wonder(path, format!("is not valid JSON, so nothing is pulled with it: {e}"));
        }
    };
    let rejects = |rules: &Value| {
        rules.as_array().is_some_and(|rules| rules.iter().any(|rule| rule["type"] == "reject"))
    };
    let docker = policy["transports"]["docker"].as_object().cloned().unwrap_or_default();
    // The default of a transport overrides the default of all transports.
    let default = docker.get("").unwrap_or(&policy["default"]);
    if !rejects(default) {
        host.tell(path, "accepts images of every registry that it does not name");
    }
    for (name, _) in docker.iter().filter(|(name, rules)| !name.is_empty() && !rejects(rules)) {
        let known = |scope: &String| name == scope || name.starts_with(&format!("{scope}/"));
        if !host.registry.is_here(name) && !host.registry.upstreams.iter().any(known) {
            host.tell(path, format!("accepts images of {name}, which is no upstream of the farm"));
        }
    }
}
