//! Docker: daemon.json, and what no file of it can change.

use super::Host;

const DAEMON: &str = "etc/docker/daemon.json";

pub(super) fn check(host: &mut Host<'_>) {
    let daemon = match host.text(DAEMON) {
        Some(text) => match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(daemon) => daemon,
            Err(e) => {
                host.tell(DAEMON, format!("does not read: {e}"));
                serde_json::Value::Null
            }
        },
        None => serde_json::Value::Null,
    };
    let mirrors = daemon["registry-mirrors"].as_array().cloned().unwrap_or_default();
    for mirror in mirrors.iter().filter_map(serde_json::Value::as_str) {
        if !host.is_farm(mirror) {
            host.tell(DAEMON, format!("has a mirror {mirror} of Docker Hub"));
        }
    }
    // Not a matter of what it says: Docker has no setting for it.
    let farm = host.registry.host().to_owned();
    host.tell(
        DAEMON,
        format!(
            "cannot keep Docker from Docker Hub and from every registry that an image names: name images {farm}/…, and block \
             the way out"
        ),
    );
}
