//! Images to a folder or a file and in from there, without a registry between: `hab-build registry export` and `import`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::{fmt, io};

use hab_layout::{Bundle, Content, Entry, Layout};
use hab_oci::{Descriptor, Digest, Edge, EdgeKind, Outline, RepositoryName, Tag, TagOrDigest};
use hab_store::{Error as StoreError, Gaps, ManifestRecord, NewManifest, Publication};

use super::{Farm, FarmError, Progress, counted, open};

/// How often a publication is begun anew because a collection took what was just brought here.
const TRIES: usize = 3;

/// What was exported.
#[derive(Debug, serde::Serialize)]
pub struct Packed {
    /// Which image has which tag.
    pub tags: BTreeMap<Tag, Digest>,
    /// How many manifests and indexes.
    pub manifests: usize,
    /// How many layers and configurations.
    pub blobs: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// What indexes list that is not here, or not all of it.
    pub missing: BTreeSet<Digest>,
}

/// What was imported.
#[derive(Debug, serde::Serialize)]
pub struct Unpacked {
    /// Which image has which tag.
    pub tags: BTreeMap<Tag, Digest>,
    /// How many manifests and indexes.
    pub manifests: usize,
    /// How many layers and configurations.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What indexes list that is not in the layout.
    pub missing: BTreeSet<Digest>,
    /// Images without a tag, which a collection removes when they are older than the grace period.
    pub untagged: BTreeSet<Digest>,
}

/// Which images of a repository.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// All that have a tag.
    Tags,
    /// These.
    These(Vec<TagOrDigest>),
}

/// What an export is made of, as far as it was gathered.
struct Gathering<'a> {
    farm: &'a Farm,
    repository: &'a RepositoryName,
    blobs: BTreeMap<Digest, u64>,
    manifests: BTreeSet<Digest>,
    missing: BTreeSet<Digest>,
}

impl Farm {
    /// Writes images of a repository, with all platforms that are here and, if wanted, what says something about them.
    pub fn registry_export(
        &self,
        repository: &RepositoryName,
        wanted: &Wanted,
        to: &Path,
        referrers: bool,
    ) -> Result<Packed, FarmError> {
        let (tags, digests) = self.roots(repository, wanted)?;
        let mut gathering = Gathering {
            farm: self,
            repository,
            blobs: BTreeMap::new(),
            manifests: BTreeSet::new(),
            missing: BTreeSet::new(),
        };
        let mut entries = Vec::new();
        for (tag, record) in &tags {
            gathering.root(record)?;
            entries.push(entry(record).named(repository, tag));
        }
        let tagged: BTreeSet<_> = tags.values().map(|record| &record.digest).collect();
        for record in digests.iter().filter(|record| !tagged.contains(&record.digest)) {
            gathering.root(record)?;
            entries.push(entry(record));
        }
        if referrers {
            entries.extend(gathering.referrers()?);
        }
        let Gathering { blobs, manifests, missing, .. } = gathering;
        let (layers, bundle) = (blobs.len() - manifests.len(), Bundle { entries, blobs });
        self.progress.stage(&format!("write {}", to.display()));
        let (done, total) = (Cell::new(0), bundle.blobs.values().sum());
        let written = hab_layout::write(to, &bundle, |digest| {
            let blob = self.store.blobs.open_blob(digest).map_err(io::Error::other)?;
            let file = blob.ok_or(io::ErrorKind::NotFound)?.file;
            Ok(Watched { inner: file, progress: self.progress.as_ref(), done: &done, total })
        });
        let bytes = self.stopped_or(written, "nothing is written")?;
        let tags = tags.into_iter().map(|(tag, record)| (tag, record.digest)).collect();
        Ok(Packed { tags, manifests: manifests.len(), blobs: layers, bytes, missing })
    }

    /// The tagged images that are wanted, and those that are wanted by digest.
    fn roots(
        &self,
        repository: &RepositoryName,
        wanted: &Wanted,
    ) -> Result<(BTreeMap<Tag, ManifestRecord>, Vec<ManifestRecord>), FarmError> {
        let all: Vec<TagOrDigest> = match wanted {
            Wanted::These(these) => these.clone(),
            Wanted::Tags => self.tags(repository)?.into_iter().map(|row| TagOrDigest::Tag(row.tag)).collect(),
        };
        if all.is_empty() {
            return Err(FarmError::Usage(format!("{repository} has no tags; name an image by its digest")));
        }
        let (mut tags, mut digests) = (BTreeMap::new(), Vec::new());
        for reference in all {
            let found = self.runtime.block_on(self.store.catalog.manifest(repository, &reference))?;
            let record = found.ok_or_else(|| {
                let words = match &reference {
                    TagOrDigest::Tag(tag) => format!("{repository}:{tag}"),
                    TagOrDigest::Digest(digest) => format!("{repository}@{digest}"),
                };
                FarmError::Usage(format!("there is no {words} here"))
            })?;
            match reference {
                TagOrDigest::Tag(tag) => drop(tags.insert(tag, record)),
                TagOrDigest::Digest(_) => digests.push(record),
            }
        }
        Ok((tags, digests))
    }

    /// Checks all of a layout, and then makes its images those of a repository, in one transaction.
    ///
    /// With `tag`: the image that is tagged so in the layout, or its only one; without: all, with the tags they have.
    pub fn registry_import(
        &self,
        from: &Path,
        repository: &RepositoryName,
        tag: Option<&Tag>,
    ) -> Result<Unpacked, FarmError> {
        let layout = Layout::open(from)?;
        let content = match tag {
            Some(tag) => layout.one(tag)?,
            None => layout.everything()?,
        };
        // Before a single byte is taken over: what is wrong with the last layer must not leave the first one here.
        self.progress.stage(&format!("check {}", from.display()));
        layout.verify(&content)?;
        self.progress.stage(&format!("take {} over", from.display()));
        let untagged = if tag.is_none() { content.nameless(&layout) } else { BTreeSet::new() };
        for left in (1..=TRIES).rev() {
            self.keep_blobs(&layout, &content, repository)?;
            match self.runtime.block_on(self.store.publish_tagged(
                publication(repository, &content)?,
                content.tags.clone().into_iter().collect(),
            )) {
                Err(StoreError::Missing { .. } | StoreError::NotStored { .. }) if left > 1 => {}
                Err(e) => return Err(e.into()),
                Ok(()) => break,
            }
        }
        let (manifests, blobs, bytes) = (content.manifests.len(), content.blobs.len(), content.bytes());
        Ok(Unpacked { tags: content.tags, manifests, blobs, bytes, missing: content.missing, untagged })
    }

    /// What failed because the person asked to stop, as that.
    fn stopped_or<T, E: Into<FarmError>>(
        &self,
        done: Result<T, E>,
        after: &'static str,
    ) -> Result<T, FarmError> {
        let stopped = self.progress.cancel().load(Ordering::Relaxed);
        done.map_err(|e| if stopped { FarmError::Stopped(after) } else { e.into() })
    }

    /// As a push would: each is hashed again on its way, and goes with a collection if nothing comes to need it.
    fn keep_blobs(
        &self,
        layout: &Layout,
        content: &Content,
        repository: &RepositoryName,
    ) -> Result<(), FarmError> {
        let (done, total) = (Cell::new(0), content.blobs.values().map(|entry| entry.size).sum());
        for entry in content.blobs.values() {
            let held = self.runtime.block_on(self.store.catalog.blob(repository, &entry.digest))?;
            if held == Some(entry.size) && self.store.blobs.get(&entry.digest)? == Some(entry.size) {
                continue;
            }
            let Some(part) = layout.blob(&entry.digest)? else {
                return Err(FarmError::Usage(format!("{} left the layout while it was read", entry.digest)));
            };
            let mut part = Watched { inner: part, progress: self.progress.as_ref(), done: &done, total };
            let mut writer = self.store.blobs.writer_with(entry.digest.algorithm())?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let read = io::Read::read(&mut part, &mut buffer).map_err(FarmError::io("the layout"));
                let n = self.stopped_or(read, "no image is imported")?;
                if n == 0 {
                    break;
                }
                writer.add(&buffer[..n])?;
            }
            self.runtime.block_on(self.store.keep_blob(repository, writer, &entry.digest, open::now()))?;
        }
        Ok(())
    }
}

/// Counts what is read, and ends when the person asks to stop.
struct Watched<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
    done: &'a Cell<u64>,
    total: u64,
}

impl<R: io::Read> io::Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.cancel().load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let n = self.inner.read(buffer)?;
        self.done.set(self.done.get() + n as u64);
        self.progress.amount("done", self.done.get(), Some(self.total));
        Ok(n)
    }
}

fn publication(repository: &RepositoryName, content: &Content) -> Result<Publication, FarmError> {
    let blob = |e: &Entry| Descriptor {
        media_type: e.media_type.clone(),
        digest: e.digest.clone(),
        size: e.size,
        platform: None,
    };
    let manifest = |m: &hab_layout::Manifest| NewManifest {
        digest: m.digest.clone(),
        media_type: m.media_type.to_owned(),
        bytes: m.bytes.clone(),
    };
    Ok(Publication {
        repository: repository.clone(),
        blobs: content.blobs.values().map(blob).collect(),
        manifests: content.manifests.iter().map(manifest).collect(),
        tags: Vec::new(),
        root: content.manifests.last().ok_or(hab_layout::Error::Empty)?.digest.clone(),
        // A layout may hold some platforms of an index only; layers have to be there.
        gaps: Gaps::Indexes,
        at: open::now(),
    })
}

fn entry(record: &ManifestRecord) -> Entry {
    Entry::new(&record.media_type, record.digest.clone(), record.size)
}

impl Gathering<'_> {
    /// An image that was asked for by name has to be here with all its layers.
    fn root(&mut self, record: &ManifestRecord) -> Result<(), FarmError> {
        match self.enter(record)? {
            None => Ok(()),
            Some(lacking) => Err(FarmError::Incomplete {
                repository: self.repository.clone(),
                image: record.digest.clone(),
                lacking,
            }),
        }
    }

    /// Takes an image and all below it; or, where a layer of it is not here, says which, and takes nothing.
    fn enter(&mut self, record: &ManifestRecord) -> Result<Option<Digest>, FarmError> {
        let mut listed = match self.take(record)? {
            Ok(listed) => listed,
            Err(lacking) => return Ok(Some(lacking)),
        };
        // By hand, because indexes may be nested as deep as somebody likes.
        while let Some(digest) = listed.pop() {
            let mut here = self.take_blob(&digest)?;
            let key = TagOrDigest::Digest(digest.clone());
            let catalog = &self.farm.store.catalog;
            if let Some(child) = self.farm.runtime.block_on(catalog.manifest(self.repository, &key))?
                && let Ok(below) = self.take(&child)?
            {
                listed.extend(below);
                here = true;
            }
            if !here {
                self.missing.insert(digest);
            }
        }
        Ok(None)
    }

    /// Takes a manifest and its blobs, and says what it lists, which may be missing; or says which blob is not here.
    fn take(&mut self, record: &ManifestRecord) -> Result<Result<Vec<Digest>, Digest>, FarmError> {
        if self.manifests.contains(&record.digest) {
            return Ok(Ok(Vec::new()));
        }
        let store = &self.farm.store;
        let bytes = store.blobs.read(&record.digest, record.size)?;
        let bytes = bytes.ok_or_else(|| StoreError::Damaged { digest: record.digest.clone() })?;
        let outline = Outline::read(&record.media_type, &bytes)
            .map_err(|source| StoreError::Manifest { digest: record.digest.clone(), source })?;
        let mut parts = BTreeMap::new();
        let own = |e: &&Edge| matches!(e.kind, EdgeKind::Config | EdgeKind::Layer) && !e.listed;
        for edge in outline.edges.iter().filter(own) {
            match self.held(&edge.digest)? {
                Some(size) => drop(parts.insert(edge.digest.clone(), size)),
                None if edge.elsewhere => {}
                None => return Ok(Err(edge.digest.clone())),
            }
        }
        self.blobs.extend(parts);
        self.blobs.insert(record.digest.clone(), record.size);
        self.manifests.insert(record.digest.clone());
        let listed = outline.edges.into_iter().filter(|e| e.listed);
        Ok(Ok(listed.map(|e| e.digest).collect()))
    }

    /// Takes what the repository holds as a blob; `false` if it does not.
    fn take_blob(&mut self, digest: &Digest) -> Result<bool, FarmError> {
        let held = self.held(digest)?;
        self.blobs.extend(held.map(|size| (digest.clone(), size)));
        Ok(held.is_some())
    }

    /// The size of a blob that the repository holds, if its file is there.
    fn held(&self, digest: &Digest) -> Result<Option<u64>, FarmError> {
        let store = &self.farm.store;
        let held = self.farm.runtime.block_on(store.catalog.blob(self.repository, digest))?;
        Ok(store.blobs.get(digest)?.filter(|size| held == Some(*size)))
    }

    /// What says something about what was taken, and what says something about that.
    fn referrers(&mut self) -> Result<Vec<Entry>, FarmError> {
        let (mut found, mut asked) = (BTreeMap::new(), BTreeSet::new());
        while let Some(subject) = self.manifests.difference(&asked).next().cloned() {
            let store = &self.farm.store;
            let referrers = self.farm.runtime.block_on(store.catalog.referrers(self.repository, &subject))?;
            asked.insert(subject);
            for referrer in referrers {
                let new = !self.manifests.contains(&referrer.manifest.digest);
                if new && self.enter(&referrer.manifest)?.is_none() {
                    let mut entry = entry(&referrer.manifest);
                    entry.artifact_type = referrer.artifact_type;
                    found.insert(entry.digest.clone(), entry);
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tags, manifests, blobs, bytes, missing } = self;
        f.write_str(&amounts(tags.len(), *manifests, *blobs, *bytes))?;
        if missing.is_empty() {
            Ok(())
        } else {
            write!(
                f,
                "; left out, because they are not here: {}",
                counted(missing.len() as u64, "listed image")
            )
        }
    }
}

impl fmt::Display for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tags, manifests, blobs, bytes, missing, untagged } = self;
        f.write_str(&amounts(tags.len(), *manifests, *blobs, *bytes))?;
        if !missing.is_empty() {
            write!(f, "; not in the layout: {}", counted(missing.len() as u64, "listed image"))?;
        }
        if !untagged.is_empty() {
            let images = counted(untagged.len() as u64, "image");
            write!(f, "; without a tag, to go with a collection after the grace period: {images}")?;
        }
        Ok(())
    }
}

fn amounts(tags: usize, manifests: usize, blobs: usize, bytes: u64) -> String {
    let count = |number: usize, thing: &str| counted(number as u64, thing);
    format!(
        "{}, {}, {}, {}",
        count(tags, "tag"),
        count(manifests, "manifest"),
        count(blobs, "blob"),
        counted(bytes, "byte")
    )
}
