//! Whether objects that are here have all that they need.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use git2::Oid;
use hab_oci::shown;

use super::GitMirror;
use super::program::{Git, lines};
use super::quarantine::Quarantine;
use crate::MirrorError;

impl GitMirror {
    /// Those of these refs whose objects are not here. An object that is here and that no ref names may have come with
    /// what was carried here, without what it needs: it counts only if that is here, too.
    pub(super) fn missing<'r>(
        &self,
        git: &Git<'_>,
        here: &BTreeMap<String, Oid>,
        wanted: impl Iterator<Item = (&'r String, &'r Oid)>,
    ) -> Result<BTreeMap<String, Oid>, MirrorError> {
        let (mut missing, mut unnamed) = (BTreeMap::new(), BTreeMap::new());
        for (name, id) in wanted {
            if !self.holds(*id)? {
                missing.insert(name.clone(), *id);
            } else if here.get(name) != Some(id) {
                unnamed.insert(name.clone(), *id);
            }
        }
        if !unnamed.is_empty() {
            let known: BTreeSet<Oid> = self.known()?.into_values().collect();
            unnamed.retain(|_, id| !known.contains(id));
        }
        let ids: BTreeSet<String> = unnamed.values().map(ToString::to_string).collect();
        let ids = ids.iter().map(String::as_str).collect();
        if self.complete(git, None, &ids).is_err() {
            missing.append(&mut unnamed);
        }
        Ok(missing)
    }

    /// Whether everything that these ids reach is here or in quarantine. git asks that only of what a bundle's own list
    /// names.
    pub(super) fn complete(
        &self,
        git: &Git<'_>,
        place: Option<&Quarantine<'_>>,
        ids: &BTreeSet<&str>,
    ) -> Result<(), MirrorError> {
        if ids.is_empty() {
            return Ok(());
        }
        let text = lines(ids);
        let words = ["--objects", "--quiet", "--stdin", "--not", "--all"].map(OsStr::new);
        let (repository, alternates) = match place {
            Some(place) => (place.path(), Some(self.objects.as_path())),
            None => (self.path.as_path(), None),
        };
        match git.told("rev-list", repository, &words, text, alternates) {
            Err(MirrorError::GitHere { stderr, .. }) => Err(self.not_whole(&format!(
                "an object that it names or needs is neither in it nor here ({}); import what it continues first",
                shown(&stderr)
            ))),
            other => other,
        }
    }
}
