//! Reads the host's own apt configuration: which base addresses it takes packages from.

use std::fs;
use std::path::{Path, PathBuf};

use crate::MirrorError;

/// The entries of sources.list(5), both formats, in apt's order.
#[derive(Clone, Debug, Default)]
pub struct AptConfig {
    entries: Vec<AptSetting>,
}

#[derive(Clone, Debug)]
struct AptSetting {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

impl AptConfig {
    /// Reads `sources.list` and `sources.list.d` under `folder` (usually /etc/apt). On a host without apt there are no
    /// entries.
    pub fn load(folder: &Path) -> Result<Self, MirrorError> {
        let mut files = vec![folder.join("sources.list")];
        let parts = folder.join("sources.list.d");
        if let Ok(entries) = fs::read_dir(&parts) {
            let mut more: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
            more.sort();
            files.extend(more);
        }
        let mut config = Self::default();
        for file in files {
            let extension = file.extension().and_then(|e| e.to_str());
            let Ok(text) = fs::read_to_string(&file) else { continue };
            match extension {
                Some("list") => config.entries.extend(text.lines().filter_map(one_line)),
                Some("sources") => config.entries.extend(deb822(&text, &file)?),
                _ => {}
            }
        }
        Ok(config)
    }

    /// The base addresses that have component `main` of `suite`, without a final slash, in the order in which apt asks
    /// them. Only http, https and file addresses. Many vendors use Debian's suite names too, but most of them name
    /// their component differently.
    pub fn bases(&self, suite: &str) -> Vec<String> {
        let mut found = Vec::new();
        let carries = |e: &&AptSetting| {
            e.suites.iter().any(|s| s.trim_end_matches('/') == suite)
                && e.components.iter().any(|c| c == "main")
        };
        for entry in self.entries.iter().filter(carries) {
            for uri in &entry.uris {
                let uri = uri.trim_end_matches('/');
                let uri = match uri.strip_prefix("file:/") {
                    Some(path) => format!("file:///{}", path.trim_start_matches('/')),
                    None => uri.to_owned(),
                };
                let fetchable =
                    ["http://", "https://", "file://"].iter().any(|scheme| uri.starts_with(scheme));
                if fetchable && !found.contains(&uri) {
                    found.push(uri);
                }
            }
        }
        found
    }
}

/// Parses `deb [option=value …] uri suite component…`.
fn one_line(line: &str) -> Option<AptSetting> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb ").or_else(|| line.strip_prefix("deb\t"))?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(AptSetting { uris: vec![words.next()?], suites: vec![words.next()?], components: words.collect() })
}

/// Parses the deb822 format: paragraphs with `Types`, `URIs`, `Suites`, and perhaps `Enabled: no`.
fn deb822(text: &str, file: &Path) -> Result<Vec<AptSetting>, MirrorError> {
    // deb822-fast does not allow comments within a paragraph, and sources files are full of them.
    let text: String =
        text.lines().filter(|l| !l.starts_with('#')).fold(String::new(), |all, l| all + l + "\n");
    let parsed: deb822_fast::Deb822 = text
        .parse()
        .map_err(|e| MirrorError::HostConfig { client: "apt", detail: format!("{}: {e}", file.display()) })?;
    let words = |p: &deb822_fast::Paragraph, field: &str| -> Vec<String> {
        p.get(field).map(|v| v.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    Ok(parsed
        .iter()
        .filter(|p| words(p, "Types").iter().any(|t| t == "deb"))
        .filter(|p| !p.get("Enabled").is_some_and(|v| matches!(v.trim(), "no" | "false" | "0")))
        .map(|p| AptSetting {
            uris: words(p, "URIs"),
            suites: words(p, "Suites"),
            components: words(p, "Components"),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read_in_apts_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        fs::write(
            dir.path().join("sources.list"),
            "# a comment\ndeb [arch=amd64 signed-by=/x] http://one.invalid/debian/ stable main\n\
             deb-src http://src.invalid/debian stable main\ndeb cdrom:[x]/ stable main\n\
             deb https://vendor.invalid/debian stable nightly\n",
        )
        .unwrap();
        fs::write(
            dir.path().join("sources.list.d/b.sources"),
            "Types: deb deb-src\n# between\nURIs: https://two.invalid/debian file:/srv/mirror\nSuites: stable stable-updates\n\
             Components: main\n\nTypes: deb\nEnabled: no\nURIs: http://three.invalid\nSuites: stable\n",
        )
        .unwrap();
        let config = AptConfig::load(dir.path()).unwrap();
        assert_eq!(
            config.bases("stable"),
            ["http://one.invalid/debian", "https://two.invalid/debian", "file:///srv/mirror"]
        );
        assert_eq!(config.bases("stable-updates").len(), 2);
        assert!(config.bases("unstable").is_empty());
    }

    #[test]
    fn a_host_without_apt_has_no_bases() {
        let dir = tempfile::tempdir().unwrap();
        assert!(AptConfig::load(dir.path()).unwrap().bases("stable").is_empty());
    }
}
