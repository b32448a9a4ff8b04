//! Docker Hub, which has three names, and repositories whose first part clients leave out.
//!
//! Its images are named by `docker.io`, older clients say `index.docker.io`, and it answers at `registry-1.docker.io`:
//! a client sends whichever it knows. The official image `alpine` is `library/alpine` there, and is not found without
//! that first part.

use std::borrow::Cow;

use crate::config::UpstreamConfig;

const NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The first part of the names of official images.
const OFFICIAL: &str = "library";

/// The other names of the registry with this name; the first one is the likeliest.
pub(crate) fn other_names(name: &str) -> impl Iterator<Item = &'static str> + use<> {
    // Host names ignore case.
    let is_hub = NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
    NAMES.into_iter().filter(move |_| is_hub)
}

/// The full name of a repository at the upstream.
pub(crate) fn full_name<'a>(config: &UpstreamConfig, name: &'a str) -> Cow<'a, str> {
    if name.contains('/') || !is_hub(config) { name.into() } else { format!("{OFFICIAL}/{name}").into() }
}

/// Whether an upstream is Docker Hub, by its configured name or its host.
fn is_hub(config: &UpstreamConfig) -> bool {
    let host = hab_outbound::Url::parse(&config.url).ok();
    let host = host.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    NAMES.contains(&config.name.as_str()) || NAMES.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_official_image_is_below_library_at_docker_hub_alone() {
        let full = |name: &str, url: &str, repository: &str| {
            full_name(&UpstreamConfig::new(name, url), repository).into_owned()
        };
        let mirror = "http://mirror.example";
        assert_eq!(full("docker.io", mirror, "alpine"), "library/alpine");
        assert_eq!(full("index.docker.io", mirror, "alpine"), "library/alpine");
        assert_eq!(full("hub", "https://registry-1.docker.io", "alpine"), "library/alpine");
        assert_eq!(full("docker.io", mirror, "library/alpine"), "library/alpine");
        assert_eq!(full("docker.io", mirror, "grafana/grafana"), "grafana/grafana");
        assert_eq!(full("quay.io", "https://quay.io", "alpine"), "alpine");
        assert_eq!(full("hub", "https://registry-1.docker.io.example", "alpine"), "alpine");
    }

    #[test]
    fn the_names_of_docker_hub_are_one_and_no_other_name_is() {
        for name in NAMES.iter().chain(&["Docker.io"]) {
            assert_eq!(other_names(name).collect::<Vec<_>>(), NAMES, "{name}");
        }
        for name in ["", "docker", "hub.docker.io", "docker.io.example", "quay.io"] {
            assert_eq!(other_names(name).count(), 0, "{name}");
        }
    }
}
