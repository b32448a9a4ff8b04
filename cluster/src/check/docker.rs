//! Docker: daemon.json, Docker's flags, and what neither of them can change.

use crate::host::Host;
use crate::units;

const DAEMON: &str = "etc/docker/daemon.json";

pub(super) fn check(host: &mut Host<'_>) {
    let mut daemon = DAEMON.to_owned();
    if let Some(service) = units::service(host, "docker") {
        if let Some(path) = service.flag(&["--config-file"]) {
            path.trim_start_matches('/').clone_into(&mut daemon);
        }
        let mirrors = service.words.iter().filter_map(|word| word.strip_prefix("--registry-mirror="));
        for mirror in mirrors.map(str::to_owned).collect::<Vec<_>>() {
            mirror_of_hub(host, &service.path, &mirror);
        }
    }
    let mut files = vec![daemon];
    for home in host.homes() {
        let rootless = format!("{home}/.config/docker/daemon.json");
        if host.has(&rootless) {
            files.push(rootless);
        }
    }
    for path in files {
        let Some(text) = host.text(&path) else { continue };
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(settings) => {
                let mirrors = settings["registry-mirrors"].as_array().cloned().unwrap_or_default();
                for mirror in mirrors.iter().filter_map(serde_json::Value::as_str) {
                    mirror_of_hub(host, &path, mirror);
                }
            }
            Err(e) => {
                host.wonder(&path, format!("is not valid JSON, so Docker does not start with it: {e}"));
            }
        }
    }
    // Docker has no such setting: registry-mirrors is for Docker Hub alone, and Docker asks Docker Hub after the
    // mirrors.
    let farm = host.registry.host().to_owned();
    host.tell(
        DAEMON,
        format!(
            "cannot keep Docker from Docker Hub and from every registry that an image names: name images {farm}/…, and block \
             the way out"
        ),
    );
}

fn mirror_of_hub(host: &mut Host<'_>, path: &str, mirror: &str) {
    if !host.registry.is_here(mirror) {
        host.tell(path, format!("has a mirror {mirror} of Docker Hub"));
    }
}
