//! Runs apt's dependency resolver in a private state folder, for one suite, with no packages installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debian::Suite;
use crate::{MirrorError, Observer};

/// A binary package that the resolver chose. It is a claim: the caller looks the package up in the verified index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// The package's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The architecture, or `all`.
    pub architecture: String,
}

/// apt for one suite and one architecture.
pub struct Resolver {
    folder: PathBuf,
    architecture: String,
}

impl Resolver {
    /// Makes `folder` anew and lets apt fetch the suite's index into it. apt checks the suite's signature with
    /// `keyring`; `hab-keys` checks it again with pinned keys.
    pub fn new(
        folder: &Path,
        suite: &Suite,
        architecture: &str,
        keyring: &Path,
        observer: &dyn Observer,
    ) -> Result<Self, MirrorError> {
        let at = |path: &Path| MirrorError::io(path.to_owned());
        hab_tree::remove(folder).map_err(at(folder))?;
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            let path = folder.join(sub);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        let lines = suite.bases().iter().map(|base| {
            format!(
                "deb [arch={architecture} signed-by={}] {base} {} main\n",
                keyring.display(),
                suite.name()
            )
        });
        for (name, text) in [("sources.list", lines.collect::<String>()), ("state/status", String::new())] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(at(&path))?;
        }
        let this = Self { folder: folder.to_owned(), architecture: architecture.to_owned() };
        this.apt("update", &["update".into(), "-qq".into()], observer)?;
        Ok(this)
    }

    /// The packages that an empty system of this architecture must install to have `packages`, without recommendations.
    pub fn resolve(
        &self,
        packages: &[String],
        observer: &dyn Observer,
    ) -> Result<Vec<Resolved>, MirrorError> {
        let mut arguments: Vec<OsString> =
            ["install", "-qq", "-y", "--no-install-recommends", "--print-uris", "--"].map(Into::into).into();
        arguments.extend(packages.iter().map(Into::into));
        let text = self.apt("install --print-uris", &arguments, observer)?;
        let mut found: Vec<_> = text.lines().filter_map(uri_line).collect();
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(MirrorError::Malformed {
                what: "apt's answer".to_owned(),
                expected: "a list of packages",
                detail: text.lines().take(3).collect::<Vec<_>>().join("; "),
            });
        }
        Ok(found)
    }

    fn apt(
        &self,
        action: &'static str,
        arguments: &[OsString],
        observer: &dyn Observer,
    ) -> Result<String, MirrorError> {
        observer.note(&format!("apt-get {action} for {}", self.architecture));
        let dir = |sub: &str| self.folder.join(sub).display().to_string();
        let options = [
            format!("Dir::State={}", dir("state")),
            format!("Dir::State::status={}", dir("state/status")),
            format!("Dir::Cache={}", dir("cache")),
            format!("Dir::Etc::SourceList={}", dir("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            "APT::Get::List-Cleanup=false".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Debug::NoLocking=true".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        let output = Command::new("apt-get")
            .args(options.iter().flat_map(|o| ["-o", o.as_str()]))
            .args(arguments)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| MirrorError::NoApt { source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let words = stderr.lines().filter(|l| l.starts_with("E:") || l.starts_with("W:")).take(5);
        let said: Vec<_> = words.map(str::to_owned).collect();
        Err(MirrorError::Apt {
            action,
            said: if said.is_empty() { stderr.trim().to_owned() } else { said.join("; ") },
        })
    }
}

/// Parses `'uri' name_version_architecture.deb size SHA256:hex`, in which %3a stands for a colon of the version.
fn uri_line(line: &str) -> Option<Resolved> {
    let file = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ').next()?;
    let mut parts = file.strip_suffix(".deb")?.split('_');
    Some(Resolved {
        name: parts.next()?.to_owned(),
        version: parts.next()?.replace("%3a", ":"),
        architecture: parts.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_unescaped() {
        let line =
            "'http://x.invalid/pool/g/git_2.39_amd64.deb' git_1%3a2.39.5-0+deb12u2_amd64.deb 7256 SHA256:00";
        assert_eq!(
            uri_line(line),
            Some(Resolved {
                name: "git".to_owned(),
                version: "1:2.39.5-0+deb12u2".to_owned(),
                architecture: "amd64".to_owned()
            })
        );
        assert_eq!(uri_line("Reading package lists..."), None);
    }
}
