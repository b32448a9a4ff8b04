//! Pushers, a collector and a scrub over one folder, all killed at once, again and again. Everything acknowledged
//! exists, and everything that exists is whole.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hab_oci::{Descriptor, Digest, Outline, TagOrDigest, media_type};
use hab_store::{Collection, Error, NewManifest, Publication, Scrub, Store};

use crate::harness::{Image, json, repository, tag};
use crate::processes::{say_ready, start_talking};

/// A collection without grace, which removes everything that nothing holds at that moment.
fn no_grace() -> Collection {
    Collection { grace: "0s".parse().unwrap(), retain: Vec::new() }
}

/// The work of a child, until it is killed.
pub async fn work(task: &str, folder: &Path) {
    let store = Store::open(folder).await.unwrap();
    for round in 0_u64.. {
        match task {
            "push" => push(&store, round).await,
            "collect" => drop(store.collect(&no_grace(), 1_000_000).await.unwrap()),
            _ => {
                let found = Scrub::new(store.clone(), None).pass(1).await.unwrap();
                assert!(found.damaged.is_empty() && found.missing.is_empty(), "{found:?}");
            }
        }
        if round == 0 {
            say_ready();
        }
    }
}

/// Pushes one blob by an upload and one in one piece, then an image and an index over it, and prints each
/// acknowledgement. Pushers share layers, which come and go.
async fn push(store: &Store, round: u64) {
    let image = Image::new(&format!("{}", round % 5));
    let name = format!("t{}-{}", std::process::id(), round % 7);
    // Printed before the push: from now on the tag may be at the old place or the new one.
    say(&format!("moves {name}"));
    let child = json(&Descriptor::of(media_type::IMAGE_MANIFEST, &image.manifest.bytes));
    let text = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{child}],\"annotations\":{{\"r\":\"{name}-{round}\"}}}}"
    );
    let index = NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes());
    let publication = Publication {
        gaps: hab_store::Gaps::None,
        repository: repository(),
        blobs: Vec::new(),
        manifests: vec![image.manifest.clone(), index.clone()],
        tags: vec![tag(&name)],
        root: index.digest.clone(),
        at: 0,
    };
    loop {
        upload(store, &image.layer).await;
        crate::collect::push_blob(store, &image.config, 0).await.unwrap();
        match store.publish(publication.clone()).await {
            Ok(()) => break,
            // A collection removed a blob in between, and the pusher was told so: it begins again.
            Err(Error::Missing { .. }) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
    say(&format!("at {name} {}", index.digest));
    if round.is_multiple_of(3) {
        say(&format!("moves {name}"));
        store.catalog.delete_tag(&repository(), &tag(&name), 0).await.unwrap();
    }
}

async fn upload(store: &Store, bytes: &[u8]) {
    let id = store.blobs.begin_upload().unwrap();
    store.catalog.add_upload(&id, &repository(), 0).await.unwrap();
    for chunk in bytes.chunks(400) {
        store.blobs.upload(&id).unwrap().add(chunk).unwrap();
    }
    let upload = store.blobs.upload(&id).unwrap();
    store.finish_upload(&id, upload, &repository(), &Digest::of(bytes), 0).await.unwrap();
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Updates the known places of tags from a child's lines.
fn acknowledged(lines: impl Iterator<Item = String>, places: &mut BTreeMap<String, Digest>) {
    for line in lines {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["moves", name] => drop(places.remove(*name)),
            ["at", name, digest] => drop(places.insert((*name).to_owned(), digest.parse().unwrap())),
            _ => {}
        }
    }
}

#[tokio::test]
async fn whenever_all_are_killed_nothing_acknowledged_is_lost_and_nothing_partial_is_there() {
    let rounds = std::env::var("HAB_STORE_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let folder = tempfile::tempdir().unwrap();
    let mut places = BTreeMap::new();
    let mut pushed = 0;
    for round in 0..rounds {
        let mut children = Vec::new();
        for task in ["push", "push", "collect", "scrub"] {
            children.push(start_talking(task, folder.path()));
        }
        tokio::time::sleep(Duration::from_millis(20 + 37 * (round % 11))).await;
        for (child, _) in &mut children {
            assert_eq!(child.try_wait().unwrap(), None, "a child ended by itself");
            child.kill().unwrap();
        }
        for (mut child, lines) in children {
            child.wait().unwrap();
            // The kill may cut the last line; it then has no newline and does not count.
            acknowledged(lines.map_while(Result::ok), &mut places);
        }
        pushed += places.len();
        let store = Store::open(folder.path()).await.unwrap();
        for (name, digest) in &places {
            let reference = TagOrDigest::Tag(tag(name));
            let found = store.catalog.manifest(&repository(), &reference).await.unwrap();
            assert_eq!(found.map(|found| found.digest).as_ref(), Some(digest), "{name} after kill {round}");
        }
        all_is_whole(&store, folder.path()).await;
        // Half-done work of the killed processes does not hinder the next ones.
        store.expire_uploads(1).await.unwrap();
        store.collect(&no_grace(), 1_000_000).await.unwrap();
        all_is_whole(&store, folder.path()).await;
        let found = Scrub::new(store.clone(), None).pass(1).await.unwrap();
        assert!(found.damaged.is_empty() && found.missing.is_empty(), "{found:?}");
        store.catalog.close().await;
    }
    assert!(pushed > 0, "nothing was ever acknowledged");
}

/// Asserts that every manifest that can be pulled has all its parts, and that all of them match their digests.
async fn all_is_whole(store: &Store, folder: &Path) {
    let url = format!("sqlite:{}", folder.join("catalog.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let rows: Vec<(String,)> = sqlx::query_as("SELECT digest FROM manifests").fetch_all(&pool).await.unwrap();
    pool.close().await;
    for (text,) in rows {
        let reference = TagOrDigest::Digest(text.parse().unwrap());
        let found = store.catalog.manifest(&repository(), &reference).await.unwrap().unwrap();
        let bytes = store.blobs.read(&found.digest, 1 << 30).unwrap().unwrap();
        for edge in Outline::read(&found.media_type, &bytes).unwrap().edges {
            assert!(
                store.blobs.read(&edge.digest, 1 << 30).unwrap().is_some(),
                "{text} lacks {}",
                edge.digest
            );
        }
    }
}

/// Uses a file system of 2 MiB, which only root may mount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_pushes_in_a_sentence_and_loses_nothing() {
    struct Mount<'a>(&'a Path);
    impl Mount<'_> {
        fn size(&self, options: &str) -> bool {
            let mount = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "hab-store-full"])
                .arg(self.0)
                .output();
            mount.is_ok_and(|output| output.status.success())
        }
    }
    impl Drop for Mount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0).status();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = Mount(folder.path());
    if !mount.size("size=2m") {
        return hab_skip::skip(hab_skip::Lack::Mount, "a small file system to fill");
    }
    let store = Store::open(folder.path()).await.unwrap();
    let mut acknowledged = Vec::new();
    let full = loop {
        let image = Image::new(&format!("{} of many", acknowledged.len()));
        match crate::collect::push(&store, &image, &[&format!("t{}", acknowledged.len())], 1).await {
            Ok(()) => acknowledged.push(image),
            Err(e) => break e,
        }
        assert!(acknowledged.len() < 10_000);
    };
    assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
    assert!(full.to_string().contains("free some space"), "{full}");
    assert!(acknowledged.len() > 3);
    // A collection on a full disk removes something, or fails with the same clear error.
    match store.collect(&no_grace(), 1_000_000).await {
        Ok(_) | Err(Error::NoSpace { .. }) => {}
        Err(e) => panic!("{e:?}"),
    }
    all_is_whole(&store, folder.path()).await;
    assert!(mount.size("remount,size=16m"));
    for (n, image) in acknowledged.iter().enumerate() {
        let reference = TagOrDigest::Tag(tag(&format!("t{n}")));
        let found = store.catalog.manifest(&repository(), &reference).await.unwrap().unwrap();
        assert_eq!(&found.digest, image.digest());
    }
    all_is_whole(&store, folder.path()).await;
    let next = Image::new("there is room again");
    crate::collect::push(&store, &next, &["next"], 1).await.unwrap();
    store.collect(&no_grace(), 1_000_000).await.unwrap();
    all_is_whole(&store, folder.path()).await;
    store.catalog.close().await;
}
