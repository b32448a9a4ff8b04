//! k3s and RKE2: registries.yaml, their flags, and what they wrote for their containerd when they started.

use super::k3s_flags::Flags;
use super::{containerd, hosts};
use crate::Runtime;
use crate::host::{Host, and_others};
use crate::yaml::{self, Yaml};

const FLAG: &str = "disable-default-registry-endpoint";
/// Templates of containerd's configuration. The first one that exists is used.
const TEMPLATES: [&str; 2] = ["config-v3.toml.tmpl", "config.toml.tmpl"];

pub(super) fn check(host: &mut Host<'_>, runtime: Runtime) {
    let flags = Flags::read(host, runtime);
    let program = flags.program();
    other_runtime(host, &flags);
    let registries = flags.registries(host);
    let all = and_others(&host.named());
    match host.text(&registries) {
        Some(text) => mirrors(host, &registries, &text, program),
        // An unreadable file was reported already.
        None if host.has(&registries) => {}
        None => host.tell(&registries, format!("is not there: {all} are asked directly")),
    }
    if flags.on(host, FLAG) == Some(false) {
        let path = flags
            .last(&[FLAG])
            .map_or(format!("etc/rancher/{program}/config.yaml.d"), |(_, path)| path.to_owned());
        host.tell(
            &path,
            format!("no file says `{FLAG}: true`: after its mirrors, each registry is asked directly"),
        );
    }
    if flags.on(host, "embedded-registry") == Some(true) {
        let path = flags.last(&["embedded-registry"]).map_or(String::new(), |(_, path)| path.to_owned());
        host.tell(&path, "has the embedded registry on: images come from other nodes, too");
    }
    written(host, &flags);
}

/// Reports a runtime other than k3s' own containerd.
fn other_runtime(host: &mut Host<'_>, flags: &Flags) {
    if flags.on(host, "docker") == Some(true) {
        let path = flags.last(&["docker"]).map_or(String::new(), |(_, path)| path.to_owned());
        host.wonder(&path, "has k3s use Docker, which does not read registries.yaml: check docker instead");
    }
    if let Some((socket, path)) =
        flags.last(&["container-runtime-endpoint"]).filter(|(socket, _)| !socket.is_empty())
    {
        let (words, path) = (
            format!(
                "has another runtime pull, at {socket}, which does not read registries.yaml: check that one instead"
            ),
            path.to_owned(),
        );
        host.wonder(&path, words);
    }
}

fn mirrors(host: &mut Host<'_>, path: &str, text: &str, program: &str) {
    let read = match yaml::parse(text) {
        Ok(read) => read,
        Err(e) => return host.wonder(path, format!("is not YAML with a single meaning: {e}")),
    };
    let table = |name: &str| match &read {
        Yaml::Map(_) => read.get(name).unwrap_or(&Yaml::Null).entries(),
        other => other.entries(),
    };
    let (Some(mirrors), Some(configs)) = (table("mirrors"), table("configs")) else {
        return host.wonder(
            path,
            format!("has no mapping of mirrors or configs, and {program} does not start with it"),
        );
    };
    let mut mapped = Vec::new();
    for (name, mirror) in mirrors {
        let endpoints = mirror.entries().map(|_| mirror.get("endpoint").unwrap_or(&Yaml::Null));
        let Some(endpoints) = endpoints.and_then(Yaml::elements) else {
            host.wonder(
                path,
                format!("has endpoints of {name} that are not a list, and {program} does not start with it"),
            );
            continue;
        };
        for endpoint in endpoints {
            match endpoint.text() {
                Some(endpoint) if host.registry.is_here(endpoint) => {}
                Some(endpoint) => host.tell(path, format!("has a mirror {endpoint} of {name}")),
                None => host.wonder(path, format!("has an endpoint of {name} that is not a word")),
            }
        }
        // k3s drops a mirror without endpoints.
        if !endpoints.is_empty() {
            mapped.push(name.clone());
        }
    }
    for (name, _) in
        configs.iter().filter(|(name, _)| !host.registry.is_here(name)).cloned().collect::<Vec<_>>()
    {
        let itself = if name == "*" { "each registry".to_owned() } else { name.clone() };
        let words =
            format!("has settings of {name} below configs: with these, {itself} itself is still asked last");
        host.tell(path, words);
    }
    if !mapped.iter().any(|name| name == "*") {
        let open: Vec<_> = host.named().into_iter().filter(|name| !mapped.contains(name)).collect();
        host.tell(path, format!("has no mirror of \"*\": {} are asked directly", and_others(&open)));
    }
}

/// Judges what the program wrote when it last started, because changed settings count only after a restart.
fn written(host: &mut Host<'_>, flags: &Flags) {
    let (folder, program) = (format!("{}/agent/etc/containerd", flags.data()), flags.program());
    let rendered = format!("{folder}/config.toml");
    let before = host.found.len();
    if host.has(&rendered) {
        containerd::check_config(host, &rendered);
    } else if host.has(&format!("{folder}/certs.d")) {
        hosts::check(host, &[format!("{folder}/certs.d")]);
    }
    for finding in &mut host.found[before..] {
        finding.words.push_str(&format!(" ({program} wrote this when it started: start it again)"));
    }
    let Some(template) = TEMPLATES.iter().map(|name| format!("{folder}/{name}")).find(|path| host.has(path))
    else {
        return;
    };
    // The rendered file shows what the template means, unless the template has changed since.
    let (made, changed) = (host.changed(&rendered), host.changed(&template));
    if made.is_none() || made < changed {
        let words = format!(
            "is a template of containerd's configuration that only {program} can fill in: start {program}, and check \
             again"
        );
        host.wonder(&template, words);
    }
}
