//! Crates, through the sparse index that the host's own cargo configuration names (Cargo book, "Registry Index").

use std::path::Path;

use hab_oci::Digest;
use serde::Deserialize;
use tame_index::{IndexKrate, IndexUrl, KrateName};

use crate::{Fetcher, MirrorError, Size, Wanted};

/// A sparse registry index.
#[derive(Clone, Debug)]
pub struct Index {
    base: String,
}

/// One published version of a crate, as its index entry tells.
#[derive(Clone, Debug)]
pub struct Published {
    /// The version.
    pub version: String,
    /// The sha256 of the .crate file.
    pub digest: Digest,
    /// When it was published, RFC 3339; older entries have none.
    pub published: Option<String>,
}

#[derive(Deserialize)]
struct IndexConfig {
    dl: String,
}

impl Index {
    /// The index at `base` (`https://…/`, with or without `sparse+`), or else the one that cargo would use in
    /// `folder` with `cargo_home`: source replacement included.
    pub fn new(base: Option<&str>, folder: &Path, cargo_home: &Path) -> Result<Self, MirrorError> {
        let config = |detail: String| MirrorError::HostConfig { client: "cargo", detail };
        let utf8 = |p: &Path| {
            tame_index::PathBuf::from_path_buf(p.to_owned())
                .map_err(|p| config(format!("{} is not UTF-8", p.display())))
        };
        let url = match base.filter(|base| !base.is_empty()) {
            Some(base) => base.to_owned(),
            // Only what cargo's files say is asked; the version merely says that sparse is the default protocol.
            None => IndexUrl::crates_io(Some(utf8(folder)?), Some(&utf8(cargo_home)?), Some("1.85.0"))
                .map_err(|e| config(e.to_string()))?
                .as_str()
                .to_owned(),
        };
        let base = url.strip_prefix("sparse+").unwrap_or(&url);
        if !base.starts_with("https://") && !base.starts_with("http://") {
            return Err(config(format!("{url} is not a sparse index; set crates.index in hab.toml to one")));
        }
        Ok(Self { base: base.trim_end_matches('/').to_owned() })
    }

    /// The published version `version` of `name`. **Unverified**: the index is not signed, so its digest becomes
    /// trusted only when a person commits it to a lock.
    pub fn published(
        &self,
        fetcher: &Fetcher<'_>,
        name: &str,
        version: &str,
    ) -> Result<Published, MirrorError> {
        let malformed = |detail: String| MirrorError::Malformed {
            what: format!("the index entry of crate {name}"),
            expected: "a sparse index entry",
            detail,
        };
        let krate = KrateName::crates_io(name).map_err(|e| malformed(e.to_string()))?;
        let url = format!("{}/{}", self.base, krate.relative_path(Some('/')));
        let bytes = fetcher.document("crate-index", &format!("index entry of crate {name}"), &[url])?;
        let entry = IndexKrate::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        if let Some(entry) = entry.versions.iter().find(|v| v.version == version) {
            return Ok(Published {
                version: version.to_owned(),
                digest: Digest::from_sha256_hex(&hex::encode(entry.checksum.0))
                    .map_err(|e| malformed(e.to_string()))?,
                published: entry.pubtime.as_ref().map(ToString::to_string),
            });
        }
        Err(MirrorError::Unknown {
            what: format!("version {version} of crate {name}"),
            upstream: "the crates index".to_owned(),
        })
    }

    /// Where the .crate file of a version is fetched from (Cargo book, "Index Configuration", `dl`).
    pub fn download_url(
        &self,
        fetcher: &Fetcher<'_>,
        name: &str,
        version: &str,
        digest: &Digest,
    ) -> Result<String, MirrorError> {
        KrateName::crates_io(name).map_err(|e| MirrorError::Malformed {
            what: format!("crate {name:?}"),
            expected: "a crate's name",
            detail: e.to_string(),
        })?;
        let url = format!("{}/config.json", self.base);
        let bytes = fetcher.document("crate-index", "config.json of the crates index", &[url])?;
        let config: IndexConfig = serde_json::from_slice(&bytes).map_err(|e| MirrorError::Malformed {
            what: "config.json of the crates index".to_owned(),
            expected: "a sparse index configuration",
            detail: e.to_string(),
        })?;
        // The index is not signed: what it names may be asked for over the network, and nothing else.
        if !config.dl.starts_with("https://") && !config.dl.starts_with("http://") {
            return Err(MirrorError::Malformed {
                what: "config.json of the crates index".to_owned(),
                expected: "a sparse index configuration",
                detail: format!("dl is {:?}, not an http or https address", config.dl),
            });
        }
        let prefix = prefix(name);
        if !config.dl.contains('{') {
            return Ok(format!("{}/{name}/{version}/download", config.dl));
        }
        Ok(config
            .dl
            .replace("{crate}", name)
            .replace("{version}", version)
            .replace("{prefix}", &prefix)
            .replace("{lowerprefix}", &prefix.to_lowercase())
            .replace("{sha256-checksum}", digest.hex()))
    }

    /// The .crate file that a lock names. The index is only asked where the file is not kept yet.
    pub fn wanted(
        &self,
        fetcher: &Fetcher<'_>,
        name: &str,
        version: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<Wanted, MirrorError> {
        let what = format!("{name}-{version}.crate");
        let urls = if fetcher.offline() || fetcher.open(digest)?.is_some() {
            Vec::new()
        } else {
            vec![self.download_url(fetcher, name, version, digest)?]
        };
        Ok(Wanted { what, urls, digest: digest.clone(), size: Size::Exact(size) })
    }
}

/// `1`, `2`, `3/a` or `ab/cd`, by the length of the name.
fn prefix(name: &str) -> String {
    match name.len() {
        1 | 2 => name.len().to_string(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}
