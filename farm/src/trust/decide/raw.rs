//! Judges a folder of raw git objects, each named by its id, one by one and without a verdict about a repository.

use std::fs;
use std::path::Path;

use hab_keys::{Examined, RuleKind, SignatureSeen};
use hab_mirror::git::GitMirror;

use super::{By, Decisions, read};
use crate::error::FarmError;

impl Decisions<'_> {
    /// Judges every object in a folder of raw tags or commits, each named by its id.
    pub fn examine(&self, by: &By, folder: &Path, kind: ObjectKind) -> Result<Vec<JudgedObject>, FarmError> {
        let loaded = self.trust.load(&by.policy, &by.certificates)?;
        let judge = self.trust.judge(&loaded);
        let group = loaded.policy.requirement(match kind {
            ObjectKind::Tag => RuleKind::Tag,
            ObjectKind::Commit => RuleKind::CommitChain,
        });
        let group = group.and_then(|r| r.rule.quorum().cloned());
        let mut looked = Vec::new();
        for id in raw_objects(folder)? {
            let bytes = read(&folder.join(&id), 8 << 20)?;
            let examined = match kind {
                ObjectKind::Tag => Examined::tag(&id, &bytes, &judge),
                ObjectKind::Commit => Examined::commit(&id, &bytes, &judge),
            };
            looked.push(match examined {
                Ok(mut examined) => {
                    if let Some(quorum) = &group {
                        judge.set_aside(quorum, &mut examined.signatures);
                    }
                    self.trust.memory.saw(&examined.signatures)?;
                    let counts = group.as_ref().is_some_and(|q| judge.counts(q, &examined.signatures));
                    JudgedObject {
                        id,
                        name: examined.name,
                        counts,
                        signatures: examined.signatures,
                        refused: None,
                    }
                }
                Err(e) if e.is_verdict() => JudgedObject {
                    id,
                    name: String::new(),
                    counts: false,
                    signatures: Vec::new(),
                    refused: Some(e.to_string()),
                },
                Err(e) => return Err(e.into()),
            });
        }
        Ok(looked)
    }
}

/// The kind of raw objects to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Annotated tags.
    Tag,
    /// Commits.
    Commit,
}

/// A tag or commit that was judged on its own.
#[derive(Debug, serde::Serialize)]
pub struct JudgedObject {
    /// Its object id.
    pub id: String,
    /// The tag's own name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether its signatures satisfy the policy.
    pub counts: bool,
    /// Its signatures.
    pub signatures: Vec<SignatureSeen>,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl JudgedObject {
    /// The result in a few words, for counting.
    pub fn state(&self) -> String {
        match (&self.refused, self.signatures.first()) {
            (Some(why), _) => why.clone(),
            (None, None) => "unsigned".to_owned(),
            (None, Some(seen)) => match &seen.aside {
                Some(aside) => format!("{}, but {aside}", seen.verdict),
                None => seen.verdict.to_string(),
            },
        }
    }
}

/// Whether `folder` contains raw objects and is not a repository.
pub fn is_raw(folder: &Path) -> bool {
    GitMirror::existing(folder).is_err() && raw_objects(folder).is_ok_and(|ids| !ids.is_empty())
}

fn raw_objects(folder: &Path) -> Result<Vec<String>, FarmError> {
    let entries = fs::read_dir(folder).map_err(FarmError::io(folder))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut ids: Vec<String> =
        names.filter(|name| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    ids.sort();
    Ok(ids)
}
