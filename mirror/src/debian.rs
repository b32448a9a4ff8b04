//! Debian archives: where their documents and files are, by the "Debian repository format".

use std::io::{BufRead as _, BufReader, Read};

use hab_archive::{Compression, Decoder, Kind, Limits, Tar};
use hab_oci::Digest;

use crate::{Fetcher, FileToFetch, MirrorError, Size, kinds};

/// One suite of an archive, and the addresses to fetch it from.
#[derive(Clone, Debug)]
pub struct Suite {
    name: String,
    bases: Vec<String>,
}

impl Suite {
    /// The suite `name`, found below each of `bases` (without a final slash), the preferred one first.
    pub fn new(name: &str, bases: Vec<String>) -> Self {
        Self { name: name.to_owned(), bases }
    }

    /// The suite's name, a codename such as `bookworm`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The base addresses.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }

    /// Fetches the clearsigned InRelease file from each base address in turn: **unverified** bytes, or an error. All
    /// are returned, because `hab-keys` decides which one counts.
    pub fn in_releases(
        &self,
        fetcher: &Fetcher<'_>,
    ) -> Result<impl Iterator<Item = Result<Vec<u8>, MirrorError>>, MirrorError> {
        self.known()?;
        let name = format!("InRelease of {}", self.name);
        Ok(self.bases.iter().map(move |base| {
            let url = format!("{base}/dists/{}/InRelease", self.name).into();
            fetcher.document("debian-in-release", &name, std::slice::from_ref(&url))
        }))
    }

    /// The bytes of an index such as `main/source/Sources.xz`, by the digest in a verified InRelease.
    pub fn index(
        &self,
        fetcher: &Fetcher<'_>,
        path: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<Vec<u8>, MirrorError> {
        self.keep_index(fetcher, path, digest, size)?;
        fetcher.read(&self.index_file(path, digest, size))
    }

    /// Stores an index if it is missing, and has it served by its hash.
    pub fn keep_index(
        &self,
        fetcher: &Fetcher<'_>,
        path: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<(), MirrorError> {
        self.known()?;
        fetcher.fetch(&self.index_file(path, digest, size))?;
        fetcher.name(kinds::DEBIAN_INDEX, &by_hash(&self.name, path, digest), digest, size)
    }

    /// The index as a file to fetch. The by-hash address comes first, so that an archive in the middle of an update
    /// cannot send an index of another generation.
    fn index_file(&self, path: &str, digest: &Digest, size: u64) -> FileToFetch {
        let by_hash = self.bases.iter().map(|b| format!("{b}/{}", by_hash(&self.name, path, digest)));
        let plain = self.bases.iter().map(|b| format!("{b}/dists/{}/{path}", self.name));
        FileToFetch {
            what: format!("{path} of {}", self.name),
            urls: by_hash.chain(plain).map(Into::into).collect(),
            digest: digest.clone(),
            size: Size::Exact(size),
        }
    }

    /// Serves the InRelease `release` (its digest and size) from now on, with these `indexes`, which must all be
    /// stored. The last fact that is recorded makes all of them current at once.
    pub fn publish(
        &self,
        fetcher: &Fetcher<'_>,
        (release, size): (&Digest, u64),
        indexes: &[(String, Digest, u64)],
    ) -> Result<(), MirrorError> {
        let name = |name: &str, digest, size| fetcher.name(kinds::DEBIAN_INDEX, name, digest, size);
        for (path, digest, size) in indexes {
            name(&beside(&format!("dists/{}/{path}", self.name), release), digest, *size)?;
        }
        name(&by_hash(&self.name, "InRelease", release), release, size)?;
        name(&in_release(&self.name), release, size)
    }

    /// Stores files of the archive's pool if they are missing, and has them served by their paths.
    pub fn keep<'a>(
        &self,
        fetcher: &Fetcher<'_>,
        files: impl IntoIterator<Item = (&'a str, &'a Digest, u64)>,
    ) -> Result<(), MirrorError> {
        let files: Vec<_> = files.into_iter().collect();
        if let Some((path, ..)) = files.iter().find(|(path, ..)| !is_archive_path(path)) {
            return Err(MirrorError::Malformed {
                what: format!("the lock's path {path:?}"),
                expected: "a path of a file in a Debian archive",
                detail: "it is not of the form pool/…".to_owned(),
            });
        }
        let wanted: Vec<_> =
            files.iter().map(|(path, digest, size)| self.pool(path, digest, *size)).collect();
        fetcher.fetch_all(&wanted)?;
        files
            .iter()
            .try_for_each(|(path, digest, size)| fetcher.name(kinds::DEBIAN_POOL, path, digest, *size))
    }

    /// A file below the archive's root, such as `pool/main/…/x.deb`, ready to be fetched.
    pub fn pool(&self, path: &str, digest: &Digest, size: u64) -> FileToFetch {
        FileToFetch {
            what: path.rsplit('/').next().unwrap_or(path).to_owned(),
            urls: self.bases.iter().map(|b| format!("{b}/{path}").into()).collect(),
            digest: digest.clone(),
            size: Size::Exact(size),
        }
    }

    fn known(&self) -> Result<(), MirrorError> {
        if self.bases.is_empty() {
            return Err(MirrorError::NoUpstream {
                what: format!("Debian suite {}", self.name),
                advice: "the host's apt configuration does not carry it; set debian.bases in hab.toml"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

/// The name under which the current InRelease of a suite is served.
pub fn in_release(suite: &str) -> String {
    format!("dists/{suite}/InRelease")
}

/// The permanent name of an index: in the folder of its path, by its hash.
pub fn by_hash(suite: &str, path: &str, digest: &Digest) -> String {
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    format!("dists/{suite}/{folder}by-hash/SHA256/{}", digest.hex())
}

/// The name of the file at `path` (`dists/…`) that belongs to the InRelease `release`.
pub fn beside(path: &str, release: &Digest) -> String {
    format!("{path} beside {release}")
}

/// Whether `path` leads to a file below an archive's root that is not an index, and nowhere else.
fn is_archive_path(path: &str) -> bool {
    let whole = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    path.split('/').all(whole) && !path.starts_with("dists/")
}

/// The largest changelog that is read, in bytes.
const CHANGELOG_LIMIT: u64 = 16 << 20;

/// Limits for a packaging tarball, which has patches, scripts and translations.
const PACKAGING: Limits =
    Limits { entries: 100_000, entry: 1 << 30, total: 1 << 30, decoded: 2 << 30, ..Limits::ORDINARY };

/// The date of the newest entry in debian/changelog of a `.debian.tar.xz`, in seconds since 1970. It is the source's
/// date, as in dpkg's SOURCE_DATE_EPOCH (deb-changelog(5)).
pub fn changelog_date(name: &str, tarball: impl Read) -> Result<i64, MirrorError> {
    let malformed = |detail: String| MirrorError::Malformed {
        what: name.to_owned(),
        expected: "a Debian packaging tarball",
        detail,
    };
    let mut tarball = BufReader::new(tarball);
    let start = tarball.fill_buf().map_err(|e| malformed(e.to_string()))?;
    let compression = Compression::recognise(start)
        .map_err(|looks_like| malformed(format!("it looks like {looks_like}")))?;
    let decoder = Decoder::new(compression, tarball, &PACKAGING).map_err(|e| malformed(e.to_string()))?;
    let mut tar = Tar::new(decoder, &PACKAGING);
    while let Some(entry) = tar.next_entry().map_err(|e| malformed(e.words()))? {
        if entry.path != b"debian/changelog" || entry.kind != Kind::File {
            continue;
        }
        let text = tar.whole(CHANGELOG_LIMIT).map_err(|e| malformed(e.words()))?;
        let text = String::from_utf8_lossy(&text);
        let trailer = text.lines().find_map(|line| line.strip_prefix(" -- "));
        let date = trailer.and_then(|line| line.rsplit_once(">  ")).map(|(_, date)| date.trim());
        let date = date.ok_or_else(|| malformed("debian/changelog has no trailer line".to_owned()))?;
        let parsed = jiff::fmt::rfc2822::parse(date).map_err(|e| malformed(format!("{date}: {e}")))?;
        return Ok(parsed.timestamp().as_second());
    }
    Err(malformed("it has no debian/changelog".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_lock_leads_to_a_file_of_the_archive_or_nowhere() {
        for path in ["pool/main/b/bash/bash_5.2.15-2+b13_amd64.deb", "pool/x.deb", "x.deb"] {
            assert!(is_archive_path(path), "{path}");
        }
        for path in [
            "",
            "/",
            "/pool/x",
            "pool//x",
            "pool/../x",
            "../x",
            "pool/./x",
            "pool/x/",
            "pool/\0x",
            "dists/s/InRelease",
        ] {
            assert!(!is_archive_path(path), "{path:?}");
        }
    }

    #[test]
    fn an_index_has_its_hash_as_a_name_beside_its_own() {
        let digest = Digest::of(b"");
        let at = |path| by_hash("stable", path, &digest).replace(digest.hex(), "HEX");
        assert_eq!(at("main/source/Sources.xz"), "dists/stable/main/source/by-hash/SHA256/HEX");
        assert_eq!(at("InRelease"), "dists/stable/by-hash/SHA256/HEX");
    }
}
