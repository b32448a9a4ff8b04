//! Compares the collection with a slow and simple model of it, and runs it against pushes at the same time.

use std::collections::{BTreeMap, BTreeSet};

use hab_oci::{Descriptor, Digest, RepositoryName, media_type};
use hab_store::{Back, Error, NewManifest, Publication, Store};
use proptest::prelude::*;

use crate::collect::{GRACE, rules};
use crate::harness::{Image, files, json, tag};

const REPOSITORIES: [&str; 2] = ["a", "b/c"];
const TAGS: [&str; 2] = ["v1", "latest"];
const IMAGES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    PushBlobs {
        repository: usize,
        image: usize,
    },
    PushImage {
        repository: usize,
        image: usize,
        tag: Option<usize>,
    },
    /// An index over the first two images.
    PushIndex {
        repository: usize,
        tag: Option<usize>,
    },
    /// A referrer with the blobs of the last image.
    PushReferrer {
        repository: usize,
        subject: usize,
    },
    Untag {
        repository: usize,
        tag: usize,
    },
    Rollback {
        repository: usize,
        tag: usize,
    },
    Delete {
        repository: usize,
        image: usize,
    },
    Unlink {
        repository: usize,
        image: usize,
    },
    Mount {
        from: usize,
        image: usize,
    },
    BeginUpload {
        repository: usize,
    },
    EndUpload {
        repository: usize,
    },
    /// Stores an image's layer for good, without the catalog.
    Keep {
        image: usize,
    },
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let (repository, image, tag) = (0..REPOSITORIES.len(), 0..IMAGES, 0..TAGS.len());
    let maybe = proptest::option::of(tag.clone());
    prop_oneof![
        6 => (1..2 * GRACE).prop_map(Step::Wait),
        4 => (repository.clone(), image.clone()).prop_map(|(repository, image)| Step::PushBlobs { repository, image }),
        5 => (repository.clone(), image.clone(), maybe.clone())
            .prop_map(|(repository, image, tag)| Step::PushImage { repository, image, tag }),
        2 => (repository.clone(), maybe).prop_map(|(repository, tag)| Step::PushIndex { repository, tag }),
        2 => (repository.clone(), image.clone())
            .prop_map(|(repository, subject)| Step::PushReferrer { repository, subject }),
        2 => (repository.clone(), tag.clone()).prop_map(|(repository, tag)| Step::Untag { repository, tag }),
        1 => (repository.clone(), tag).prop_map(|(repository, tag)| Step::Rollback { repository, tag }),
        1 => (repository.clone(), image.clone()).prop_map(|(repository, image)| Step::Delete { repository, image }),
        1 => (repository.clone(), image.clone()).prop_map(|(repository, image)| Step::Unlink { repository, image }),
        1 => (repository.clone(), image.clone()).prop_map(|(from, image)| Step::Mount { from, image }),
        1 => repository.clone().prop_map(|repository| Step::BeginUpload { repository }),
        1 => repository.prop_map(|repository| Step::EndUpload { repository }),
        1 => image.prop_map(|image| Step::Keep { image }),
        5 => Just(Step::Collect),
    ]
}

#[derive(Clone, Debug)]
struct Manifest {
    created: i64,
    untagged: Option<i64>,
    blobs: Vec<Digest>,
    lists: Vec<Digest>,
    subject: Option<Digest>,
}

#[derive(Debug, Default)]
struct Repository {
    manifests: BTreeMap<Digest, Manifest>,
    members: BTreeMap<Digest, i64>,
    tags: BTreeMap<usize, Digest>,
    history: BTreeMap<usize, Vec<Option<Digest>>>,
    uploads: Vec<(hab_store::UploadId, i64)>,
}

impl Repository {
    fn point(&mut self, tag: usize, to: Option<Digest>, now: i64) {
        let was = self.tags.get(&tag).cloned();
        if was == to {
            return;
        }
        if let Some(manifest) = was.and_then(|was| self.manifests.get_mut(&was)) {
            manifest.untagged = Some(now);
        }
        self.history.entry(tag).or_default().push(to.clone());
        match to {
            Some(to) => self.tags.insert(tag, to),
            None => self.tags.remove(&tag),
        };
    }

    fn collect(&mut self, now: i64) {
        let since = self.uploads.iter().map(|(_, at)| *at).fold(now, i64::min) - GRACE;
        let young = |m: &Manifest| m.created > since || m.untagged.is_some_and(|at| at > since);
        let mut needed: BTreeSet<Digest> = self.tags.values().cloned().collect();
        needed.extend(self.manifests.iter().filter(|(_, m)| young(m)).map(|(d, _)| d.clone()));
        loop {
            let listed = needed.iter().filter_map(|d| self.manifests.get(d)).flat_map(|m| m.lists.clone());
            let about =
                self.manifests.iter().filter(|(_, m)| m.subject.as_ref().is_some_and(|s| needed.contains(s)));
            let more: BTreeSet<Digest> = listed.chain(about.map(|(d, _)| d.clone())).collect();
            if more.is_subset(&needed) {
                break;
            }
            needed.extend(more);
        }
        self.manifests.retain(|digest, _| needed.contains(digest));
        let used: BTreeSet<Digest> = self.manifests.values().flat_map(|m| m.blobs.clone()).collect();
        self.members.retain(|digest, created| *created > since || used.contains(digest));
    }
}

struct Model {
    folder: tempfile::TempDir,
    store: Store,
    images: Vec<Image>,
    now: i64,
    repositories: [Repository; 2],
    /// The blobs that the catalog has rows for, even if nothing holds them any more.
    known: BTreeSet<Digest>,
    for_good: BTreeSet<Digest>,
    /// Manifests that were written and then refused; only a scrub finds them.
    strays: BTreeSet<Digest>,
}

fn name(repository: usize) -> RepositoryName {
    REPOSITORIES[repository].parse().unwrap()
}

impl Model {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        Self {
            store,
            folder,
            images: (0..IMAGES).map(|n| Image::new(&n.to_string())).collect(),
            now: 1_000,
            repositories: Default::default(),
            known: BTreeSet::new(),
            for_good: BTreeSet::new(),
            strays: BTreeSet::new(),
        }
    }

    fn blobs(&self, image: usize) -> [Digest; 2] {
        [Digest::of(&self.images[image].config), Digest::of(&self.images[image].layer)]
    }

    async fn take(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Wait(time) => self.now += time,
            Step::PushBlobs { repository, image } => {
                for bytes in [&self.images[image].config, &self.images[image].layer] {
                    let mut writer = self.store.blobs.writer().unwrap();
                    writer.add(bytes).unwrap();
                    let digest = Digest::of(bytes);
                    self.store.keep_blob(&name(repository), writer, &digest, now).await.unwrap();
                    self.repositories[repository].members.insert(digest.clone(), now);
                    self.known.insert(digest);
                }
            }
            Step::PushImage { repository, image, tag } => {
                let manifest = self.images[image].manifest.clone();
                let blobs = self.blobs(image).into();
                self.push(repository, manifest, blobs, Vec::new(), None, tag).await;
            }
            Step::PushIndex { repository, tag } => {
                let children = [&self.images[0].manifest, &self.images[1].manifest];
                let list = children.map(|m| json(&Descriptor::of(&m.media_type, &m.bytes))).join(",");
                let text = format!("{{\"schemaVersion\":2,\"manifests\":[{list}]}}");
                let lists = children.map(|m| m.digest.clone()).into();
                let index = NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes());
                self.push(repository, index, Vec::new(), lists, None, tag).await;
            }
            Step::PushReferrer { repository, subject } => {
                let about = &self.images[subject].manifest;
                let text = String::from_utf8(self.images[IMAGES - 1].manifest.bytes.clone()).unwrap();
                let subject = json(&Descriptor::of(&about.media_type, &about.bytes));
                let text = format!("{},\"subject\":{subject}}}", text.strip_suffix('}').unwrap());
                let referrer = NewManifest::new(media_type::IMAGE_MANIFEST, text.into_bytes());
                let (blobs, about) = (self.blobs(IMAGES - 1).into(), about.digest.clone());
                self.push(repository, referrer, blobs, Vec::new(), Some(about), None).await;
            }
            Step::Untag { repository, tag: n } => {
                let deleted = self.store.catalog.delete_tag(&name(repository), &tag(TAGS[n]), now).await;
                assert_eq!(deleted.unwrap(), self.repositories[repository].tags.contains_key(&n));
                self.repositories[repository].point(n, None, now);
            }
            Step::Rollback { repository, tag: n } => self.roll_back(repository, n).await,
            Step::Delete { repository, image } => {
                let digest = self.images[image].digest().clone();
                let deleted =
                    self.store.catalog.delete_manifest(&name(repository), &digest, now).await.unwrap();
                let model = &mut self.repositories[repository];
                for n in 0..TAGS.len() {
                    if model.tags.get(&n) == Some(&digest) {
                        model.point(n, None, now);
                    }
                }
                assert_eq!(deleted, model.manifests.remove(&digest).is_some());
            }
            Step::Unlink { repository, image } => {
                let layer = Digest::of(&self.images[image].layer);
                let model = &mut self.repositories[repository];
                let used = model.manifests.values().any(|m| m.blobs.contains(&layer));
                match self.store.catalog.unlink_blob(&name(repository), &layer).await {
                    Ok(unlinked) => {
                        assert_eq!((unlinked, used), (model.members.remove(&layer).is_some(), false));
                    }
                    Err(e) => assert!(used && matches!(e, Error::InUse { .. }), "{e:?}"),
                }
            }
            Step::Mount { from, image } => {
                let layer = Digest::of(&self.images[image].layer);
                let mounted = self.store.catalog.mount_blob(&name(from), &name(1 - from), &layer, now).await;
                assert_eq!(mounted.unwrap(), self.repositories[from].members.contains_key(&layer));
                if self.repositories[from].members.contains_key(&layer) {
                    self.repositories[1 - from].members.insert(layer, now);
                }
            }
            Step::BeginUpload { repository } => {
                let id = self.store.blobs.begin_upload().unwrap();
                self.store.catalog.add_upload(&id, &name(repository), now).await.unwrap();
                self.repositories[repository].uploads.push((id, now));
            }
            Step::EndUpload { repository } => {
                if let Some((id, _)) = self.repositories[repository].uploads.pop() {
                    self.store.blobs.upload(&id).unwrap().cancel().unwrap();
                    self.store.catalog.end_upload(&id).await.unwrap();
                }
            }
            Step::Keep { image } => {
                self.for_good.insert(self.store.blobs.put(&self.images[image].layer).unwrap());
            }
            Step::Collect => {
                let would = self.store.would_collect(&rules(), now).await.unwrap();
                assert_eq!(self.store.collect(&rules(), now).await.unwrap(), would);
                self.repositories.iter_mut().for_each(|repository| repository.collect(now));
                self.known = self.held();
            }
        }
    }

    async fn push(
        &mut self,
        repository: usize,
        manifest: NewManifest,
        blobs: Vec<Digest>,
        lists: Vec<Digest>,
        subject: Option<Digest>,
        to: Option<usize>,
    ) {
        let (root, now) = (manifest.digest.clone(), self.now);
        let publication = Publication {
            gaps: hab_store::Gaps::None,
            repository: name(repository),
            blobs: Vec::new(),
            manifests: vec![manifest],
            tags: to.map(|n| tag(TAGS[n])).into_iter().collect(),
            root: root.clone(),
            at: now,
        };
        let model = &mut self.repositories[repository];
        let whole = blobs.iter().all(|b| model.members.contains_key(b))
            && lists.iter().all(|m| model.manifests.contains_key(m));
        match self.store.publish(publication).await {
            Ok(()) => {
                assert!(whole, "a manifest was accepted without its parts");
                let untagged = model.manifests.get(&root).and_then(|m| m.untagged);
                model
                    .manifests
                    .insert(root.clone(), Manifest { created: now, untagged, blobs, lists, subject });
                if let Some(to) = to {
                    model.point(to, Some(root.clone()), now);
                }
                self.strays.remove(&root);
                self.known.insert(root);
            }
            Err(e) => {
                assert!(!whole && matches!(e, Error::Missing { .. }), "{e:?}");
                let written = self.store.blobs.get(&root).unwrap().is_some();
                if written && !self.known.contains(&root) {
                    self.strays.insert(root);
                }
            }
        }
    }

    async fn roll_back(&mut self, repository: usize, n: usize) {
        let model = &mut self.repositories[repository];
        let mut values: Vec<Digest> =
            model.history.get(&n).into_iter().flatten().flatten().cloned().collect();
        values.dedup();
        if model.tags.contains_key(&n) {
            values.pop();
        }
        let expected = values.pop().filter(|to| model.manifests.contains_key(to));
        let back = Back::Steps(1);
        match self.store.catalog.rollback_tag(&name(repository), &tag(TAGS[n]), &back, self.now).await {
            Ok(place) => {
                assert_eq!(Some(&place), expected.as_ref());
                model.point(n, Some(place), self.now);
            }
            Err(e) => assert!(
                expected.is_none() && matches!(e, Error::NeverThere { .. } | Error::NotHeld { .. }),
                "{e:?}"
            ),
        }
    }

    fn held(&self) -> BTreeSet<Digest> {
        let of = |r: &Repository| r.members.keys().chain(r.manifests.keys()).cloned().collect::<Vec<_>>();
        self.repositories.iter().flat_map(of).collect()
    }

    async fn check(&self) {
        for (n, model) in self.repositories.iter().enumerate() {
            let rows = self.store.catalog.tag_rows(&name(n)).await.unwrap();
            let rows: BTreeMap<_, _> =
                rows.into_iter().map(|row| (row.tag.to_string(), row.digest)).collect();
            let tags = model.tags.iter().map(|(n, digest)| (TAGS[*n].to_owned(), digest.clone()));
            assert_eq!(rows, tags.collect());
            for digest in &self.known {
                let member = self.store.catalog.blob(&name(n), digest).await.unwrap().is_some();
                assert_eq!(member, model.members.contains_key(digest), "{digest}");
                let reference = hab_oci::TagOrDigest::Digest(digest.clone());
                let found = self.store.catalog.manifest(&name(n), &reference).await.unwrap().is_some();
                assert_eq!(found, model.manifests.contains_key(digest), "{digest}");
            }
        }
        let mut expected = self.known.clone();
        expected.extend(self.for_good.iter().chain(&self.strays).cloned());
        let found: BTreeSet<_> = files(&self.folder.path().join("blobs/sha256")).into_iter().collect();
        let expected = expected.iter().map(|d| format!("{}/{}", &d.hex()[..2], d.hex())).collect();
        assert_eq!(found, expected, "exactly what is needed, and what is not the catalog's");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn after_any_steps_all_that_is_needed_is_there_and_nothing_else(
        steps in proptest::collection::vec(step(), 1..50)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in &steps {
                model.take(step).await;
                model.check().await;
            }
            model.store.catalog.close().await;
        });
    }
}
