//! containerd: config.toml, the files that it imports, and folders of hosts.toml files.

use std::mem;

use toml::Value;

use super::hosts;
use super::imports::{self, Reading};
use crate::host::{Host, and_others};
use crate::{Finding, units};

const CONFIG: &str = "etc/containerd/config.toml";
/// The usual folder of hosts.toml files.
pub(crate) const FOLDER: &str = "etc/containerd/certs.d";

pub(super) fn check(host: &mut Host<'_>) {
    let config = config(host);
    check_config(host, &config);
}

/// The configuration that the service names, or else the usual one.
fn config(host: &mut Host<'_>) -> String {
    let Some(service) = units::service(host, "containerd") else { return CONFIG.to_owned() };
    match service.flag(&["--config", "-c"]) {
        Some(path) if path.starts_with('/') => path.trim_start_matches('/').to_owned(),
        Some(_) => {
            host.wonder(&service.path, "names a configuration that is not a path from the root");
            CONFIG.to_owned()
        }
        None => CONFIG.to_owned(),
    }
}

/// Judges the configuration at `config`, which may also be that of a containerd that another program starts.
pub(super) fn check_config(host: &mut Host<'_>, config: &str) {
    let loaded = imports::load(host, config);
    if let Some(path) = imports::disabled(&loaded) {
        let words = "disables the CRI plugin: programs that pull through this containerd have settings of their own, \
             which are not read here";
        host.wonder(path, words);
        return;
    }
    let mut readings = imports::readings(&loaded);
    if readings.is_empty() {
        readings.push(Reading { by: "", registry: toml::Table::new(), path: None });
    }
    let mut found: Vec<(Finding, Vec<&str>)> = Vec::new();
    for reading in &readings {
        let before = mem::take(&mut host.found);
        judge(host, config, reading);
        for finding in mem::replace(&mut host.found, before) {
            match found.iter_mut().find(|(known, _)| *known == finding) {
                Some((_, by)) => by.push(reading.by),
                None => found.push((finding, vec![reading.by])),
            }
        }
    }
    for (mut finding, by) in found {
        // If only some versions behave so, the sentence says which.
        if by.len() < readings.len() {
            finding.words.push_str(&format!(" (as {} reads it)", by.join(" and ")));
        }
        if !host.found.contains(&finding) {
            host.found.push(finding);
        }
    }
}

fn judge(host: &mut Host<'_>, config: &str, reading: &Reading) {
    let named = reading.registry.get("config_path").and_then(Value::as_str).unwrap_or_default();
    let path = reading.path.clone().unwrap_or_else(|| config.to_owned());
    let mut folders = Vec::new();
    for folder in named.split(':').filter(|folder| !folder.is_empty()) {
        match folder.strip_prefix('/') {
            Some(folder) => folders.push(folder.trim_end_matches('/').to_owned()),
            None => {
                host.wonder(&path, format!("names the folder {folder}, which is not a path from the root"));
            }
        }
    }
    mirrors(host, config, reading, !folders.is_empty());
    if folders.is_empty() {
        let all = and_others(&host.named());
        let state = if host.has(config) { "has no config_path for the CRI plugin" } else { "is not there" };
        host.tell(config, format!("{state}, so no hosts.toml is read: {all} are asked directly"));
        // Look nevertheless at the folder that is usually read.
        folders.push(FOLDER.to_owned());
    }
    hosts::check(host, &folders);
}

/// Finds mirrors within the configuration itself; config_path has replaced these.
fn mirrors(host: &mut Host<'_>, config: &str, reading: &Reading, beside: bool) {
    let mirrors = reading.registry.get("mirrors").and_then(Value::as_table);
    let mut any = false;
    for (name, mirror) in mirrors.into_iter().flatten() {
        any = true;
        let endpoints = mirror.get("endpoint").and_then(Value::as_array).into_iter().flatten();
        for endpoint in endpoints.filter_map(Value::as_str) {
            if !host.registry.is_here(endpoint) {
                host.tell(config, format!("has, or imports, a mirror {endpoint} of {name}"));
            }
        }
    }
    if any && beside {
        host.wonder(
            config,
            "has, or imports, mirrors beside config_path, which containerd refuses to start with",
        );
    }
}

/// The folders of hosts.toml files that the host's containerd reads, or would read with the usual setting.
pub(crate) fn folders(host: &mut Host<'_>) -> Vec<String> {
    let config = config(host);
    let loaded = imports::load(host, &config);
    let mut folders: Vec<String> = Vec::new();
    for reading in imports::readings(&loaded) {
        let named = reading.registry.get("config_path").and_then(Value::as_str).unwrap_or_default();
        for folder in named.split(':').filter_map(|folder| folder.strip_prefix('/')) {
            let folder = folder.trim_end_matches('/').to_owned();
            if !folder.is_empty() && !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    if folders.is_empty() {
        folders.push(FOLDER.to_owned());
    }
    folders
}

/// The image of every pod's first container, if the configuration names one.
pub(crate) fn sandbox(host: &mut Host<'_>) -> Option<String> {
    let config = config(host);
    imports::sandbox(&imports::load(host, &config))
}
