use hab_oci::{Descriptor, Digest, TagOrDigest, media_type};
use hab_store::{Collected, Collection, Error, NewManifest, Publication, Retain, Store};

use crate::harness::{Image, World, by_tag, json, repository, tag};

pub const GRACE: i64 = 100;

/// A collection without rules for tags.
pub fn rules() -> Collection {
    Collection { grace: format!("{GRACE}s").parse().unwrap(), retain: Vec::new() }
}

fn retain(text: &str) -> Collection {
    let retain = serde_json::from_str::<Vec<Retain>>(text).unwrap();
    Collection { retain, ..rules() }
}

/// Pushes an image as a client does: blobs one by one, then the manifest.
pub async fn push(store: &Store, image: &Image, tags: &[&str], at: i64) -> hab_store::Result<()> {
    for bytes in [&image.config, &image.layer] {
        push_blob(store, bytes, at).await?;
    }
    let publication = Publication { blobs: Vec::new(), ..image.publication(tags, at) };
    store.publish(publication).await
}

pub async fn push_blob(store: &Store, bytes: &[u8], at: i64) -> hab_store::Result<()> {
    let mut writer = store.blobs.writer()?;
    writer.add(bytes)?;
    store.keep_blob(&repository(), writer, &Digest::of(bytes), at).await.map(drop)
}

pub async fn push_manifest(
    store: &Store,
    manifest: NewManifest,
    tags: &[&str],
    at: i64,
) -> hab_store::Result<Digest> {
    let root = manifest.digest.clone();
    let tags = tags.iter().map(|t| tag(t)).collect();
    let (blobs, manifests) = (Vec::new(), vec![manifest]);
    let publication = Publication {
        repository: repository(),
        blobs,
        manifests,
        tags,
        root: root.clone(),
        gaps: hab_store::Gaps::None,
        at,
    };
    store.publish(publication).await.map(|()| root)
}

pub fn index(children: &[&NewManifest]) -> NewManifest {
    let child = |m: &&NewManifest| json(&Descriptor::of(&m.media_type, &m.bytes));
    let list = children.iter().map(child).collect::<Vec<_>>().join(",");
    let text = format!("{{\"schemaVersion\":2,\"manifests\":[{list}]}}");
    NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes())
}

/// The same image, with a subject.
pub fn about(image: &Image, subject: &NewManifest) -> NewManifest {
    let text = String::from_utf8(image.manifest.bytes.clone()).unwrap();
    let subject = json(&Descriptor::of(&subject.media_type, &subject.bytes));
    let text = format!("{},\"subject\":{subject}}}", text.strip_suffix('}').unwrap());
    NewManifest::new(media_type::IMAGE_MANIFEST, text.into_bytes())
}

pub async fn has(store: &Store, digest: &Digest) -> bool {
    let reference = TagOrDigest::Digest(digest.clone());
    store.catalog.manifest(&repository(), &reference).await.unwrap().is_some()
}

#[tokio::test]
async fn what_lost_its_last_tag_stays_for_the_grace_period_and_goes_after_it() {
    let world = World::new().await;
    let store = &world.store;
    let (old, new) = (Image::new("old"), Image::new("new"));
    push(store, &old, &["latest"], 1).await.unwrap();
    push(store, &new, &["latest"], 5_000).await.unwrap();
    assert_eq!(store.collect(&rules(), 5_000 + GRACE - 1).await.unwrap(), Collected::default());
    let back = hab_store::Back::Steps(1);
    store.catalog.rollback_tag(&repository(), &tag("latest"), &back, 5_099).await.unwrap();
    store.catalog.rollback_tag(&repository(), &tag("latest"), &back, 5_099).await.unwrap();
    assert_eq!(store.collect(&rules(), 5_099 + GRACE - 1).await.unwrap(), Collected::default());
    let size = old.config.len() + old.layer.len() + old.manifest.bytes.len();
    let collected = store.collect(&rules(), 5_099 + GRACE).await.unwrap();
    assert_eq!((collected.manifests, collected.blobs, collected.bytes), (1, 3, size as u64));
    for gone in [old.digest(), &Digest::of(&old.layer), &Digest::of(&old.config)] {
        assert_eq!(store.blobs.get(gone).unwrap(), None);
    }
    let found = store.catalog.manifest(&repository(), &by_tag("latest")).await.unwrap().unwrap();
    assert_eq!(found.digest, *new.digest());
    assert_eq!(store.blobs.read(&Digest::of(&new.layer), 1 << 30).unwrap().unwrap(), new.layer);
    let refused = store.catalog.rollback_tag(&repository(), &tag("latest"), &back, 9_999).await;
    assert!(matches!(refused, Err(Error::NotHeld { .. })), "{refused:?}");
}

#[tokio::test]
async fn members_of_an_index_and_what_is_said_about_what_lives_live() {
    let world = World::new().await;
    let store = &world.store;
    let images = ["a", "b", "sbom", "signature", "alone"].map(Image::new);
    for image in &images {
        push(store, image, &[], 1).await.unwrap();
    }
    let inner = index(&[&images[0].manifest]);
    let outer = index(&[&inner, &images[1].manifest]);
    let sbom = about(&images[2], &images[0].manifest);
    let signature = about(&images[3], &sbom);
    for (manifest, tags) in [(&inner, &[][..]), (&outer, &["v1"]), (&sbom, &[]), (&signature, &[])] {
        push_manifest(store, manifest.clone(), tags, 1).await.unwrap();
    }
    let living = [
        images[0].digest(),
        images[1].digest(),
        &inner.digest,
        &outer.digest,
        &sbom.digest,
        &signature.digest,
    ];
    let collected = store.collect(&rules(), 5_000).await.unwrap();
    // The three images without an index or tag are removed, but not the blobs that two of them share with images that
    // stay.
    assert_eq!((collected.manifests, collected.blobs), (3, 5));
    for digest in living {
        assert!(has(store, digest).await, "{digest}");
    }
    store.catalog.delete_tag(&repository(), &tag("v1"), 6_000).await.unwrap();
    let collected = store.collect(&rules(), 9_000).await.unwrap();
    assert_eq!(collected.manifests, 6);
    assert_eq!(store.collect(&rules(), 9_000).await.unwrap(), Collected::default());
    let left = crate::harness::files(&world.path().join("blobs"));
    assert!(!left.iter().any(|name| name.contains("sha256")), "{left:?}");
}

#[tokio::test]
async fn what_somebody_else_keeps_is_never_removed_whoever_was_first() {
    let world = World::new().await;
    let store = &world.store;
    let (before, after, named) = (b"kept before".to_vec(), b"kept after".to_vec(), b"named".to_vec());
    store.blobs.put(&before).unwrap();
    for bytes in [&before, &after, &named] {
        push_blob(store, bytes, 1).await.unwrap();
    }
    // Like a decision, a log or a package: a blob that is stored without the catalog.
    store.blobs.put(&after).unwrap();
    let digest = Digest::of(&named);
    store.catalog.remember("crate", "x-1.0", &digest, named.len() as u64, 1).await.unwrap();
    assert_eq!(store.would_collect(&rules(), 5_000).await.unwrap(), Collected::default());
    assert_eq!(store.collect(&rules(), 5_000).await.unwrap(), Collected::default());
    for bytes in [before, after, named] {
        assert_eq!(store.blobs.read(&Digest::of(&bytes), 1 << 30).unwrap().unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_push_in_progress_holds_back_the_clock_of_its_repository() {
    let world = World::new().await;
    let store = &world.store;
    let layer = b"a layer that was pushed first".to_vec();
    let id = store.blobs.begin_upload().unwrap();
    store.catalog.add_upload(&id, &repository(), 1_000).await.unwrap();
    push_blob(store, &layer, 1_000).await.unwrap();
    assert_eq!(store.collect(&rules(), 50_000).await.unwrap().blobs, 0, "its manifest may still come");
    store.catalog.end_upload(&id).await.unwrap();
    assert_eq!(store.collect(&rules(), 50_000).await.unwrap().blobs, 1);
}

#[tokio::test]
async fn an_upload_that_was_abandoned_holds_nothing_back_and_one_that_goes_on_is_said() {
    let world = World::new().await;
    let store = &world.store;
    let id = store.blobs.begin_upload().unwrap();
    store.catalog.add_upload(&id, &repository(), 1_000).await.unwrap();
    push_blob(store, b"pushed first", 1_000).await.unwrap();
    let held = store.collect(&rules(), 50_000).await.unwrap();
    assert_eq!((held.blobs, held.held_back), (0, vec![(repository(), 1, 1_000)]));
    let file = std::fs::File::open(world.path().join(format!("blobs/uploads/{}", id.as_str()))).unwrap();
    let silent = std::time::SystemTime::now() - std::time::Duration::from_secs(61 * 60);
    file.set_times(std::fs::FileTimes::new().set_modified(silent)).unwrap();
    let free = store.collect(&rules(), 50_000).await.unwrap();
    assert_eq!((free.blobs, free.held_back), (1, vec![]));
}

#[tokio::test]
async fn an_upload_that_trickles_on_holds_a_collection_back_for_a_day_at_most() {
    let world = World::new().await;
    let store = &world.store;
    let id = store.blobs.begin_upload().unwrap();
    store.catalog.add_upload(&id, &repository(), 1_000).await.unwrap();
    push_blob(store, b"pushed first", 1_000).await.unwrap();
    let day = 24 * 60 * 60;
    assert_eq!(store.collect(&rules(), 1_000 + day - 1).await.unwrap().blobs, 0);
    assert_eq!(store.collect(&rules(), 1_000 + day).await.unwrap().blobs, 1);
}

#[tokio::test]
async fn a_blob_that_is_pushed_or_mounted_again_is_young_again() {
    let world = World::new().await;
    let store = &world.store;
    let other: hab_oci::RepositoryName = "other".parse().unwrap();
    push_blob(store, b"pushed again", 1).await.unwrap();
    push_blob(store, b"mounted", 1).await.unwrap();
    push_blob(store, b"pushed again", 5_000).await.unwrap();
    let mounted = Digest::of(b"mounted");
    assert!(store.catalog.mount_blob(&repository(), &other, &mounted, 5_000).await.unwrap());
    assert_eq!(store.collect(&rules(), 5_001).await.unwrap().blobs, 0);
    assert_eq!(store.catalog.blob(&repository(), &mounted).await.unwrap(), None);
    assert_eq!(store.catalog.blob(&other, &mounted).await.unwrap(), Some(7));
}

#[tokio::test]
async fn who_was_told_that_a_blob_is_there_is_told_when_it_is_gone() {
    let world = World::new().await;
    let store = &world.store;
    let image = Image::new("one");
    for bytes in [&image.config, &image.layer] {
        push_blob(store, bytes, 1).await.unwrap();
    }
    assert!(store.catalog.blob(&repository(), &Digest::of(&image.layer)).await.unwrap().is_some());
    store.collect(&rules(), 5_000).await.unwrap();
    let publication = Publication { blobs: Vec::new(), ..image.publication(&["v1"], 5_000) };
    let told = store.publish(publication).await.unwrap_err();
    assert!(matches!(told, Error::Missing { .. }), "{told:?}");
    push(store, &image, &["v1"], 5_001).await.unwrap();
    assert_eq!(store.blobs.read(&Digest::of(&image.layer), 1 << 30).unwrap().unwrap(), image.layer);
}

#[tokio::test]
async fn no_manifest_is_accepted_over_a_file_that_is_lost() {
    let world = World::new().await;
    let image = Image::new("one");
    for bytes in [&image.config, &image.layer] {
        push_blob(&world.store, bytes, 1).await.unwrap();
    }
    world.store.blobs.remove(&Digest::of(&image.layer)).unwrap();
    let publication = Publication { blobs: Vec::new(), ..image.publication(&["v1"], 1) };
    let told = world.store.publish(publication).await.unwrap_err();
    assert!(matches!(told, Error::Missing { .. }), "{told:?}");
}

#[tokio::test]
async fn a_dry_run_counts_what_the_real_one_removes_and_changes_nothing() {
    let world = World::new().await;
    let store = &world.store;
    let images: Vec<_> = (0..20).map(|n| Image::new(&n.to_string())).collect();
    for (n, image) in images.iter().enumerate() {
        let name = format!("pr-{n}");
        let tags = [name.as_str()];
        push(store, image, if n % 3 == 0 { &[] } else { &tags }, 1).await.unwrap();
    }
    store.blobs.put(&images[0].layer).unwrap();
    let rules = Collection { grace: "0s".parse().unwrap(), ..retain("[{\"tag\": \"pr-*\", \"keep\": 5}]") };
    let used = |store: &Store| {
        let root = store.blobs.path(&Digest::of(b"")).ancestors().nth(2).unwrap().to_owned();
        let sizes =
            crate::harness::files(&root).into_iter().map(move |f| root.join(f).metadata().unwrap().len());
        sizes.sum::<u64>()
    };
    let before = used(store);
    let would = store.would_collect(&rules, 9_000).await.unwrap();
    assert_eq!((used(store), would.tags.len()), (before, 8));
    assert_eq!(store.would_collect(&rules, 9_000).await.unwrap(), would, "it took back what it did");
    let collected = store.collect(&rules, 9_000).await.unwrap();
    assert_eq!(collected, would);
    assert!(collected.bytes > 0);
    assert_eq!(before - used(store), collected.bytes);
}

#[tokio::test]
async fn a_tag_that_a_rule_lets_go_is_in_its_history_and_rolls_back_within_grace() {
    let world = World::new().await;
    let store = &world.store;
    let image = Image::new("one");
    push(store, &image, &["pr-1", "v1"], 1).await.unwrap();
    let rules = retain("[{\"repository\": \"hab/*\", \"tag\": \"pr-*\", \"older\": \"1d\"}]");
    assert_eq!(store.collect(&rules, 86_401).await.unwrap().tags, []);
    assert_eq!(store.collect(&rules, 86_402).await.unwrap().tags, [(repository(), tag("pr-1"))]);
    let history = store.catalog.tag_history(&repository(), &tag("pr-1")).await.unwrap();
    assert_eq!((history.len(), history[1].digest.as_ref(), history[1].at), (2, None, 86_402));
    let back = hab_store::Back::Steps(1);
    let place = store.catalog.rollback_tag(&repository(), &tag("pr-1"), &back, 86_403).await.unwrap();
    assert_eq!(place, *image.digest());
    let elsewhere = retain("[{\"repository\": \"other\", \"tag\": \"*\", \"keep\": 0}]");
    assert_eq!(store.collect(&elsewhere, 999_999).await.unwrap().tags, []);
}

#[tokio::test]
async fn a_rule_that_would_let_everything_go_is_no_rule() {
    for bad in ["{\"tag\": \"*\"}", "{\"tag\": \"*\", \"keeps\": 3}", "{\"tag\": \"*\", \"older\": \"soon\"}"]
    {
        assert!(serde_json::from_str::<Retain>(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn one_collection_runs_at_a_time_and_a_dry_one_beside_it() {
    let world = World::new().await;
    let lock = std::fs::File::create(world.path().join("blobs/collector.lock")).unwrap();
    lock.lock().unwrap();
    let refused = world.store.collect(&rules(), 1).await.unwrap_err();
    assert!(matches!(refused, Error::Collecting), "{refused:?}");
    world.store.would_collect(&rules(), 1).await.unwrap();
    drop(lock);
    world.store.collect(&rules(), 1).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_collection_doomed_goes_with_the_next_unless_it_was_pushed_again() {
    let world = World::new().await;
    let store = &world.store;
    let (gone, back) = (b"doomed".to_vec(), b"pushed again".to_vec());
    let pool = world.sql().await;
    for bytes in [&gone, &back] {
        push_blob(store, bytes, 5_000).await.unwrap();
        // The state after the transaction and before the file is removed.
        let digest = Digest::of(bytes).to_string();
        for sql in [
            "DELETE FROM repository_blobs WHERE digest = $1",
            "DELETE FROM blobs WHERE digest = $1",
            "INSERT INTO doomed (digest) VALUES ($1)",
        ] {
            sqlx::query(sql).bind(&digest).execute(&pool).await.unwrap();
        }
    }
    push_blob(store, &back, 5_000).await.unwrap();
    let would = store.would_collect(&rules(), 5_001).await.unwrap();
    assert_eq!((would.blobs, would.bytes), (1, gone.len() as u64));
    assert_eq!(store.collect(&rules(), 5_001).await.unwrap(), would);
    assert_eq!(store.blobs.get(&Digest::of(&gone)).unwrap(), None);
    assert_eq!(store.blobs.read(&Digest::of(&back), 1 << 30).unwrap().unwrap(), back);
}
