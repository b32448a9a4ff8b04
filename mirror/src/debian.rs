//! Debian archives: where their documents and files are, by the layout of the "Debian repository format".

use std::io::Read;

use hab_oci::Digest;

use crate::{Fetcher, MirrorError, Size, Wanted};

/// One suite of one archive, and where it may be fetched from.
#[derive(Clone, Debug)]
pub struct Suite {
    name: String,
    bases: Vec<String>,
}

impl Suite {
    /// The suite `name`, to be had below each of `bases` (without a trailing slash), the preferred one first.
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

    /// The clearsigned InRelease file of each base address in turn: **unverified** bytes, or why there are none. Which
    /// one counts is for its judge to say, so all are offered.
    pub fn in_releases(
        &self,
        fetcher: &Fetcher<'_>,
    ) -> Result<impl Iterator<Item = Result<Vec<u8>, MirrorError>>, MirrorError> {
        self.known()?;
        let name = format!("InRelease of {}", self.name);
        Ok(self.bases.iter().map(move |base| {
            let url = format!("{base}/dists/{}/InRelease", self.name);
            fetcher.document("debian-in-release", &name, std::slice::from_ref(&url))
        }))
    }

    /// An index such as `main/source/Sources.xz`, by the digest that a verified InRelease gives for it. Asked for by
    /// hash first, so that an archive that is being updated cannot give one of another generation.
    pub fn index(
        &self,
        fetcher: &Fetcher<'_>,
        path: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<Vec<u8>, MirrorError> {
        self.known()?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let at = |b: &String| format!("{b}/dists/{}", self.name);
        let by_hash =
            self.bases.iter().map(|b| format!("{}/{folder}/by-hash/SHA256/{}", at(b), digest.hex()));
        let plain = self.bases.iter().map(|b| format!("{}/{path}", at(b)));
        fetcher.read(&Wanted {
            what: format!("{path} of {}", self.name),
            urls: by_hash.chain(plain).collect(),
            digest: digest.clone(),
            size: Size::Exact(size),
        })
    }

    /// A file below the archive's root, such as `pool/main/…/x.deb`.
    pub fn pool(&self, path: &str, digest: &Digest, size: u64) -> Wanted {
        Wanted {
            what: path.rsplit('/').next().unwrap_or(path).to_owned(),
            urls: self.bases.iter().map(|b| format!("{b}/{path}")).collect(),
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

/// The largest changelog that is read, in bytes.
const CHANGELOG_LIMIT: u64 = 16 << 20;

/// The date of the newest entry in debian/changelog of a `.debian.tar.xz`, in seconds since 1970: the source's date,
/// as dpkg takes it for SOURCE_DATE_EPOCH (deb-changelog(5)).
pub fn changelog_date(name: &str, tarball: impl Read) -> Result<i64, MirrorError> {
    let malformed = |detail: String| MirrorError::Malformed {
        what: name.to_owned(),
        expected: "a Debian packaging tarball",
        detail,
    };
    let mut tar = tar::Archive::new(liblzma::read::XzDecoder::new(tarball));
    for entry in tar.entries().map_err(|e| malformed(e.to_string()))? {
        let entry = entry.map_err(|e| malformed(e.to_string()))?;
        if entry.path_bytes().as_ref() != b"debian/changelog" {
            continue;
        }
        let mut text = Vec::new();
        entry.take(CHANGELOG_LIMIT).read_to_end(&mut text).map_err(|e| malformed(e.to_string()))?;
        let text = String::from_utf8_lossy(&text);
        let trailer = text.lines().find_map(|line| line.strip_prefix(" -- "));
        let date = trailer.and_then(|line| line.rsplit_once(">  ")).map(|(_, date)| date.trim());
        let date = date.ok_or_else(|| malformed("debian/changelog has no trailer line".to_owned()))?;
        let parsed = jiff::fmt::rfc2822::parse(date).map_err(|e| malformed(format!("{date}: {e}")))?;
        return Ok(parsed.timestamp().as_second());
    }
    Err(malformed("it has no debian/changelog".to_owned()))
}
