use std::fs::{self, File};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hab_oci::Digest;
use hab_store::{Blobs, Error, Mender, Mending, Publication, Scrub, Scrubbed, Tags};

use crate::collect::{has, push, push_blob, rules};
use crate::harness::{Image, World, files, repository};

/// Flips one bit of a file, as a bad disk would.
fn flip(blobs: &Blobs, digest: &Digest) {
    let path = blobs.path(digest);
    let permissions = fs::metadata(&path).unwrap().permissions();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, permissions).unwrap();
}

async fn pass(world: &World) -> Scrubbed {
    Scrub::new(world.store.clone(), None).pass(77).await.unwrap()
}

#[tokio::test]
async fn a_damaged_blob_is_set_aside_and_unknown_until_it_is_pushed_again() {
    let world = World::new().await;
    let store = &world.store;
    let image = Image::new("one");
    push(store, &image, &["v1"], 1).await.unwrap();
    let clean = pass(&world).await;
    assert_eq!((clean.files, clean.damaged.len()), (3, 0));
    let layer = Digest::of(&image.layer);
    flip(&store.blobs, &layer);
    let found = pass(&world).await;
    assert_eq!((found.damaged, found.missing), (vec![layer.clone()], vec![]));
    assert_eq!(files(&world.path().join("blobs/damaged")), [format!("sha256-{}", layer.hex())]);
    assert_eq!(store.catalog.blob(&repository(), &layer).await.unwrap(), None);
    assert!(!store.catalog.mount_blob(&repository(), &"b".parse().unwrap(), &layer, 2).await.unwrap());
    let publication = Publication { blobs: Vec::new(), ..image.publication(&["v2"], 2) };
    let refused = store.publish(publication).await;
    assert!(matches!(refused, Err(Error::Missing { .. })), "{refused:?}");
    assert_eq!(pass(&world).await.damaged, [], "what is known is not news");
    push_blob(store, &image.layer, 3).await.unwrap();
    assert_eq!(store.catalog.blob(&repository(), &layer).await.unwrap(), Some(image.layer.len() as u64));
    assert_eq!(store.blobs.read(&layer, 1 << 30).unwrap().unwrap(), image.layer);
    assert_eq!(pass(&world).await.damaged, []);
}

#[tokio::test]
async fn a_damaged_manifest_is_unknown_so_that_clients_push_it_again() {
    let world = World::new().await;
    let image = Image::new("one");
    push(&world.store, &image, &["v1"], 1).await.unwrap();
    flip(&world.store.blobs, image.digest());
    assert_eq!(pass(&world).await.damaged, [image.digest().clone()]);
    assert!(!has(&world.store, image.digest()).await);
    push(&world.store, &image, &["v1"], 2).await.unwrap();
    assert!(has(&world.store, image.digest()).await);
    assert_eq!(world.store.blobs.read(image.digest(), 1 << 30).unwrap().unwrap(), image.manifest.bytes);
}

#[tokio::test]
async fn a_file_that_is_gone_is_noticed() {
    let world = World::new().await;
    let image = Image::new("one");
    push(&world.store, &image, &["v1"], 1).await.unwrap();
    world.store.blobs.remove(image.digest()).unwrap();
    assert!(has(&world.store, image.digest()).await);
    assert_eq!(pass(&world).await.missing, [image.digest().clone()]);
    assert!(!has(&world.store, image.digest()).await);
    assert_eq!(pass(&world).await.missing, []);
    // Stored by code that does not know the catalog.
    world.store.blobs.put(&image.manifest.bytes).unwrap();
    assert_eq!(pass(&world).await.mended, [image.digest().clone()]);
    assert!(has(&world.store, image.digest()).await);
}

#[tokio::test]
async fn what_was_kept_for_good_still_is_when_a_push_mends_it() {
    let world = World::new().await;
    let store = &world.store;
    let digest = store.blobs.put(b"evidence of a decision").unwrap();
    flip(&store.blobs, &digest);
    assert_eq!(pass(&world).await.damaged, std::slice::from_ref(&digest));
    assert_eq!(store.blobs.get(&digest).unwrap(), None);
    push_blob(store, b"evidence of a decision", 1).await.unwrap();
    store.collect(&rules(), 9_000).await.unwrap();
    assert_eq!(store.blobs.read(&digest, 1 << 30).unwrap().unwrap(), b"evidence of a decision");
}

struct Upstream {
    blobs: Blobs,
    has: Vec<u8>,
    asked: Mutex<Vec<Digest>>,
}

impl Mender for Upstream {
    fn mend<'a>(&'a self, digest: &'a Digest) -> Mending<'a> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(digest.clone());
            self.blobs.put_as(digest, &self.has).is_ok()
        })
    }
}

#[tokio::test]
async fn who_can_get_the_bytes_again_is_asked_and_not_believed() {
    let world = World::new().await;
    let store = &world.store;
    let (one, two) = (Image::new("one"), Image::new("two"));
    push(store, &one, &["v1"], 1).await.unwrap();
    push(store, &two, &["v2"], 1).await.unwrap();
    let (layer, other) = (Digest::of(&one.layer), Digest::of(&two.layer));
    flip(&store.blobs, &layer);
    store.blobs.remove(&other).unwrap();
    let blobs = store.blobs.clone();
    let upstream = Arc::new(Upstream { blobs, has: one.layer.clone(), asked: Mutex::default() });
    let found = Scrub::new(store.clone(), None).with_mender(upstream.clone()).pass(5).await.unwrap();
    assert_eq!((found.damaged, found.missing), (vec![layer.clone()], vec![other.clone()]));
    assert_eq!(found.mended, std::slice::from_ref(&layer));
    assert_eq!(upstream.asked.lock().unwrap().len(), 2);
    assert!(store.catalog.blob(&repository(), &layer).await.unwrap().is_some());
    assert!(store.catalog.blob(&repository(), &other).await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_catalog_does_not_know_is_set_aside_when_it_is_old_and_goes_by_a_persons_word_alone() {
    let world = World::new().await;
    let store = &world.store;
    let (image, first) = (Image::new("one"), Image::new("two"));
    // The tag may not move, so the publication is refused, but its manifest is written already.
    let fixed = store
        .clone()
        .with_immutable(&[Tags { repository: "*".parse().unwrap(), tag: "v*".parse().unwrap() }]);
    for image in [&image, &first] {
        push_blob(store, &image.layer, 1).await.unwrap();
        push_blob(store, &image.config, 1).await.unwrap();
    }
    fixed.publish(first.publication(&["v1"], 1)).await.unwrap();
    fixed.publish(image.publication(&["v1"], 1)).await.unwrap_err();
    let kept = store.blobs.put(b"kept for good").unwrap();
    assert!(store.blobs.get(image.digest()).unwrap().is_some());
    assert_eq!(pass(&world).await.strays, 0, "it may be about to be named");
    let old = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    for digest in [image.digest(), &kept, &Digest::of(&image.layer)] {
        let file = File::open(store.blobs.path(digest)).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(old)).unwrap();
    }
    assert_eq!(pass(&world).await.strays, 1);
    assert_eq!(store.blobs.get(image.digest()).unwrap(), None);
    assert!(store.blobs.get(&kept).unwrap().is_some());
    assert_eq!(pass(&world).await.damaged, []);
    let aside = world.path().join(format!("blobs/strays/sha256-{}", image.digest().hex()));
    assert_eq!(fs::read(&aside).unwrap(), image.manifest.bytes);
    let strays: Vec<_> = store.strays().await.unwrap().into_iter().map(|stray| stray.digest).collect();
    assert_eq!(strays, [image.digest().clone()]);
    assert_eq!(store.remove_strays("26h".parse().unwrap()).await.unwrap(), []);
    assert_eq!(store.remove_strays("24h".parse().unwrap()).await.unwrap().len(), 1);
    assert!(!aside.exists());
}

#[tokio::test]
async fn a_scrub_keeps_to_its_rate() {
    let world = World::new().await;
    for n in 0..6u8 {
        world.store.blobs.put(&vec![n; 50_000]).unwrap();
    }
    let start = Instant::now();
    let rate = Some("1000000".parse().unwrap());
    let found = Scrub::new(world.store.clone(), rate).pass(5).await.unwrap();
    assert_eq!((found.files, found.bytes), (6, 300_000));
    // There is no wait after the last chunk.
    assert!(start.elapsed() >= Duration::from_millis(245), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_scrub_goes_on_where_one_was_stopped() {
    let world = World::new().await;
    let mut digests: Vec<Digest> = (0..40u8).map(|n| world.store.blobs.put(&[n; 9]).unwrap()).collect();
    digests.sort();
    let seen = Mutex::new(0);
    let mut scrub = Scrub::new(world.store.clone(), None);
    let stopped = tokio::select! {
        _ = scrub.go_on(|| 5, |part| *seen.lock().unwrap() += part.files) => false,
        () = async { while *seen.lock().unwrap() < 10 { tokio::task::yield_now().await } } => true,
    };
    assert!(stopped);
    let before = *seen.lock().unwrap();
    assert!((10..40).contains(&before), "{before}");
    let mut scrub = Scrub::new(world.store.clone(), None);
    *seen.lock().unwrap() = 0;
    scrub.go_on(|| 5, |part| *seen.lock().unwrap() += part.files).await.unwrap();
    let after = *seen.lock().unwrap();
    // The folder in which the scrub was stopped is read again.
    assert!(before + after >= 40 && after < 40, "{before} and {after}");
    *seen.lock().unwrap() = 0;
    scrub.go_on(|| 5, |part| *seen.lock().unwrap() += part.files).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), 40, "from the beginning");
}
