//! Whether a host still would pull from somewhere else: its files read as the programs read them, not compared with ours, so
//! that what is said is what would happen.

mod containerd;
mod containers;
mod docker;
mod k3s;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use super::{Registry, Runtime};

/// What an image means that names no registry.
const UNNAMED: &str = "docker.io";

/// No file of settings is larger.
const SETTINGS: u64 = 4 << 20;

/// A way past the farm.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The file, as the host names it.
    pub path: String,
    /// What is wrong with it, and what follows.
    pub words: String,
}

/// Looks at the host's files below `root`, usually `/`. Nothing found means that it pulls from the farm alone, as far as its
/// files say.
pub fn check(runtime: Runtime, registry: &Registry, root: &Path) -> Vec<Finding> {
    let mut host = Host { registry, root, found: Vec::new() };
    let authority = super::authority_path(runtime, registry);
    if registry.authority.is_some() && !host.has(&authority) {
        host.tell(&authority, "is not there: the farm's certificate is not believed");
    }
    match runtime {
        Runtime::Containerd => containerd::check(&mut host),
        Runtime::K3s => k3s::check(&mut host),
        Runtime::Crio | Runtime::Podman => containers::check(&mut host, runtime),
        Runtime::Docker => docker::check(&mut host),
    }
    host.found
}

/// A host that is looked at, and what was found.
struct Host<'a> {
    registry: &'a Registry,
    root: &'a Path,
    found: Vec<Finding>,
}

impl Host<'_> {
    fn tell(&mut self, path: &str, words: impl Into<String>) {
        self.found.push(Finding { path: format!("/{path}"), words: words.into() });
    }

    /// A file's text; `None`, and said so, where there is one that does not read.
    fn text(&mut self, path: &str) -> Option<String> {
        let full = self.root.join(path);
        let size = fs::metadata(&full).ok()?.len();
        if size > SETTINGS {
            self.tell(path, format!("does not read: it has {size} bytes"));
            return None;
        }
        match fs::read_to_string(full) {
            Ok(text) => Some(text),
            Err(e) => {
                self.tell(path, format!("does not read: {e}"));
                None
            }
        }
    }

    fn toml(&mut self, path: &str) -> Option<toml::Table> {
        let text = self.text(path)?;
        match toml::from_str(&text) {
            Ok(table) => Some(table),
            Err(e) => {
                self.tell(path, format!("does not read: {}", e.message()));
                None
            }
        }
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The entries of a folder by name, as paths below the root.
    fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let mut paths: Vec<_> =
            entries.map(|e| format!("{folder}/{}", e.file_name().to_string_lossy())).collect();
        paths.sort();
        paths
    }

    /// Files like `conf.d/*.toml`, as paths below the root.
    fn matching(&self, pattern: &str) -> Vec<String> {
        let pattern = pattern.trim_start_matches('/');
        let (folder, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let Some((begin, end)) = last.split_once('*') else { return vec![pattern.to_owned()] };
        let fits = |path: &String| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        };
        self.list(folder).into_iter().filter(fits).collect()
    }

    /// Whether an address is the farm's, with or without what is before and behind its host.
    fn is_farm(&self, address: &str) -> bool {
        let host = address.split_once("://").map_or(address, |(_, host)| host);
        host.split('/').next() == Some(self.registry.host())
    }

    /// Registries that images surely name: what a sentence says of every registry is said of these by name.
    fn named(&self) -> Vec<String> {
        let mut names = self.registry.upstreams.clone();
        names.push(UNNAMED.to_owned());
        names.sort();
        names.dedup();
        names
    }

    /// Some registries, and all that nothing is said of, as the subject of a sentence.
    fn and_others(names: &[String]) -> String {
        if names.is_empty() {
            "all others".to_owned()
        } else {
            format!("{} and all others", names.join(", "))
        }
    }

    /// Where people keep settings of their own, which go before the host's.
    fn homes(&self) -> Vec<String> {
        let mut homes = self.list("home");
        homes.push("root".to_owned());
        homes.retain(|home| PathBuf::from(self.root).join(home).is_dir());
        homes
    }
}
