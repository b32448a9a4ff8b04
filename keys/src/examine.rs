//! Examines git objects one by one, without their repository and without an overall verdict, as an auditor does with a
//! folder of objects.

use git2::ObjectType;

use crate::judge::Signed;
use crate::object::{self, find, has_id, tag_header};
use crate::{Judge, Refusal, SignatureSeen, blocks};

/// What a tag or commit object says about itself, with the verdicts on its signatures.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Examined {
    /// The object's id.
    pub id: String,
    /// The name in a tag; empty for a commit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its signatures; empty if there are none.
    pub signatures: Vec<SignatureSeen>,
}

impl Examined {
    /// Examines a commit.
    pub fn commit(id: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Self, Refusal> {
        let what = format!("commit {id}");
        let malformed = |detail: String| Refusal::Malformed { what: what.clone(), detail };
        has_id(ObjectType::Commit, bytes, id).map_err(|e| malformed(e.to_owned()))?;
        let commit = object::commit(bytes).map_err(malformed)?;
        let signatures = match &commit.signature {
            Some(signature) => judge.detached(&what, Signed::Git, signature, &commit.payload)?,
            None => Vec::new(),
        };
        Ok(Self { id: id.to_owned(), name: String::new(), signatures })
    }

    /// Examines an annotated tag.
    pub fn tag(id: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Self, Refusal> {
        let what = format!("tag object {id}");
        let malformed = |detail: &str| Refusal::Malformed { what: what.clone(), detail: detail.to_owned() };
        has_id(ObjectType::Tag, bytes, id).map_err(malformed)?;
        let (payload, signature) = bytes.split_at(blocks::last(bytes).unwrap_or(bytes.len()));
        if find(payload, b"\n\n").is_none() {
            return Err(malformed("its headers do not end within the signed text"));
        }
        let name =
            tag_header(payload, "tag").ok_or_else(|| malformed("it has no name, or more than one name"))?;
        Ok(Self {
            id: id.to_owned(),
            name: name.to_owned(),
            signatures: judge.detached(&what, Signed::Git, signature, payload)?,
        })
    }
}
