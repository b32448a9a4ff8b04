//! Git tags as sources: mirrored, judged, and exported for builds.

use hab_keys::precedent::{self, Moved};
use hab_keys::tag::VerifiedTag;
use hab_keys::{Refusal, RuleKind, VerifiedSource};
use hab_mirror::MirrorError;
use hab_mirror::git::{GitMirror, TagBytes};
use hab_oci::Digest;
use hab_recipe::PlannedSource;
use hab_store::Blobs;

use crate::error::FarmError;
use crate::facts::{Fact, Facts};
use crate::mirrors::Mirrors;
use crate::progress::{MirrorView, Progress};
use crate::trust::Trust;
use crate::trust::history::ProjectRepository;
use crate::trust::loaded::LoadedPolicy;
use crate::trust::tag::claimed;

/// Tags as sources of builds.
#[derive(Clone, Copy)]
pub struct Tags<'a> {
    /// Judges tags.
    pub trust: Trust<'a>,
    /// The mirrors, which have the tags.
    pub mirrors: Mirrors<'a>,
    /// Remembers what was accepted before.
    pub facts: Facts<'a>,
    /// Stores exported trees.
    pub blobs: &'a Blobs,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
    /// Whether fetching is forbidden.
    pub offline: bool,
}

impl Tags<'_> {
    /// Mirrors and judges the tag `version` of a git project. Does not fetch again a tag that is mirrored and good,
    /// because a tag that was accepted once must not change.
    pub fn verify(
        &self,
        project: &str,
        policy: &str,
        (version, unsigned): (&str, bool),
    ) -> Result<VerifiedTag, FarmError> {
        self.progress.stage(&format!("verify tag {version} of {project}"));
        let loaded = self.trust.load(policy, &[])?;
        let (mirror, fresh) = self.mirror_of(project, version)?;
        let unsigned = unsigned && loaded.policy.requirement(RuleKind::Unsigned).is_some();
        let fact = if unsigned {
            Fact::UnsignedTag { project, tag: version }
        } else {
            Fact::AcceptedTag { project, tag: version }
        };
        let accepted = self.facts.latest(&fact)?;
        if accepted.is_none() && !self.offline {
            let known = mirror.tag(version)?;
            let judged = self.first_good(project, &known, &loaded, unsigned);
            if !fresh && !matches!(judged, Some(Ok(_))) {
                // No value here is good. Ask upstream: a bad value that was seen first must not block a good one.
                self.mirrors.sync(&self.mirrors.projects.get(project)?)?;
            }
        }
        let seen = mirror.tag(version)?;
        if seen.is_empty() && self.offline {
            return Err(MirrorError::Offline { what: format!("tag {version} of {project}") }.into());
        }
        if let Err(Moved { from, to }) =
            precedent::unmoved(&seen.iter().map(value).collect::<Vec<_>>(), accepted.as_ref())
        {
            return Err(MirrorError::TagMoved {
                project: project.to_owned(),
                tag: seen[to].name.clone(),
                old: seen[from].id.clone(),
                new: seen[to].id.clone(),
            }
            .into());
        }
        let judged = self.first_good(project, &seen, &loaded, unsigned);
        let unknown =
            || FarmError::Usage(format!("{project} has no tag {version}, neither here nor upstream"));
        let verified = judged.ok_or_else(unknown)??;
        let place = ProjectRepository { project, repository: mirror.path() };
        let verified = self.trust.histories.complete(&loaded, place, verified)?;
        self.facts.remember(&fact, verified.object_digest(), 0)?;
        self.trust.memory.saw(&verified.evidence().signatures)?;
        Ok(verified)
    }

    /// Judges the values that a tag was seen to have, in order, and returns the first good one.
    fn first_good(
        &self,
        project: &str,
        seen: &[TagBytes],
        loaded: &LoadedPolicy,
        unsigned: bool,
    ) -> Option<Result<VerifiedTag, Refusal>> {
        let judge = self.trust.judge(loaded);
        let mut refused = None;
        for tag in seen {
            let claimed = claimed(project, tag);
            let verified = if unsigned {
                VerifiedTag::unsigned(claimed, &judge)
            } else {
                VerifiedTag::verify(claimed, &judge)
            };
            match verified {
                Ok(verified) => return Some(Ok(verified)),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        refused.map(Err)
    }

    /// The mirror of a project whose tag `version` is wanted, and whether it was synced just now. Mirrors the project
    /// first if it is not here. If that fails, it leaves no empty mirror that lists and schedules would show.
    fn mirror_of(&self, project: &str, version: &str) -> Result<(GitMirror, bool), FarmError> {
        let fresh = !self.mirrors.repositories.has(project);
        if fresh {
            let what = || format!("tag {version} of {project}");
            if self.offline {
                return Err(MirrorError::Offline { what: what() }.into());
            }
            if let Err(e) = self.mirrors.sync(&self.mirrors.projects.get(project)?) {
                if let Ok(mirror) = self.mirrors.repositories.get(project) {
                    mirror.remove_empty(&MirrorView(self.progress))?;
                }
                return Err(e);
            }
        }
        Ok((self.mirrors.repositories.open(project)?, fresh))
    }

    /// The planned source of a tag: its tree from an earlier export, or exported now.
    pub fn plan(&self, project: &str, tag: &VerifiedTag) -> Result<PlannedSource, FarmError> {
        let known = self.facts.latest(&Fact::ExportedTree { project, commit: tag.commit() })?;
        let digest = match known.filter(|d| self.blobs.open_blob(d).is_ok_and(|f| f.is_some())) {
            Some(digest) => digest,
            None => self.export(project, tag)?.digest().clone(),
        };
        Ok(PlannedSource {
            digest,
            revision: tag.commit().to_owned(),
            epoch: tag.epoch(),
            unsigned: tag.is_unsigned(),
        })
    }

    /// Exports the signed tree into the blob store, and checks the export against the signed tag.
    fn export(&self, project: &str, tag: &VerifiedTag) -> Result<VerifiedSource, FarmError> {
        self.progress.stage(&format!("export {project} {}", tag.commit()));
        let mut writer = self.blobs.writer()?;
        self.mirrors.repositories.open(project)?.export(tag.commit(), tag.epoch(), &mut writer)?;
        let (digest, size) = writer.commit(None)?;
        let source = self.verify_export(tag, &digest)?;
        self.facts.remember(&Fact::ExportedTree { project, commit: tag.commit() }, &digest, size)?;
        Ok(source)
    }

    /// Makes a verified source of an exported archive, by recomputing the git tree from the archive's bytes.
    pub fn verify_export(&self, tag: &VerifiedTag, digest: &Digest) -> Result<VerifiedSource, FarmError> {
        let blob = self.blobs.open_blob(digest)?;
        let mut file = blob.ok_or_else(|| MirrorError::Gone { what: digest.to_string() })?.file;
        Ok(tag.archive(&mut file)?)
    }
}

/// The digest that identifies a value of a tag; for a lightweight tag, that of its commit.
fn value(tag: &TagBytes) -> Digest {
    Digest::of(tag.object.as_deref().unwrap_or(&tag.commit))
}
