//! Certificates in folders of mirrored projects, such as the builder-keys of guix.sigs: found without a network.

use std::collections::BTreeMap;

use hab_keys::{Certificates, KeyId, Policy};
use hab_mirror::git::GitMirror;

use super::Farm;
use crate::{FarmError, chain};

impl Farm {
    /// The certificates of `policy`'s keys in the folders that it names, as far as their projects are mirrored here:
    /// where each lies, and what. What does not read is told, and is in `silent` with the cause.
    pub(super) fn in_folders(
        &self,
        policy: &Policy,
        silent: &mut BTreeMap<String, String>,
    ) -> Vec<(String, Certificates)> {
        let mut found = Vec::new();
        for folder in policy.certificate_folders().iter().filter(|f| self.is_mirrored(&f.project)) {
            let place = format!("folder {} of {}", folder.folder, folder.project);
            match self.folder(policy, &folder.project, &folder.folder) {
                Ok(certificates) => found.push((place, certificates)),
                // What cannot be read there may be had elsewhere.
                Err(e) => {
                    let why = chain(&e);
                    self.progress.note(&format!("no certificate is taken from the {place}: {why}"));
                    silent.insert(format!("the {place}"), why);
                }
            }
        }
        found
    }

    fn folder(&self, policy: &Policy, project: &str, folder: &str) -> Result<Certificates, FarmError> {
        let mirror = self.git(project)?;
        let mut certificates = Certificates::default();
        let Some(tip) = default_tip(&mirror)? else { return Ok(certificates) };
        for bytes in mirror.files(&tip, folder)?.into_values() {
            certificates
                .merge(&Certificates::answered(&bytes, |f| policy.pin(&KeyId::OpenPgp(f.clone())).is_some()));
        }
        Ok(certificates)
    }
}

/// The commit at the tip of a repository's default branch: where HEAD leads, or else its one branch, or that of a
/// usual name.
pub(crate) fn default_tip(mirror: &GitMirror) -> Result<Option<String>, FarmError> {
    if let Some(tip) = mirror.commit_id("HEAD") {
        return Ok(Some(tip));
    }
    let refs = mirror.refs()?;
    let branches: Vec<&String> = refs.keys().filter(|name| name.starts_with("refs/heads/")).collect();
    let usual = ["refs/heads/main", "refs/heads/master"].into_iter().find(|name| refs.contains_key(*name));
    let name = match branches[..] {
        [one] => Some(one.as_str()),
        _ => usual,
    };
    Ok(name.and_then(|name| mirror.commit_id(name)))
}
