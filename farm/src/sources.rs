//! From a recipe's `[source]` to a `VerifiedSource`: the mirror fetches, `hab-keys` judges.

use hab_keys::debian::{VerifiedIndex, VerifiedRelease};
use hab_keys::tag::{Claimed, VerifiedTag};
use hab_keys::{Policy, Refusal, RuleKind, VerifiedSource};
use hab_mirror::crates::Index;
use hab_mirror::debian::Suite;
use hab_mirror::git::{GitMirror, TagBytes};
use hab_mirror::{Fault, Fetcher, Keep as _, MirrorError};
use hab_oci::Digest;
use hab_recipe::{LockedSource, PlannedSource, RecipeName, SourceTable};

use super::progress::MirrorView;
use super::sync::nothing;
use super::{Farm, FarmError};

/// Under which kind the catalog remembers InRelease files that a policy accepted.
pub(super) const ACCEPTED: &str = "debian-in-release-accepted";

/// Under which kind the catalog remembers tag objects that a policy accepted.
pub(super) const ACCEPTED_TAG: &str = "git-tag-accepted";

/// Under which kind it remembers where a project's ref journal ended.
pub(super) const JOURNAL: &str = "git-journal";

/// Under which kind it remembers those that a person took unsigned: they do not stand in the way of a signed one.
pub(super) const TAKEN_TAG: &str = "git-tag-taken-unsigned";

/// The Sources or Packages index at `path` of a suite, through its verified InRelease.
pub(super) fn index(
    fetcher: &Fetcher<'_>,
    suite: &Suite,
    release: &VerifiedRelease,
    path: &str,
) -> Result<VerifiedIndex, FarmError> {
    let named = release.index(path)?;
    let bytes = suite.index(fetcher, path, &named.digest, named.size)?;
    Ok(release.open(path, &bytes)?)
}

impl Farm {
    /// The suite's InRelease, fetched and judged: the first base address that has one which the policy accepts. Offline,
    /// when no upstream answers, or when what it has is older, the one that was accepted before; never one that was
    /// only seen.
    pub(super) fn release(
        &self,
        fetcher: &Fetcher<'_>,
        suite: &Suite,
        policy: &str,
    ) -> Result<VerifiedRelease, FarmError> {
        let policy = self.policy(policy)?;
        let certificates = self.certificates(&policy, &[])?;
        let judge = self.judge(&policy, &certificates);
        let verify = |bytes: &[u8]| VerifiedRelease::verify(bytes, suite.name(), &judge);
        let (mut refused, mut away) = (None, None);
        for bytes in suite.in_releases(fetcher)? {
            match bytes {
                Ok(bytes) => match verify(&bytes) {
                    Ok(release) => return self.newer(fetcher, suite, release, &bytes, verify),
                    Err(e) => refused = refused.or(Some(e)),
                },
                Err(e) if e.fault() == Fault::Upstream => away = away.or(Some(e)),
                Err(e) => return Err(e.into()),
            }
        }
        match (refused, away) {
            (Some(e), _) => Err(e.into()),
            (None, Some(e)) => {
                let bytes = self.accepted_release(fetcher, suite)?.ok_or(e)?;
                let name = suite.name();
                self.progress.note(&format!("using the InRelease of {name} that was accepted before"));
                Ok(verify(&bytes)?)
            }
            // `in_releases` is an error for a suite that nobody carries.
            (None, None) => Err(FarmError::Usage(format!("nobody carries suite {}", suite.name()))),
        }
    }

    /// An old index is signed as well as a new one, but its packages are those of its day. Of what upstream has now and
    /// what was accepted before, the newer one counts, and is remembered.
    pub(super) fn newer(
        &self,
        fetcher: &Fetcher<'_>,
        suite: &Suite,
        release: VerifiedRelease,
        bytes: &[u8],
        verify: impl Fn(&[u8]) -> Result<VerifiedRelease, Refusal>,
    ) -> Result<VerifiedRelease, FarmError> {
        let name = suite.name();
        // One whose key expired since says nothing any more.
        let accepted = self.accepted_release(fetcher, suite)?.and_then(|accepted| verify(&accepted).ok());
        if let Some(accepted) = accepted.filter(|accepted| accepted.date() > release.date()) {
            self.progress.note(&format!(
                "upstream has an InRelease of {name} from {}, older than the one of {} that was accepted before, which is \
                 used",
                release.date(),
                accepted.date()
            ));
            return Ok(accepted);
        }
        let remembered = self.keep.remember(ACCEPTED, name, &Digest::of(bytes), bytes.len() as u64);
        remembered.map_err(|source| MirrorError::Keep { what: format!("InRelease of {name}"), source })?;
        self.saw(release.signatures())?;
        Ok(release)
    }

    /// The InRelease that was accepted last.
    fn accepted_release(&self, fetcher: &Fetcher<'_>, suite: &Suite) -> Result<Option<Vec<u8>>, FarmError> {
        let accepted = self.keep.latest(ACCEPTED, suite.name());
        let accepted = accepted
            .map_err(|source| MirrorError::Keep { what: format!("InRelease of {}", suite.name()), source })?;
        let Some(digest) = accepted else { return Ok(None) };
        Ok(fetcher.kept_document(suite.name(), &digest)?)
    }

    /// Fetches and judges a source that a lock names.
    pub(super) fn verify_locked(
        &self,
        recipe: &RecipeName,
        table: &SourceTable,
        locked: &LockedSource,
    ) -> Result<VerifiedSource, FarmError> {
        let verified = self.fetching(|fetcher, _| match table {
            SourceTable::DebianSource { package, suite, policy } => {
                self.verify_debian(fetcher, package, suite, policy, locked)
            }
            SourceTable::Crate { package, .. } => self.verify_crate(fetcher, package, locked),
            SourceTable::Git { project, .. } => {
                Err(FarmError::Usage(format!("{project} is a git source, which a lock cannot name")))
            }
        })?;
        match locked.digest() {
            Some(digest) if digest == verified.digest() => Ok(verified),
            other => Err(FarmError::NotTheLocked {
                what: format!("{} {}", locked.package, locked.version),
                recipe: recipe.to_string(),
                locked: other.cloned().unwrap_or_else(|| Digest::of(b"")),
                verified: verified.digest().clone(),
            }),
        }
    }

    fn verify_debian(
        &self,
        fetcher: &Fetcher<'_>,
        package: &str,
        suite: &str,
        policy: &str,
        locked: &LockedSource,
    ) -> Result<VerifiedSource, FarmError> {
        self.progress.stage(&format!("verify {package} {}", locked.version));
        let suite = self.suite(suite)?;
        let release = self.release(fetcher, &suite, policy)?;
        let index = index(fetcher, &suite, &release, "main/source/Sources.xz")?;
        let listed = index.source(package, Some(&locked.version))?;
        let dsc = fetcher.read(&suite.pool(&listed.dsc.name, &listed.dsc.digest, listed.dsc.size))?;
        let source = listed.verify(&dsc, locked.epoch)?;
        let files = [&listed.dsc].into_iter().chain(&listed.files);
        suite.keep(fetcher, files.map(|f| (f.name.as_str(), &f.digest, f.size)))?;
        Ok(source)
    }

    fn verify_crate(
        &self,
        fetcher: &Fetcher<'_>,
        package: &str,
        locked: &LockedSource,
    ) -> Result<VerifiedSource, FarmError> {
        self.progress.stage(&format!("verify crate {package} {}", locked.version));
        let index = self.crates_index()?;
        let [file] = locked.files.as_slice() else {
            return Err(FarmError::Usage(format!("the lock of crate {package} must name exactly one file")));
        };
        let wanted = index.wanted(fetcher, package, &locked.version, &file.digest, file.size)?;
        fetcher.fetch(&wanted)?;
        let mut bytes = fetcher.open(&file.digest)?.ok_or_else(|| MirrorError::Gone { what: wanted.what })?;
        Ok(VerifiedSource::pinned((package, &locked.version), &file.digest, locked.epoch, &mut bytes)?)
    }

    pub(super) fn crates_index(&self) -> Result<Index, FarmError> {
        let home = std::env::var_os("CARGO_HOME").map(Into::into).or_else(|| {
            let home: std::path::PathBuf = std::env::var_os("HOME")?.into();
            Some(home.join(".cargo"))
        });
        let folder = std::env::current_dir().map_err(FarmError::io("."))?;
        let home = home.unwrap_or_else(|| folder.clone());
        Ok(Index::new(self.options.config.crates.index.as_deref(), &folder, &home)?)
    }

    /// The tag `version` of a git project, mirrored and judged. What is mirrored already is not asked for again: a tag
    /// that was accepted once does not change.
    pub(super) fn verify_tag(
        &self,
        project: &str,
        policy: &str,
        (version, unsigned): (&str, bool),
    ) -> Result<VerifiedTag, FarmError> {
        self.progress.stage(&format!("verify tag {version} of {project}"));
        let policy = self.policy(policy)?;
        let (mirror, fresh) = self.mirrored_for(project, version)?;
        let name = format!("{project} {version}");
        let kept = |source| MirrorError::Keep { what: name.clone(), source };
        let taken = unsigned && policy.requirement(RuleKind::Unsigned).is_some();
        let kind = if taken { TAKEN_TAG } else { ACCEPTED_TAG };
        let accepted = self.keep.latest(kind, &name).map_err(kept)?.filter(|digest| *digest != nothing());
        if accepted.is_none() && !self.options.offline {
            let known = mirror.tag(version)?;
            let judged = self.judge_tags(project, &known, (&policy, unsigned), None)?;
            if !fresh && !matches!(judged, Some(Ok(_))) {
                // Nothing here is good: whatever was seen first does not stand in the way of what upstream has now.
                self.sync_project(&self.project(project)?)?;
            }
        }
        let seen = mirror.tag(version)?;
        if seen.is_empty() && self.options.offline {
            return Err(MirrorError::Offline { what: format!("tag {version} of {project}") }.into());
        }
        let verified = self
            .judge_tags(project, &seen, (&policy, unsigned), accepted.as_ref())?
            .unwrap_or_else(|| {
                Err(FarmError::Usage(format!("{project} has no tag {version}, neither here nor upstream")))
            })?;
        let verified = self.settled(project, &policy, verified)?;
        let digest = verified.object_digest().clone();
        self.keep.remember(kind, &name, &digest, 0).map_err(kept)?;
        self.saw(&verified.evidence().signatures)?;
        Ok(verified)
    }

    /// Judges every value that a tag was seen to have. The first good one counts; where one was accepted before, only
    /// that, and any other value is a tag that moved.
    fn judge_tags(
        &self,
        project: &str,
        seen: &[TagBytes],
        (policy, unsigned): (&Policy, bool),
        accepted: Option<&Digest>,
    ) -> Result<Option<Result<VerifiedTag, FarmError>>, FarmError> {
        let Some(first) = seen.first() else { return Ok(None) };
        let certificates = self.certificates(policy, &[])?;
        let judge = self.judge(policy, &certificates);
        let is_accepted = |tag: &TagBytes| {
            // A lightweight tag is its commit.
            accepted.is_none_or(|digest| Digest::of(tag.object.as_deref().unwrap_or(&tag.commit)) == *digest)
        };
        let other = seen.iter().find(|tag| !is_accepted(tag));
        if let (Some(_), Some(other)) = (accepted, other) {
            let old = seen.iter().find(|tag| is_accepted(tag)).unwrap_or(first);
            return Ok(Some(Err(MirrorError::TagMoved {
                project: project.to_owned(),
                tag: first.name.clone(),
                old: old.id.clone(),
                new: other.id.clone(),
            }
            .into())));
        }
        let mut refused = None;
        for tag in seen {
            let claimed = Claimed {
                project,
                name: &tag.name,
                id: &tag.id,
                object: tag.object.as_deref(),
                commit: (&tag.commit_id, &tag.commit),
            };
            let verified = if unsigned && policy.requirement(RuleKind::Unsigned).is_some() {
                VerifiedTag::unsigned(claimed, &judge)
            } else {
                VerifiedTag::verify(claimed, &judge)
            };
            match verified {
                Ok(verified) => return Ok(Some(Ok(verified))),
                Err(e) => refused = refused.or(Some(FarmError::from(e))),
            }
        }
        Ok(refused.map(Err))
    }

    /// Judges what else the policy demands of a tag's history, where the tag alone is not enough.
    pub(super) fn settled(
        &self,
        project: &str,
        policy: &Policy,
        tag: VerifiedTag,
    ) -> Result<VerifiedTag, FarmError> {
        let needs_chain = policy.requirement(RuleKind::CommitChain).is_some();
        if tag.settle().is_ok() || !needs_chain {
            tag.settle()?;
            return Ok(tag);
        }
        self.progress.stage(&format!("verify the history of {project}"));
        let certificates = self.certificates(policy, &[])?;
        let chain = self.chain(policy, &certificates, (project, self.git(project)?.path()), tag.commit())?;
        let tag = tag.with_chain(&chain);
        tag.settle()?;
        Ok(tag)
    }

    /// The mirror of a project of which the tag `version` is wanted, and whether it was synced right now. One that is not
    /// here yet is mirrored first; where that fails, no empty one is left behind for lists and schedules.
    fn mirrored_for(&self, project: &str, version: &str) -> Result<(GitMirror, bool), FarmError> {
        let fresh = !self.is_mirrored(project);
        if fresh {
            let what = || format!("tag {version} of {project}");
            if self.options.offline {
                return Err(MirrorError::Offline { what: what() }.into());
            }
            if let Err(e) = self.sync_project(&self.project(project)?) {
                if let Ok(mirror) = self.mirrored(project) {
                    mirror.remove_empty(&MirrorView(self.progress.as_ref()))?;
                }
                return Err(e);
            }
        }
        Ok((self.git(project)?, fresh))
    }

    pub(super) fn git(&self, project: &str) -> Result<GitMirror, FarmError> {
        Ok(GitMirror::open(&self.git_folder()?, project)?)
    }

    /// What is known of a tag's tree: from an earlier export, or by exporting it now.
    pub(super) fn plan_tag(&self, project: &str, tag: &VerifiedTag) -> Result<PlannedSource, FarmError> {
        let name = format!("{project} {}", tag.commit());
        let known = self
            .keep
            .latest("git-export", &name)
            .map_err(|source| MirrorError::Keep { what: name.clone(), source })?;
        let digest = match known.filter(|d| self.keep.open(d).is_ok_and(|f| f.is_some())) {
            Some(digest) => digest,
            None => self.export(project, tag, &name)?.digest().clone(),
        };
        Ok(PlannedSource {
            digest,
            revision: tag.commit().to_owned(),
            epoch: tag.epoch(),
            unsigned: tag.is_unsigned(),
        })
    }

    /// Exports the signed tree into the blob store and holds it against the signature.
    fn export(&self, project: &str, tag: &VerifiedTag, name: &str) -> Result<VerifiedSource, FarmError> {
        self.progress.stage(&format!("export {name}"));
        let mut writer = self.store.blobs.writer()?;
        self.git(project)?.export(tag.commit(), tag.epoch(), &mut writer)?;
        let (digest, size) = writer.commit(None)?;
        let source = self.verify_export(tag, &digest)?;
        self.keep
            .remember("git-export", name, &digest, size)
            .map_err(|source| MirrorError::Keep { what: name.to_owned(), source })?;
        Ok(source)
    }

    /// The exported archive as a verified source: its tree is recomputed from its bytes.
    pub(super) fn verify_export(
        &self,
        tag: &VerifiedTag,
        digest: &Digest,
    ) -> Result<VerifiedSource, FarmError> {
        let blob = self.store.blobs.open_blob(digest)?;
        let mut file = blob.ok_or_else(|| MirrorError::Gone { what: digest.to_string() })?.file;
        Ok(tag.archive(&mut file)?)
    }
}
