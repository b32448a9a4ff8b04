//! Checks whether objects have everything that they need.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use git2::Oid;
use hab_oci::shown;

use super::GitMirror;
use super::program::{Git, lines};
use super::quarantine::Quarantine;
use crate::MirrorError;

impl GitMirror {
    /// The refs whose objects are not here. An import may have brought an object without the objects that it needs, so
    /// an object that no ref names counts only if those are here too.
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

    /// Checks that everything that these ids reach is here or in quarantine. git itself checks that only for objects
    /// that a bundle's list names.
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
                "an object that it needs is neither in it nor here ({}); first import the export that it continues",
                shown(&stderr)
            ))),
            other => other,
        }
    }
}
