//! Exports images to a folder or a file, and imports them from there.

use std::path::Path;
use std::str::FromStr;

use hab_oci::{RepositoryName, Tag, TagOrDigest};

use crate::cli::{Global, print_json, terminal, usage};
use hab_farm::Farm;
use hab_farm::images::export::Wanted;

/// `REPOSITORY`, `REPOSITORY:TAG` or `REPOSITORY@DIGEST`.
#[derive(Clone, Debug)]
pub struct Image {
    repository: RepositoryName,
    reference: Option<TagOrDigest>,
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, reference) = if let Some((name, digest)) = text.split_once('@') {
            let digest = digest.parse().map_err(|e: hab_oci::DigestError| e.to_string())?;
            (name, Some(TagOrDigest::Digest(digest)))
        } else if let Some((name, tag)) = text.rsplit_once(':') {
            let tag = tag.parse().map_err(|e: hab_oci::ReferenceError| e.to_string())?;
            (name, Some(TagOrDigest::Tag(tag)))
        } else {
            (text, None)
        };
        let repository = name.parse().map_err(|e: hab_oci::ReferenceError| e.to_string())?;
        Ok(Self { repository, reference })
    }
}

/// `REPOSITORY` or `REPOSITORY:TAG`.
#[derive(Clone, Debug)]
pub struct TagOrRepository {
    pub repository: RepositoryName,
    pub tag: Option<Tag>,
}

impl FromStr for TagOrRepository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Image { repository, reference } = text.parse()?;
        match reference {
            None => Ok(Self { repository, tag: None }),
            Some(TagOrDigest::Tag(tag)) => Ok(Self { repository, tag: Some(tag) }),
            Some(TagOrDigest::Digest(_)) => {
                Err(format!("{text:?} is not REPOSITORY[:TAG]: what is imported has its own digest"))
            }
        }
    }
}

pub fn export(
    global: &Global,
    farm: &Farm,
    images: &[Image],
    to: &Path,
    referrers: bool,
) -> anyhow::Result<()> {
    let Some(Image { repository, .. }) = images.first() else { return Ok(()) };
    if let Some(other) = images.iter().find(|image| image.repository != *repository) {
        let other = &other.repository;
        return Err(usage(anyhow::anyhow!(
            "{repository} and {other} would be one layout, whose names are tags alone: export them one by one"
        )));
    }
    let these: Option<Vec<_>> = images.iter().map(|image| image.reference.clone()).collect();
    let wanted = these.map_or(Wanted::Tags, Wanted::These);
    let packed = farm.images().export(repository, &wanted, to, referrers)?;
    terminal::say(&format!("{}: {packed}", to.display()));
    if global.json { print_json(&packed) } else { Ok(()) }
}

pub fn import(global: &Global, farm: &Farm, from: &Path, place: &TagOrRepository) -> anyhow::Result<()> {
    let unpacked = farm.images().import(from, &place.repository, place.tag.as_ref())?;
    for (tag, digest) in &unpacked.tags {
        terminal::say(&format!("{}:{tag} {digest}", place.repository));
    }
    terminal::say(&unpacked.to_string());
    if global.json { print_json(&unpacked) } else { Ok(()) }
}
