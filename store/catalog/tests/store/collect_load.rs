//! Pushes and deletions beside a collection.

use hab_oci::Digest;
use hab_store::{Error, Store};

use crate::harness::{Image, tag};

/// Collects without grace, again and again: everything that nothing holds at that moment is removed.
async fn collect_until_done(store: &Store, done: impl Fn() -> bool) -> u64 {
    let rules = hab_store::Collection { grace: "0s".parse().unwrap(), retain: Vec::new() };
    let mut bytes = 0;
    while !done() {
        bytes += store.collect(&rules, 1_000_000).await.unwrap().bytes;
        tokio::task::yield_now().await;
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_acknowledged_while_a_collection_runs_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut pushers = Vec::new();
    for pusher in 0..4 {
        // A handle of its own, as in another process. Pushers share layers and have their own tags.
        let store = Store::open(folder.path()).await.unwrap();
        pushers.push(tokio::spawn(async move { push_and_delete(&store, pusher).await }));
    }
    let collected =
        collect_until_done(&store, || pushers.iter().all(tokio::task::JoinHandle::is_finished)).await;
    let mut told = 0;
    for pusher in pushers {
        told += pusher.await.unwrap();
    }
    assert!(collected > 0, "nothing was collected at all");
    println!("{collected} bytes collected, {told} pushes told that something is missing");
}

/// Returns how many pushes had to begin again.
async fn push_and_delete(store: &Store, pusher: usize) -> usize {
    let mut told = 0;
    for round in 0..40 {
        let image = Image::new(&format!("{}", round % 3));
        let own = format!("p{pusher}");
        loop {
            match crate::collect::push(store, &image, &[&own], 0).await {
                Ok(()) => break,
                Err(Error::Missing { .. }) => told += 1,
                Err(e) => panic!("{e:?}"),
            }
        }
        let found =
            store.catalog.manifest(&crate::harness::repository(), &crate::harness::by_tag(&own)).await;
        let found = found.unwrap().unwrap();
        assert_eq!(&found.digest, image.digest());
        assert_eq!(store.blobs.read(&found.digest, 1 << 30).unwrap().unwrap(), image.manifest.bytes);
        for bytes in [&image.config, &image.layer] {
            let digest = Digest::of(bytes);
            let member = store.catalog.blob(&crate::harness::repository(), &digest).await.unwrap();
            assert_eq!(member, Some(bytes.len() as u64));
            assert_eq!(&store.blobs.read(&digest, 1 << 30).unwrap().unwrap(), bytes);
        }
        if round % 2 == 0 {
            store.catalog.delete_tag(&crate::harness::repository(), &tag(&own), 0).await.unwrap();
        }
    }
    told
}
