//! Fetches releases, each with a signed list of hashes, and plain files by address and sha256.
//!
//! A release's list is fetched **unverified**; only files in an accepted list are fetched, by their digests.

use hab_oci::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::depends::is_file_name;
use crate::{Fetcher, FileToFetch, MirrorError, Size, kinds};

/// The kind under which a list and its signatures are stored before they are judged; nothing of it is served.
const UNJUDGED: &str = "release-document";
/// The largest release file, in bytes.
const LIMIT: u64 = 4 << 30;

/// `[release]` in a project's file: where its releases are, and which of their files to mirror. Plain data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReleaseTable {
    /// Folders that each hold one release, with `{version}` for its version, the preferred one first.
    pub urls: Vec<String>,
    /// The name of the list of hashes, such as `SHA256SUMS`; it may contain `{version}`.
    pub sums: String,
    /// The names of its detached signatures. One that upstream does not have is left out.
    pub signatures: Vec<String>,
    /// Which listed files to mirror, as names with `*` for any text; by default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The versions to mirror.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The policy in keys/trust that judges the list.
    pub policy: String,
}

/// `[[file]]` in a project's file: one file that the table itself pins. Plain data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileTable {
    /// The name under which it is served, a single path component.
    pub name: String,
    /// Addresses of the file, the preferred one first.
    pub urls: Vec<String>,
    /// Its sha256, 64 hexadecimal digits.
    #[serde(deserialize_with = "from_hex", serialize_with = "to_hex")]
    pub sha256: Digest,
    /// The most bytes that it may have; by default 64 MiB.
    #[serde(default = "FileTable::usual_limit")]
    pub limit: u64,
}

/// A list of hashes and its signatures, with their names, from one upstream. **Unverified**.
#[derive(Clone, Debug)]
pub struct List {
    /// The list's name and bytes.
    pub sums: (String, Vec<u8>),
    /// The signatures' names and bytes; empty if upstream has none.
    pub signatures: Vec<(String, Vec<u8>)>,
}

impl ReleaseTable {
    /// Checks the fields; the error is a sentence about the wrong one.
    pub fn check(&self) -> Result<(), String> {
        if self.urls.is_empty() {
            return Err("release: it names no url".to_owned());
        }
        if let Some(url) = self.urls.iter().find(|url| !is_address(url) || !url.contains("{version}")) {
            return Err(format!("release: {url:?} is not an http or https address with {{version}} in it"));
        }
        if self.signatures.is_empty() {
            return Err("release: it names no signatures, so nothing would vouch for it".to_owned());
        }
        for name in self.signatures.iter().chain([&self.sums]) {
            if !is_file_name(&name.replace("{version}", "1")) {
                return Err(format!("release: {name:?} is not the name of a file"));
            }
        }
        if let Some(glob) = self.files.iter().find(|glob| !is_file_name(glob)) {
            return Err(format!("release: files: {glob:?} is not a name with * for anything"));
        }
        match self.versions.iter().find(|version| !is_version(version)) {
            Some(version) => Err(format!("release: {version:?} is not a version")),
            None => Ok(()),
        }
    }

    /// Fetches the list and signatures of a version from each upstream in turn, or an error. The judge decides which
    /// one counts.
    pub fn lists(
        &self,
        fetcher: &Fetcher<'_>,
        project: &str,
        version: &str,
    ) -> Result<impl Iterator<Item = Result<List, MirrorError>>, MirrorError> {
        if !is_version(version) {
            return Err(MirrorError::Unknown {
                what: format!("version {version:?}"),
                upstream: project.to_owned(),
            });
        }
        Ok(self.folders(version).map(move |folder| {
            let fetch = |name: &str| {
                let name = name.replace("{version}", version);
                let what = release_name(project, version, &name);
                let bytes = fetcher.document(UNJUDGED, &what, &[format!("{folder}/{name}").into()])?;
                Ok((name, bytes))
            };
            let sums = fetch(&self.sums)?;
            let mut signatures = Vec::new();
            for name in &self.signatures {
                match fetch(name) {
                    Ok(signature) => signatures.push(signature),
                    Err(MirrorError::Unknown { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(List { sums, signatures })
        }))
    }

    /// Whether a listed file is to be mirrored.
    pub fn wants(&self, file: &str) -> bool {
        self.files.is_empty() || self.files.iter().any(|glob| hab_glob::matches(glob, file))
    }

    /// A file in an accepted list, ready to be fetched. Its name becomes part of the addresses where it is fetched and
    /// served, so it must be a plain one.
    pub fn wanted(&self, version: &str, file: &str, digest: &Digest) -> Result<FileToFetch, MirrorError> {
        if !is_file_name(file) {
            return Err(MirrorError::Malformed {
                what: format!("{file:?} in the list of {version}"),
                expected: "the name of a file in the release's folder",
                detail: "it must not be a path".to_owned(),
            });
        }
        Ok(FileToFetch {
            what: file.to_owned(),
            urls: self.folders(version).map(|folder| format!("{folder}/{file}").into()).collect(),
            digest: digest.clone(),
            size: Size::AtMost(LIMIT),
        })
    }

    fn folders(&self, version: &str) -> impl Iterator<Item = String> {
        self.urls.iter().map(move |url| url.replace("{version}", version).trim_end_matches('/').to_owned())
    }
}

impl FileTable {
    fn usual_limit() -> u64 {
        64 << 20
    }

    /// Checks the fields; the error is a sentence about the wrong one.
    pub fn check(&self) -> Result<(), String> {
        if !is_file_name(&self.name) {
            return Err(format!("file: {:?} is not the name of a file", self.name));
        }
        if self.urls.is_empty() {
            return Err(format!("file {}: it names no url", self.name));
        }
        match self.urls.iter().find(|url| !is_address(url)) {
            Some(url) => Err(format!("file {}: {url:?} is not an http or https address", self.name)),
            None => Ok(()),
        }
    }

    /// Stores the file if it is missing, and has it served by its name.
    pub fn keep(&self, fetcher: &Fetcher<'_>) -> Result<(), MirrorError> {
        fetcher.fetch(&FileToFetch {
            what: self.name.clone(),
            urls: self.urls.iter().cloned().map(Into::into).collect(),
            digest: self.sha256.clone(),
            size: Size::AtMost(self.limit),
        })?;
        fetcher.name(kinds::PLAIN_FILE, &self.name, &self.sha256, fetcher.size(&self.sha256)?)
    }
}

/// The name under which a release file is stored and served.
pub fn release_name(project: &str, version: &str, file: &str) -> String {
    format!("{project}/{version}/{file}")
}

/// Whether `version` is a valid version: it becomes part of addresses and names.
fn is_version(version: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    version.len() <= 64
        && version.bytes().all(plain)
        && version.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty()) && !url.contains(|c: char| c.is_control() || c.is_whitespace())
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    Digest::from_sha256_hex(&text).map_err(serde::de::Error::custom)
}

fn to_hex<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(change: impl Fn(&mut ReleaseTable)) -> Result<(), String> {
        let mut table = ReleaseTable {
            urls: vec!["https://h.invalid/{version}".to_owned()],
            sums: "SHA256SUMS".to_owned(),
            signatures: vec!["SHA256SUMS-{version}.asc".to_owned()],
            files: vec!["*.tar.gz".to_owned()],
            versions: vec!["1.0rc1".to_owned()],
            policy: "p".to_owned(),
        };
        change(&mut table);
        table.check()
    }

    type Change = &'static dyn Fn(&mut ReleaseTable);

    #[test]
    fn a_release_that_cannot_be_is_said() {
        release(|_| {}).unwrap();
        let cases: [(Change, &str); 8] = [
            (&|t| t.urls.clear(), "no url"),
            (&|t| t.urls[0] = "https://h.invalid/".to_owned(), "{version}"),
            (&|t| t.urls[0] = "file:///{version}".to_owned(), "http"),
            (&|t| t.signatures.clear(), "no signatures"),
            (&|t| t.sums = "../SHA256SUMS".to_owned(), "name of a file"),
            (&|t| t.signatures[0] = "a/b".to_owned(), "name of a file"),
            (&|t| t.files[0] = "a/*".to_owned(), "name with *"),
            (&|t| t.versions[0] = "../1".to_owned(), "not a version"),
        ];
        for (change, said) in cases {
            let error = release(change).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_is_said() {
        let file = |text: &str| -> Result<(), String> {
            toml::from_str::<FileTable>(text).map_err(|e| e.to_string())?.check()
        };
        let hash = "ab".repeat(32);
        file(&format!("name = \"a.sh\"\nurls = [\"https://h.invalid/a\"]\nsha256 = \"{hash}\"\n")).unwrap();
        for (text, said) in [
            (
                format!("name = \"../a\"\nurls = [\"https://h.invalid/a\"]\nsha256 = \"{hash}\"\n"),
                "name of a file",
            ),
            (format!("name = \"a\"\nurls = []\nsha256 = \"{hash}\"\n"), "no url"),
            (format!("name = \"a\"\nurls = [\"ftp://h.invalid/a\"]\nsha256 = \"{hash}\"\n"), "http"),
            ("name = \"a\"\nurls = [\"https://h.invalid/a\"]\nsha256 = \"ab\"\n".to_owned(), "64 lowercase"),
            ("name = \"a\"\nurls = [\"https://h.invalid/a\"]\n".to_owned(), "sha256"),
            (format!("name = \"a\"\nurl = \"https://h.invalid/a\"\nsha256 = \"{hash}\"\n"), "unknown field"),
        ] {
            let error = file(&text).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn names_are_chosen_by_patterns() {
        for (glob, name, expected) in [
            ("a.tar.gz", "a.tar.gz", true),
            ("*.tar.gz", "a.tar.gz", true),
            ("a-*-linux*", "a-1.0-x86-linux-gnu.tar", true),
            ("a-*-linux*.gz", "a-1.0-x86-linux-gnu.tar", false),
            ("a*a", "a", false),
            ("*", "anything", true),
            ("*b*b", "ab", false),
        ] {
            assert_eq!(hab_glob::matches(glob, name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn a_listed_path_leads_nowhere() {
        let table: ReleaseTable = toml::from_str(
            "urls = [\"https://h.invalid/{version}/\"]\nsums = \"S\"\nsignatures = [\"S.asc\"]\npolicy = \"p\"\n",
        )
        .unwrap();
        let digest = Digest::of(b"");
        assert_eq!(
            table.wanted("1", "a", &digest).unwrap().urls,
            ["https://h.invalid/1/a".to_owned().into()]
        );
        for name in ["../a", "a/b", "..", "", "a?b"] {
            assert!(table.wanted("1", name, &digest).is_err(), "{name}");
        }
    }
}
