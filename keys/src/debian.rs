//! Verifies Debian's chain of trust: a clearsigned InRelease names indexes by digest, an index names packages and
//! source descriptions by digest, and a source description names its files by digest ("Debian repository format";
//! deb-src-control(5)).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use deb822_fast::{Deb822, Paragraph};
use hab_archive::{Compression, decompress};
use hab_oci::Digest;

use crate::policy::{Rule, RuleKind};
use crate::{
    Document, Evidence, EvidenceKind, Judge, Refusal, SignatureSeen, SourceFile, SourceKind, Unpack,
    VerifiedSource,
};

/// The largest index that is read, in bytes after decompression.
const INDEX_LIMIT: u64 = 512 << 20;
/// The largest InRelease that is read, in bytes; a real one has 0.2 MB.
const RELEASE_LIMIT: u64 = 32 << 20;

/// A file that a signed document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// Its path or file name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An InRelease whose signatures a policy accepted.
#[derive(Clone, Debug)]
pub struct VerifiedRelease {
    suite: String,
    date: jiff::Timestamp,
    indexes: BTreeMap<String, SignedFile>,
    document: Document,
    evidence: Evidence,
}

impl VerifiedRelease {
    /// Judges the clearsigned InRelease of `suite`.
    pub fn verify(bytes: &[u8], suite: &str, judge: &Judge<'_>) -> Result<Self, Refusal> {
        let what = format!("InRelease of {suite}");
        let requirement = judge.requirement(RuleKind::ArchiveSignature, &what)?;
        let (text, signatures) = judge.clearsigned(&what, bytes, RELEASE_LIMIT)?;
        if let Rule::ArchiveSignature(quorum) = &requirement.rule {
            judge.quorum(&what, quorum, &signatures)?;
        }
        // Every document below relies on this one alone, so it must meet the policy's whole `accept`.
        judge.check_accepted(&what, &[requirement.name.clone()].into())?;
        let fields = paragraph(&text, &what)?;
        let field = |name: &str| fields.get(name).map(str::trim);
        // An attacker could serve another suite's index: it is signed too, but is about other packages.
        if field("Codename") != Some(suite) && field("Suite") != Some(suite) {
            return Err(Refusal::Malformed {
                what,
                detail: format!(
                    "it is signed for {}, not for {suite}",
                    field("Codename").unwrap_or("no suite")
                ),
            });
        }
        let malformed = |detail: String| Refusal::Malformed { what: what.clone(), detail };
        let time =
            |name: &str| field(name).map(|v| date(v).ok_or_else(|| malformed(format!("{name} is {v:?}"))));
        let made = time("Date").unwrap_or_else(|| Err(malformed("it has no Date".to_owned())))?;
        if let Some(until) = time("Valid-Until").transpose()?
            && jiff::Timestamp::try_from(judge.now()).is_ok_and(|now| now > until)
        {
            return Err(malformed(format!("it was only valid until {until}")));
        }
        let indexes = checksums(&fields, "SHA256", &what)?.into_iter().map(|n| (n.name.clone(), n)).collect();
        let document = Document::of(&what, bytes);
        Ok(Self {
            suite: suite.to_owned(),
            date: made,
            indexes,
            evidence: Evidence {
                kind: EvidenceKind::ArchiveSignature,
                asked: what.clone(),
                policy: Some(judge.policy().reference()),
                met: vec![requirement.name.clone()],
                documents: vec![document.clone()],
                signatures,
            },
            document,
        })
    }

    /// The signed document itself.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The time at which the archive made it: of two, the older one no longer describes the archive.
    pub fn date(&self) -> jiff::Timestamp {
        self.date
    }

    /// The index at `path`, as the signed document names it.
    pub fn index(&self, path: &str) -> Result<&SignedFile, Refusal> {
        self.indexes.get(path).ok_or_else(|| Refusal::NotListed {
            what: path.to_owned(),
            index: format!("InRelease of {}", self.suite),
        })
    }

    /// All indexes in the document, by path.
    pub fn indexes(&self) -> impl Iterator<Item = &SignedFile> {
        self.indexes.values()
    }

    /// Accepts the bytes of the index at `path` (`.xz`) if they match the digest in the signed document.
    pub fn open(&self, path: &str, bytes: &[u8]) -> Result<VerifiedIndex, Refusal> {
        let named = self.index(path)?;
        matches(path, "InRelease", &named.digest, bytes)?;
        let malformed = |detail: String| Refusal::Malformed { what: path.to_owned(), detail };
        let text = decompress(Compression::Xz, bytes, INDEX_LIMIT)
            .map_err(|e| malformed(format!("it does not decompress: {}", e.words())))?;
        let mut evidence = self.evidence.clone();
        evidence.documents.push(Document::of(path, bytes));
        let text = String::from_utf8(text).map_err(|e| malformed(e.to_string()))?;
        Ok(VerifiedIndex { path: path.to_owned(), paragraphs: paragraphs(&text), text, evidence })
    }

    /// The signatures that were seen.
    pub fn signatures(&self) -> &[SignatureSeen] {
        &self.evidence.signatures
    }
}

/// A Packages or Sources index that a verified release names.
#[derive(Clone, Debug)]
pub struct VerifiedIndex {
    path: String,
    text: String,
    /// The ranges of the text with each package's paragraphs, by package name.
    paragraphs: HashMap<String, Vec<Range<usize>>>,
    evidence: Evidence,
}

/// A source package that a verified index names; its description has not been read yet.
#[derive(Clone, Debug)]
pub struct ListedSource {
    name: String,
    version: String,
    /// The .dsc file, with its path below the archive's root.
    pub dsc: SignedFile,
    /// The tarballs (and their upstream signatures), with such paths.
    pub files: Vec<SignedFile>,
    evidence: Evidence,
}

impl VerifiedIndex {
    /// The documents that this index rests on.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The binary package `name` in exactly `version` and `architecture`.
    pub fn package(&self, name: &str, version: &str, architecture: &str) -> Result<SignedFile, Refusal> {
        let not_listed = || Refusal::NotListed {
            what: format!("package {name} {version} {architecture}"),
            index: self.path.clone(),
        };
        let paragraph = self.find(name, |p| {
            let is = |field: &str, value: &str| p.get(field).is_some_and(|v| v.trim() == value);
            is("Version", version) && (is("Architecture", architecture) || is("Architecture", "all"))
        })?;
        let p = paragraph.ok_or_else(not_listed)?;
        let field = |name: &str| p.get(name).map(str::trim).ok_or_else(not_listed);
        Ok(SignedFile {
            name: safe_path(field("Filename")?, &self.path)?,
            digest: Digest::from_sha256_hex(field("SHA256")?).map_err(|_| not_listed())?,
            size: field("Size")?.parse().map_err(|_| not_listed())?,
        })
    }

    /// The source package `name` in `version`; without a version, the first one that is listed.
    pub fn source(&self, name: &str, version: Option<&str>) -> Result<ListedSource, Refusal> {
        let malformed = |detail: &str| Refusal::Malformed {
            what: format!("source package {name} in {}", self.path),
            detail: detail.to_owned(),
        };
        let paragraph = self
            .find(name, |p| version.is_none_or(|v| p.get("Version").is_some_and(|have| have.trim() == v)))?
            .ok_or_else(|| Refusal::NotListed {
                what: format!("source package {name} {}", version.unwrap_or_default()).trim_end().to_owned(),
                index: self.path.clone(),
            })?;
        let directory = paragraph.get("Directory").ok_or_else(|| malformed("it has no Directory"))?.trim();
        let mut dsc = None;
        let mut files = Vec::new();
        for mut named in checksums(&paragraph, "Checksums-Sha256", &self.path)? {
            let is_dsc = named.name.ends_with(".dsc");
            named.name = safe_path(&format!("{directory}/{}", named.name), &self.path)?;
            if is_dsc { dsc = Some(named) } else { files.push(named) }
        }
        Ok(ListedSource {
            name: name.to_owned(),
            version: paragraph
                .get("Version")
                .ok_or_else(|| malformed("it has no Version"))?
                .trim()
                .to_owned(),
            dsc: dsc.ok_or_else(|| malformed("it has no .dsc"))?,
            files,
            evidence: self.evidence.clone(),
        })
    }

    /// The first paragraph of package `name` that `accept` accepts. Parses only the candidates: an index of 50 MB has
    /// 60,000 paragraphs, and few are needed.
    fn find(&self, name: &str, accept: impl Fn(&Paragraph) -> bool) -> Result<Option<Paragraph>, Refusal> {
        for range in self.paragraphs.get(name).into_iter().flatten() {
            let p = paragraph(&self.text.as_bytes()[range.clone()], &self.path)?;
            if accept(&p) {
                return Ok(Some(p));
            }
        }
        Ok(None)
    }
}

/// The ranges of each package's paragraphs. In both kinds of index, the field `Package` begins a paragraph.
fn paragraphs(text: &str) -> HashMap<String, Vec<Range<usize>>> {
    let mut found: HashMap<String, Vec<Range<usize>>> = HashMap::new();
    let mut start = 0;
    for part in text.split("\n\n") {
        let name = part.lines().find_map(|line| line.strip_prefix("Package: "));
        if let Some(name) = name {
            found.entry(name.trim().to_owned()).or_default().push(start..start + part.len());
        }
        start += part.len() + 2;
    }
    found
}

impl ListedSource {
    /// The version that was found.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Accepts the source if `dsc` is the listed description and names exactly the listed files. `epoch` is the
    /// source's date, which a lock records from debian/changelog.
    pub fn verify(&self, dsc: &[u8], epoch: i64) -> Result<VerifiedSource, Refusal> {
        matches(&self.dsc.name, "the Sources index", &self.dsc.digest, dsc)?;
        let what = file_name(&self.dsc.name);
        // The archive's signature covers the description's digest. The uploader's own signature around the description
        // would be a second opinion, for a later policy to ask for; here it is skipped.
        let text = strip_clearsign(dsc);
        let fields = paragraph(text, what)?;
        let listed = |n: &SignedFile| (file_name(&n.name).to_owned(), n.digest.clone(), n.size);
        let mut said: Vec<_> = checksums(&fields, "Checksums-Sha256", what)?.iter().map(listed).collect();
        let mut index: Vec<_> = self.files.iter().map(listed).collect();
        said.sort();
        index.sort();
        if said != index || fields.get("Source").map(str::trim) != Some(self.name.as_str()) {
            return Err(Refusal::Malformed {
                what: what.to_owned(),
                detail: "it does not name the same files as the Sources index".to_owned(),
            });
        }
        let whole = |n: &&SignedFile| !n.name.ends_with(".asc") && unpack_rule(file_name(&n.name)).is_none();
        if let Some(other) = self.files.iter().find(whole) {
            return Err(Refusal::Malformed {
                what: what.to_owned(),
                detail: format!("{} is of a source format that is not unpacked here", file_name(&other.name)),
            });
        }
        let mut evidence = self.evidence.clone();
        evidence.asked = format!("Debian source package {} {}", self.name, self.version);
        evidence.documents.push(Document::of(what, dsc));
        for (name, digest, size) in &index {
            evidence.documents.push(Document { name: name.clone(), digest: digest.clone(), size: *size });
        }
        let mut files: Vec<SourceFile> = self
            .files
            .iter()
            .map(|n| SourceFile {
                name: file_name(&n.name).to_owned(),
                digest: n.digest.clone(),
                size: n.size,
                unpack: unpack_rule(file_name(&n.name)),
            })
            .collect();
        // The upstream tarball comes first: the packaging is unpacked over it.
        files.sort_by_key(|f| (f.unpack.as_ref().map(|u| (u.strip == 0, u.into.clone())), f.name.clone()));
        let names = (self.name.as_str(), self.version.as_str(), self.version.as_str());
        Ok(VerifiedSource::new(
            SourceKind::DebianSource,
            names,
            epoch,
            self.dsc.digest.clone(),
            files,
            evidence,
        ))
    }
}

/// Where each tarball is unpacked: dpkg-source(1), formats 1.0, 3.0 (native) and 3.0 (quilt).
fn unpack_rule(name: &str) -> Option<Unpack> {
    let stem = [".tar.gz", ".tar.xz", ".tar.zst"].iter().find_map(|e| name.strip_suffix(e))?;
    let into = |into: &str, strip| Some(Unpack { into: into.to_owned(), strip });
    if stem.ends_with(".debian") {
        return into("", 0);
    }
    match stem.rsplit_once(".orig-") {
        Some((_, component)) if !component.contains('/') && component != ".." => into(component, 1),
        _ => into("", 1),
    }
}

/// Parses a date in a Release file: RFC 2822's form with the zone written `UTC` ("Debian repository format", Date).
fn date(text: &str) -> Option<jiff::Timestamp> {
    let text = text.strip_suffix("UTC").map_or_else(|| text.to_owned(), |day| format!("{day}+0000"));
    jiff::fmt::rfc2822::parse(&text).ok().map(|zoned| zoned.timestamp())
}

/// Parses the lines ` digest size name` of a checksum field.
fn checksums(p: &Paragraph, field: &str, what: &str) -> Result<Vec<SignedFile>, Refusal> {
    let malformed = |detail: String| Refusal::Malformed { what: what.to_owned(), detail };
    let value = p.get(field).ok_or_else(|| malformed(format!("it has no {field}")))?;
    value
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let parsed = (|| {
                let digest = Digest::from_sha256_hex(words.next()?).ok()?;
                let size = words.next()?.parse().ok()?;
                Some(SignedFile { digest, size, name: words.next()?.to_owned() })
            })();
            parsed.ok_or_else(|| malformed(format!("{line:?} is not a line of {field}")))
        })
        .collect()
}

fn paragraph(text: &[u8], what: &str) -> Result<Paragraph, Refusal> {
    let malformed = |detail: String| Refusal::Malformed { what: what.to_owned(), detail };
    let text = std::str::from_utf8(text).map_err(|e| malformed(e.to_string()))?;
    let parsed: Deb822 = text.parse().map_err(|e: deb822_fast::Error| malformed(e.to_string()))?;
    let first = parsed.iter().next().cloned();
    first.ok_or_else(|| malformed("it is empty".to_owned()))
}

/// A path in a signed index is still only a path: it must stay below the archive's root.
fn safe_path(path: &str, what: &str) -> Result<String, Refusal> {
    let safe = !path.is_empty()
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\".contains(&b));
    if safe {
        Ok(path.to_owned())
    } else {
        Err(Refusal::Malformed {
            what: what.to_owned(),
            detail: format!("{path:?} is not a path in an archive"),
        })
    }
}

fn strip_clearsign(bytes: &[u8]) -> &[u8] {
    let text = bytes.strip_prefix(b"-----BEGIN PGP SIGNED MESSAGE-----").unwrap_or(bytes);
    if text.len() == bytes.len() {
        return bytes;
    }
    let find = |needle: &[u8]| text.windows(needle.len()).position(|w| w == needle);
    let start = find(b"\n\n").map_or(0, |at| at + 2);
    let end = find(b"\n-----BEGIN PGP SIGNATURE-----").map_or(text.len(), |at| at + 1);
    text.get(start..end).unwrap_or_default()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn matches(what: &str, said_by: &str, expected: &Digest, bytes: &[u8]) -> Result<(), Refusal> {
    let actual = Digest::of(bytes);
    if actual == *expected {
        return Ok(());
    }
    Err(Refusal::WrongDigest {
        what: what.to_owned(),
        said_by: said_by.to_owned(),
        expected: expected.clone(),
        actual,
    })
}
