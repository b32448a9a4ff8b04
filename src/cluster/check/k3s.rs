//! k3s: registries.yaml, its flags, and what it wrote for its containerd when it started.

use super::{Host, containerd};

const REGISTRIES: &str = "etc/rancher/k3s/registries.yaml";
const FLAG: &str = "disable-default-registry-endpoint";
/// Where k3s keeps what it makes of registries.yaml.
const WRITTEN: &str = "var/lib/rancher/k3s/agent/etc/containerd/certs.d";

pub(super) fn check(host: &mut Host<'_>) {
    let all = Host::and_others(&host.named());
    if !host.has(REGISTRIES) {
        host.tell(REGISTRIES, format!("is not there: {all} are asked themselves"));
    } else if let Some(text) = host.text(REGISTRIES) {
        mirrors(host, &text);
    }
    if !default_is_off(host) {
        let words = format!("no file says `{FLAG}: true`: after its mirrors, each registry itself is asked");
        host.tell("etc/rancher/k3s/config.yaml.d", words);
    }
    // Only since k3s wrote it does the host do what registries.yaml says.
    if host.has(WRITTEN) {
        let before = host.found.len();
        containerd::hosts(host, WRITTEN);
        for finding in &mut host.found[before..] {
            finding.words.push_str(" (k3s wrote this when it started: start it again)");
        }
    }
}

/// Which line of registries.yaml belongs to what is told by its indentation; the file is small and flat enough for that.
fn mirrors(host: &mut Host<'_>, text: &str) {
    let (mut section, mut name, mut star) = (String::new(), String::new(), false);
    let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        let inner = line.trim_start();
        if inner.is_empty() || inner.starts_with('#') {
            continue;
        }
        match line.len() - inner.len() {
            0 if inner.ends_with(':') => inner.trim_end_matches(':').clone_into(&mut section),
            0 if inner.starts_with("mirrors:") => {
                host.tell(REGISTRIES, "has its mirrors on one line, which is not read here");
                return;
            }
            _ if section != "mirrors" => {}
            _ if inner.starts_with("- ") || inner.starts_with("endpoint: [") => {
                let listed = inner.trim_start_matches("- ").trim_start_matches("endpoint:");
                let endpoints = listed.trim().trim_matches(['[', ']']).split(',').map(plain);
                for endpoint in endpoints.filter(|endpoint| !endpoint.is_empty()) {
                    if !host.is_farm(&endpoint) {
                        host.tell(REGISTRIES, format!("has a mirror {endpoint} of {name}"));
                    }
                }
            }
            _ if inner.ends_with(':') && inner != "endpoint:" && inner != "rewrite:" => {
                name = plain(inner.trim_end_matches(':'));
                star |= name == "*";
            }
            _ => {}
        }
    }
    if !star {
        let all = host.named().into_iter().filter(|name| !text.contains(name.as_str())).collect::<Vec<_>>();
        let words = format!("has no mirror of \"*\": {} are asked themselves", Host::and_others(&all));
        host.tell(REGISTRIES, words);
    }
}

/// In a configuration, or on the command line of its service.
fn default_is_off(host: &mut Host<'_>) -> bool {
    let mut files = vec!["etc/rancher/k3s/config.yaml".to_owned()];
    files.extend(
        host.list("etc/rancher/k3s/config.yaml.d").into_iter().filter(|path| path.ends_with(".yaml")),
    );
    let mut off = false;
    // The last one counts.
    for path in files {
        for line in host.text(&path).unwrap_or_default().lines() {
            if let Some(value) = line.trim().strip_prefix(FLAG).and_then(|rest| rest.trim().strip_prefix(':'))
            {
                off = value.split('#').next().unwrap_or_default().trim().trim_matches('"') == "true";
            }
        }
    }
    let mut units = Vec::new();
    for unit in ["etc/systemd/system/k3s.service", "etc/systemd/system/k3s-agent.service"] {
        units.extend(host.text(unit));
    }
    let flag = format!("--{FLAG}");
    off || units.iter().any(|unit| unit.contains(&flag) && !unit.contains(&format!("{flag}=false")))
}
