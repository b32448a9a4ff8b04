//! Reads the content of images in a layout, within limits, and checks it before anything uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use hab_oci::shapes::{LARGEST_CONFIG, check_image_config, is_image_config, is_manifest};
use hab_oci::{Algorithm, Digest, Hasher, Outline, Tag, media_type};

use crate::entry::IndexEntries;
use crate::{
    ALL_MANIFESTS, BLOB, BLOBS, DEPTH, Error, IndexEntry, Layout, MANIFEST, MANIFESTS, Part, Result,
};

/// A manifest or an index of a layout, checked against its digest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// One of the four types that a registry serves.
    pub media_type: &'static str,
    /// The unchanged bytes.
    pub bytes: Vec<u8>,
}

/// The content of one or more images.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Manifests and indexes, each once, an index after the manifests that it lists.
    pub manifests: Vec<Manifest>,
    /// Layers and configurations by digest.
    pub blobs: BTreeMap<Digest, IndexEntry>,
    /// Digests that an index lists and the layout lacks, as in a copy of some platforms only.
    pub missing: BTreeSet<Digest>,
    /// The tags that the images have in the layout.
    pub tags: BTreeMap<Tag, Digest>,
    /// Whether each manifest has a subject.
    about: BTreeMap<Digest, bool>,
}

impl Content {
    /// Whether the content has a manifest.
    pub fn has(&self, digest: &Digest) -> bool {
        self.about.contains_key(digest)
    }

    /// The bytes of all layers, configurations and manifests.
    pub fn bytes(&self) -> u64 {
        let manifests = self.manifests.iter().map(|m| m.bytes.len() as u64);
        self.blobs.values().map(|b| b.size).chain(manifests).sum()
    }

    /// Images that have neither a tag nor a subject.
    pub fn nameless(&self, layout: &Layout) -> BTreeSet<Digest> {
        let named: BTreeSet<_> = self.tags.values().collect();
        let listed = layout.entries().iter().map(|e| &e.digest);
        let lone = |d: &&Digest| self.about.get(*d) == Some(&false) && !named.contains(d);
        listed.filter(lone).cloned().collect()
    }
}

/// The state of a walk over the content of a layout.
struct Walk<'a> {
    layout: &'a Layout,
    content: Content,
    /// Every manifest that was read, with its type and size.
    seen: BTreeMap<Digest, (&'static str, u64)>,
    /// The bytes of these manifests.
    read: u64,
}

impl Layout {
    /// The content of all images, each with the tag that it has in the layout.
    pub fn everything(&self) -> Result<Content> {
        let mut walk = Walk::new(self);
        for entry in self.images() {
            walk.root(entry)?;
            if let Some(tag) = entry.tag() {
                match walk.content.tags.insert(tag.clone(), entry.digest.clone()) {
                    Some(before) if before != entry.digest => return Err(Error::TagTwice { tag }),
                    _ => {}
                }
            }
        }
        if walk.content.tags.is_empty() { Err(Error::NoTag) } else { Ok(walk.content) }
    }

    /// The image with this tag in the layout, or else the only image, with its referrers.
    pub fn one(&self, tag: &Tag) -> Result<Content> {
        let subjects = self.subjects()?;
        let tagged = |e: &&IndexEntry| e.tag().as_ref() == Some(tag);
        let mut wanted: Vec<_> = self.images().filter(tagged).collect();
        if wanted.is_empty() {
            wanted = subjects.iter().filter(|(_, subject)| subject.is_none()).map(|(e, _)| *e).collect();
        }
        wanted.dedup_by(|a, b| a.digest == b.digest);
        let [root] = wanted.as_slice() else {
            let there =
                self.images().map(|e| e.tag().map_or_else(|| e.digest.to_string(), |t| t.to_string()));
            let there = there.take(20).collect::<Vec<_>>().join(", ");
            return Err(Error::NoSuchTag { wanted: tag.clone(), there });
        };
        let mut about: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (entry, subject) in &subjects {
            if let Some(subject) = subject {
                about.entry(subject).or_default().push(*entry);
            }
        }
        let mut walk = Walk::new(self);
        walk.root(root)?;
        // Look for referrers of every manifest once, including those that the loop adds.
        let mut at = 0;
        while let Some(manifest) = walk.content.manifests.get(at) {
            at += 1;
            for entry in about.remove(&manifest.digest).unwrap_or_default() {
                walk.root(entry)?;
            }
        }
        walk.content.tags.insert(tag.clone(), root.digest.clone());
        Ok(walk.content)
    }

    /// Hashes the layers and configurations, and parses the configurations. Manifests were checked when they were read.
    pub fn verify(&self, content: &Content) -> Result<()> {
        for entry in content.blobs.values() {
            let part = self.sized(entry, "index.json")?;
            let found = hash(entry.digest.algorithm(), part).map_err(Error::io("read", self.path()))?;
            if found != entry.digest {
                return Err(Error::WrongDigest { expected: entry.digest.clone(), found });
            }
        }
        for entry in content.blobs.values().filter(|entry| is_image_config(&entry.media_type)) {
            let (part, what) = (self.sized(entry, "index.json")?, entry.digest.to_string());
            let bytes = self.whole(part, &what, LARGEST_CONFIG)?;
            check_image_config(&bytes).map_err(|source| Error::Json { what, source })?;
        }
        Ok(())
    }

    /// The entries of index.json that a registry serves as manifests. Entries of other types are allowed and ignored.
    pub(crate) fn images(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries().iter().filter(|e| kind(&e.media_type).is_some())
    }

    /// The configuration and layers of every image at or below an entry.
    pub(crate) fn parts_below(&self, entry: &IndexEntry) -> Result<BTreeSet<(Digest, Vec<Digest>)>> {
        let mut walk = Walk::new(self);
        walk.root(entry)?;
        let mut found = BTreeSet::new();
        for manifest in &walk.content.manifests {
            let parts = IndexEntries::of(&manifest.digest, &manifest.bytes)?;
            if let Some(config) = parts.config {
                let layers = parts.layers.into_iter().flatten().map(|layer| layer.digest).collect();
                found.insert((config.digest, layers));
            }
        }
        Ok(found)
    }

    /// Every image with its subject.
    fn subjects(&self) -> Result<Vec<(&IndexEntry, Option<Digest>)>> {
        let subject = |entry| {
            let read = self.manifest(entry, "index.json")?;
            Ok((entry, read.and_then(|(_, outline)| outline.subject)))
        };
        self.images().map(subject).collect()
    }

    /// The file of an entry; fails unless it has the size of the entry.
    fn sized(&self, entry: &IndexEntry, wanted_by: &str) -> Result<Part> {
        let digest = entry.digest.clone();
        let missing = || Error::Missing { digest: digest.clone(), wanted_by: wanted_by.to_owned() };
        let part = self.blob(&entry.digest)?.ok_or_else(missing)?;
        if part.size() != entry.size {
            return Err(Error::WrongSize { digest, expected: entry.size, found: part.size() });
        }
        Ok(part)
    }

    /// Whether the file of a digest exists and cannot be a manifest, because it does not begin as a JSON object. An
    /// index may still list it as a manifest; it is then stored as a blob, which no client can take for a manifest.
    fn is_no_document(&self, digest: &Digest) -> Result<bool> {
        let Some(part) = self.blob(digest)? else { return Ok(false) };
        let mut start = Vec::new();
        part.take(1).read_to_end(&mut start).map_err(Error::io("read", self.path()))?;
        Ok(start.first().is_some_and(|byte| *byte != b'{' && !byte.is_ascii_whitespace()))
    }

    /// Reads a manifest; `None` if it is not in the layout.
    fn manifest(&self, entry: &IndexEntry, wanted_by: &str) -> Result<Option<(Manifest, Outline)>> {
        if self.blob(&entry.digest)?.is_none() {
            return Ok(None);
        }
        let bytes = self.whole(self.sized(entry, wanted_by)?, &entry.digest.to_string(), MANIFEST)?;
        let found = Digest::of_with(entry.digest.algorithm(), &bytes);
        if found != entry.digest {
            return Err(Error::WrongDigest { expected: entry.digest.clone(), found });
        }
        let outline = Outline::read(&entry.media_type, &bytes)
            .map_err(|source| Error::Manifest { digest: found.clone(), source })?;
        Ok(Some((Manifest { digest: found, media_type: outline.media_type, bytes }, outline)))
    }
}

impl<'a> Walk<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { layout, content: Content::default(), seen: BTreeMap::new(), read: 0 }
    }

    fn root(&mut self, entry: &IndexEntry) -> Result<()> {
        if self.enter(entry, "index.json", 0)? {
            return Ok(());
        }
        Err(Error::Missing { digest: entry.digest.clone(), wanted_by: "index.json".to_owned() })
    }

    /// Reads a manifest and everything below it; `false` if the manifest is not in the layout.
    fn enter(&mut self, entry: &IndexEntry, wanted_by: &str, depth: usize) -> Result<bool> {
        let Some(kind) = kind(&entry.media_type) else { return Ok(false) };
        if let Some(before) = self.seen.get(&entry.digest) {
            let same = *before == (kind, entry.size);
            return if same { Ok(true) } else { Err(Error::Disagreement { digest: entry.digest.clone() }) };
        }
        if depth > DEPTH {
            return Err(Error::TooDeep { digest: entry.digest.clone(), limit: DEPTH });
        }
        if self.seen.len() >= MANIFESTS {
            return Err(Error::TooMany { what: "manifests", limit: MANIFESTS });
        }
        let Some((manifest, outline)) = self.layout.manifest(entry, wanted_by)? else { return Ok(false) };
        self.seen.insert(entry.digest.clone(), (kind, entry.size));
        self.read = self.read.saturating_add(entry.size);
        if self.read > ALL_MANIFESTS {
            let what = "all manifests together".to_owned();
            return Err(Error::TooLarge { what, size: self.read, limit: ALL_MANIFESTS });
        }
        self.content.about.insert(entry.digest.clone(), outline.subject.is_some());
        let name = entry.digest.to_string();
        let parts = IndexEntries::of(&entry.digest, &manifest.bytes)?;
        let elsewhere: BTreeSet<_> =
            outline.edges.iter().filter(|e| e.elsewhere).map(|e| &e.digest).collect();
        for part in parts.config.iter().chain(parts.layers.iter().flatten()) {
            self.part(part, &name, elsewhere.contains(&part.digest))?;
        }
        for blob in parts.blobs.iter().flatten() {
            self.listed(blob, &name)?;
        }
        for child in parts.manifests.iter().flatten() {
            if !is_manifest(&child.media_type) || self.layout.is_no_document(&child.digest)? {
                self.listed(child, &name)?;
            } else if !self.enter(child, &name, depth + 1)? {
                self.content.missing.insert(child.digest.clone());
            }
        }
        self.content.manifests.push(manifest);
        Ok(true)
    }

    /// Adds content that an index lists and that is not a manifest, as in BuildKit's cache. It may be missing.
    fn listed(&mut self, entry: &IndexEntry, wanted_by: &str) -> Result<()> {
        if self.layout.blob(&entry.digest)?.is_some() {
            return self.part(entry, wanted_by, false);
        }
        self.content.missing.insert(entry.digest.clone());
        Ok(())
    }

    fn part(&mut self, entry: &IndexEntry, wanted_by: &str, elsewhere: bool) -> Result<()> {
        if entry.size > BLOB {
            return Err(Error::TooLarge { what: entry.digest.to_string(), size: entry.size, limit: BLOB });
        }
        if let Some(before) = self.content.blobs.get(&entry.digest) {
            let same = before.size == entry.size;
            return if same { Ok(()) } else { Err(Error::Disagreement { digest: entry.digest.clone() }) };
        }
        if elsewhere && self.layout.blob(&entry.digest)?.is_none() {
            return Ok(());
        }
        self.layout.sized(entry, wanted_by)?;
        if self.content.blobs.len() >= BLOBS {
            return Err(Error::TooMany { what: "layers", limit: BLOBS });
        }
        self.content.blobs.insert(entry.digest.clone(), entry.clone());
        Ok(())
    }
}

fn kind(media_type: &str) -> Option<&'static str> {
    [
        media_type::IMAGE_MANIFEST,
        media_type::IMAGE_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
    ]
    .into_iter()
    .find(|known| *known == media_type)
}

pub(crate) fn hash(algorithm: Algorithm, mut part: impl std::io::Read) -> std::io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::new(algorithm), vec![0; 256 * 1024]);
    loop {
        match part.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
