//! Crates from the sparse index that the host's own cargo configuration names (Cargo book, "Registry Index").

use std::path::Path;
use std::sync::OnceLock;

use hab_oci::Digest;
use serde::Deserialize;
use tame_index::{CRATES_IO_HTTP_INDEX, CRATES_IO_INDEX, IndexKrate, IndexUrl, KrateName, Version};

use crate::{Address, Fetcher, FileToFetch, MirrorError, Size, kinds};

/// The largest .crate file whose size no lock gives, in bytes; the default registry accepts a sixth of it.
const CRATE_LIMIT: u64 = 64 << 20;

/// The longest index line that is stored, in bytes: lines are served from memory.
const LINE_LIMIT: usize = 1 << 20;

/// A sparse registry index.
#[derive(Clone, Debug)]
pub struct Index {
    base: String,
    /// `dl` from the index's configuration; fetched once.
    dl: OnceLock<String>,
}

/// A version of a crate, with the digest that a lock gives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedCrate {
    name: String,
    version: String,
    digest: Digest,
}

impl LockedCrate {
    /// The digest of its .crate file.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The name under which the version's index line is stored.
    pub fn line_name(&self) -> String {
        line_name(&self.name, &self.version)
    }

    /// The version `version` of crate `name`; `digest` is that of its .crate file.
    pub fn new(name: &str, version: &str, digest: Digest) -> Result<Self, MirrorError> {
        let malformed =
            |what: String, expected, detail: String| MirrorError::Malformed { what, expected, detail };
        KrateName::crates_io(name)
            .map_err(|e| malformed(format!("crate {name:?}"), "a crate's name", e.to_string()))?;
        version.parse::<Version>().map_err(|e| {
            malformed(format!("version {version:?} of crate {name}"), "a version", e.to_string())
        })?;
        Ok(Self { name: name.to_owned(), version: version.to_owned(), digest })
    }
}

/// The fields of an index line that are compared with a lock.
#[derive(Deserialize)]
struct Line {
    name: String,
    vers: String,
    cksum: String,
}

/// Whether a `source` in a Cargo.lock is the default registry, under any of its addresses.
pub fn is_default_registry(source: &str) -> bool {
    source == CRATES_IO_HTTP_INDEX || source.strip_prefix("registry+") == Some(CRATES_IO_INDEX)
}

/// One published version of a crate, by its index entry.
#[derive(Clone, Debug)]
pub struct Published {
    /// The version.
    pub version: String,
    /// The sha256 of the .crate file.
    pub digest: Digest,
    /// The time of publication, RFC 3339; older entries have none.
    pub published: Option<String>,
}

#[derive(Deserialize)]
struct IndexConfig {
    dl: String,
}

impl Index {
    /// The index at `base` (`https://…/`, with or without `sparse+`). Without `base`, the index that cargo would use in
    /// `folder` with `cargo_home`, by cargo's rules for source replacement.
    pub fn new(base: Option<&str>, folder: &Path, cargo_home: &Path) -> Result<Self, MirrorError> {
        let config = |detail: String| MirrorError::HostConfig { client: "cargo", detail };
        let utf8 = |p: &Path| {
            tame_index::PathBuf::from_path_buf(p.to_owned())
                .map_err(|p| config(format!("{} is not UTF-8", p.display())))
        };
        let url = match base.filter(|base| !base.is_empty()) {
            Some(base) => base.to_owned(),
            // Reads only cargo's configuration files; the version says that sparse is the default protocol.
            None => IndexUrl::crates_io(Some(utf8(folder)?), Some(&utf8(cargo_home)?), Some("1.85.0"))
                .map_err(|e| config(e.to_string()))?
                .as_str()
                .to_owned(),
        };
        let base = url.strip_prefix("sparse+").unwrap_or(&url);
        if !base.starts_with("https://") && !base.starts_with("http://") {
            return Err(config(format!("{url} is not a sparse index; set crates.index in hab.toml to one")));
        }
        Ok(Self { base: base.trim_end_matches('/').to_owned(), dl: OnceLock::new() })
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
        let bytes =
            fetcher.document("crate-index", &format!("index entry of crate {name}"), &[url.into()])?;
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

    /// The address of a version's .crate file (Cargo book, "Index Configuration", `dl`).
    pub fn download_url(
        &self,
        fetcher: &Fetcher<'_>,
        name: &str,
        version: &str,
        digest: &Digest,
    ) -> Result<Address, MirrorError> {
        KrateName::crates_io(name).map_err(|e| MirrorError::Malformed {
            what: format!("crate {name:?}"),
            expected: "a crate's name",
            detail: e.to_string(),
        })?;
        let dl = self.dl(fetcher)?;
        let prefix = prefix(name);
        // The index is not signed: an address at another origin must be a public one.
        let named = |url| Address::from_document_at(&self.base, url);
        if !dl.contains('{') {
            return Ok(named(format!("{dl}/{name}/{version}/download")));
        }
        Ok(named(
            dl.replace("{crate}", name)
                .replace("{version}", version)
                .replace("{prefix}", &prefix)
                .replace("{lowerprefix}", &prefix.to_lowercase())
                .replace("{sha256-checksum}", digest.hex()),
        ))
    }

    fn dl(&self, fetcher: &Fetcher<'_>) -> Result<&str, MirrorError> {
        if let Some(dl) = self.dl.get() {
            return Ok(dl);
        }
        let url = format!("{}/config.json", self.base);
        let bytes = fetcher.document("crate-index", "config.json of the crates index", &[url.into()])?;
        let config: IndexConfig = serde_json::from_slice(&bytes).map_err(|e| MirrorError::Malformed {
            what: "config.json of the crates index".to_owned(),
            expected: "a sparse index configuration",
            detail: e.to_string(),
        })?;
        // The index is not signed: its addresses must be http or https, and so never a local file.
        if !config.dl.starts_with("https://") && !config.dl.starts_with("http://") {
            return Err(MirrorError::Malformed {
                what: "config.json of the crates index".to_owned(),
                expected: "a sparse index configuration",
                detail: format!("dl is {:?}, not an http or https address", config.dl),
            });
        }
        Ok(self.dl.get_or_init(|| config.dl))
    }

    /// Stores a version's .crate file and its index line, if they are missing, and has both served. The line is
    /// unsigned, so it is accepted only if it agrees with the lock. Once stored, it is not fetched again, whatever
    /// upstream says later.
    pub fn keep(&self, fetcher: &Fetcher<'_>, locked: &LockedCrate) -> Result<(), MirrorError> {
        let LockedCrate { name, version, digest } = locked;
        let file = format!("{name}-{version}.crate");
        // The line comes before the file: two locks could name two different files.
        let line = self.line(fetcher, locked)?;
        if fetcher.open(digest)?.is_none() {
            let url = self.download_url(fetcher, name, version, digest)?;
            let bytes = fetcher.glance(&file, std::slice::from_ref(&url), CRATE_LIMIT)?;
            let actual = Digest::of(&bytes);
            if actual != *digest {
                let (what, url, expected) = (file, url.shown(), digest.clone());
                return Err(MirrorError::WrongDigest { what, url, expected, actual });
            }
            fetcher.take(&file, digest, &bytes)?;
        }
        let size = fetcher.size(digest)?;
        fetcher.name(kinds::CRATE, &format!("{name} {version}"), digest, size)?;
        let of_line = Digest::of(&line);
        if fetcher.open(&of_line)?.is_none() {
            fetcher.take(&file, &of_line, &line)?;
        }
        fetcher.name(kinds::CRATE_LINE, &line_name(name, version), &of_line, line.len() as u64)
    }

    /// The index line of a version: the stored one, or else the index's own.
    fn line(&self, fetcher: &Fetcher<'_>, locked: &LockedCrate) -> Result<Vec<u8>, MirrorError> {
        let LockedCrate { name, version, digest } = locked;
        let what = format!("the index entry of crate {name} {version}");
        for kind in [kinds::CRATE_LINE, kinds::CRATE_LINE_OFFERED] {
            if let Some(kept) = fetcher.named(kind, &line_name(name, version))?
                && let Some(line) = fetcher.kept_document(&what, &kept)?
                && is_line(&line)
                && line_of(&line, locked).is_some_and(|(_, cksum)| cksum == digest.hex())
            {
                return Ok(line);
            }
        }
        let url = format!("{}/{}", self.base, index_path(name));
        let entry = fetcher.glance(&what, &[url.clone().into()], fetcher.limits().document)?;
        let mut lines = entry.split(|b| *b == b'\n').filter(|line| line.len() <= LINE_LIMIT);
        let found = lines.find_map(|line| line_of(line, locked));
        let Some((line, cksum)) = found else {
            let what = format!("version {version} of crate {name}");
            return Err(MirrorError::Unknown { what, upstream: "the crates index".to_owned() });
        };
        let actual = Digest::from_sha256_hex(&cksum).map_err(|e| MirrorError::Malformed {
            what: what.clone(),
            expected: "a sparse index entry",
            detail: e.to_string(),
        })?;
        if actual == *digest {
            Ok(line.to_vec())
        } else {
            Err(MirrorError::WrongDigest { what, url, expected: digest.clone(), actual })
        }
    }

    /// The .crate file that a lock names, ready to be fetched. The index is asked only if the file is not stored yet.
    pub fn wanted(
        &self,
        fetcher: &Fetcher<'_>,
        name: &str,
        version: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<FileToFetch, MirrorError> {
        let what = format!("{name}-{version}.crate");
        let urls = if fetcher.offline() || fetcher.open(digest)?.is_some() {
            Vec::new()
        } else {
            vec![self.download_url(fetcher, name, version, digest)?]
        };
        Ok(FileToFetch { what, urls, digest: digest.clone(), size: Size::Exact(size) })
    }
}

/// Whether these bytes are a single line. JSON may have line breaks between its parts, and cargo would take the text
/// between two of them for another crate's line.
fn is_line(bytes: &[u8]) -> bool {
    bytes.len() <= LINE_LIMIT && !bytes.contains(&b'\n') && !bytes.contains(&b'\r')
}

/// A line and its checksum, if it is about this version.
fn line_of<'a>(line: &'a [u8], locked: &LockedCrate) -> Option<(&'a [u8], String)> {
    let read: Line = serde_json::from_slice(line).ok()?;
    (read.name == locked.name && read.vers == locked.version).then_some((line, read.cksum))
}

fn line_name(name: &str, version: &str) -> String {
    format!("{} {version}", name.to_lowercase())
}

/// The path of a crate's entry below a sparse index (Cargo book, "Index Files"). `name` must be a valid crate name.
fn index_path(name: &str) -> String {
    let name = name.to_lowercase();
    format!("{}/{name}", prefix(&name))
}

/// The crate name in a path below a sparse index, as names of [`kinds::CRATE_LINE`] spell it; `None` if the path is no
/// entry's.
pub fn asked(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    (KrateName::crates_io(name).is_ok() && index_path(name) == path).then_some(name)
}

/// The folder of a crate's entry: `1`, `2`, `3/a` or `ab/cd`, by the length of the name.
fn prefix(name: &str) -> String {
    match name.len() {
        1 | 2 => name.len().to_string(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_farm_offers_is_one_line_or_nothing() {
        let digest = Digest::of(b"x");
        let locked = LockedCrate::new("a", "1.0.0", digest.clone()).unwrap();
        let rest = format!("\"name\":\"a\",\"vers\":\"1.0.0\",\"cksum\":\"{}\"}}", digest.hex());
        let hidden = "{\"x\":\n{\"name\":\"evil\",\"vers\":\"1.0.0\",\"cksum\":\"00\"}\n,";
        for (start, good) in [("{", true), (hidden, false), ("{\r", false)] {
            let text = format!("{start}{rest}");
            assert!(line_of(text.as_bytes(), &locked).is_some(), "it is JSON that says the right thing");
            assert_eq!(is_line(text.as_bytes()), good, "{text}");
        }
        assert!(!is_line(&vec![b' '; LINE_LIMIT + 1]));
    }

    #[test]
    fn only_the_path_that_an_index_gives_a_name_asks_for_it() {
        for (path, name) in
            [("1/a", "a"), ("2/ab", "ab"), ("3/a/abc", "abc"), ("un/de/under_score", "under_score")]
        {
            assert_eq!(asked(path), Some(name));
        }
        for path in
            ["", "a", "1/ab", "3/A/Abc", "3/a/../abc", "../3/a/abc", "3/b/abc", "é/é/éé", "ab/c/abc", "2/.."]
        {
            assert_eq!(asked(path), None, "{path}");
        }
    }
}
