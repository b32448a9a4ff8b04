//! Certificates in folders of mirrored projects, such as the builder-keys of guix.sigs. They need no network.

use std::collections::BTreeMap;

use hab_keys::{Certificates, KeyId, Policy};

use super::Keyring;
use crate::error::FarmError;
use crate::mirrors::repositories::default_tip;
use hab_chain::chain;

impl Keyring<'_> {
    /// The certificates of `policy`'s keys in the folders that it names, as far as their projects are mirrored here,
    /// each with its place. Notes an unreadable folder, and adds it to `silent` with the cause.
    pub(super) fn in_folders(
        &self,
        policy: &Policy,
        silent: &mut BTreeMap<String, String>,
    ) -> Vec<(String, Certificates)> {
        let mut found = Vec::new();
        for folder in policy.certificate_folders().iter().filter(|f| self.repositories.has(&f.project)) {
            let place = format!("folder {} of {}", folder.folder, folder.project);
            match self.folder(policy, &folder.project, &folder.folder) {
                Ok(certificates) => found.push((place, certificates)),
                // A certificate that cannot be read here may be found elsewhere.
                Err(e) => {
                    let why = chain(&e);
                    self.fetching.progress.note(&format!("no certificate is taken from the {place}: {why}"));
                    silent.insert(format!("the {place}"), why);
                }
            }
        }
        found
    }

    fn folder(&self, policy: &Policy, project: &str, folder: &str) -> Result<Certificates, FarmError> {
        let mirror = self.repositories.open(project)?;
        let mut certificates = Certificates::default();
        let Some(tip) = default_tip(&mirror)? else { return Ok(certificates) };
        for bytes in mirror.files(&tip, folder)?.into_values() {
            certificates
                .merge(&Certificates::answered(&bytes, |f| policy.pin(&KeyId::OpenPgp(f.clone())).is_some()));
        }
        Ok(certificates)
    }
}
