//! Very large manifests, and how long other writers wait for them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hab_oci::{Digest, media_type};
use hab_store::{Error, Gaps, NewManifest, Publication};

use crate::harness::{World, repository, tag};

/// About as many entries as fit into 4 MiB.
const ENTRIES: usize = 30_000;

/// An index of `entries` images that do not exist. Another `seed` gives another index.
fn index(seed: usize, entries: usize) -> NewManifest {
    let mut text = String::from("{\"schemaVersion\":2,\"manifests\":[");
    for n in 0..entries {
        let comma = if n == 0 { "" } else { "," };
        let digest = Digest::of(format!("{seed} {n}").as_bytes());
        let kind = media_type::IMAGE_MANIFEST;
        write!(text, "{comma}{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":1}}").unwrap();
    }
    text.push_str("]}");
    NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes())
}

fn publication(manifest: NewManifest, gaps: Gaps) -> Publication {
    let root = manifest.digest.clone();
    let tags = vec![tag("v1")];
    Publication {
        repository: repository(),
        blobs: Vec::new(),
        manifests: vec![manifest],
        tags,
        root,
        gaps,
        at: 1,
    }
}

/// Prints its measurements: `cargo nextest run -p hab-store large --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_while_large_indexes_are_published_waits_for_one_of_them_at_most() {
    let world = World::new().await;
    let alone = Instant::now();
    world.store.publish(publication(index(0, ENTRIES), Gaps::Indexes)).await.unwrap();
    let alone = alone.elapsed();
    let all = Instant::now();
    let large: Vec<_> = (1..=8)
        .map(|seed| {
            let store = world.store.clone();
            tokio::spawn(async move { store.publish(publication(index(seed, ENTRIES), Gaps::Indexes)).await })
        })
        .collect();
    let mut waits = Vec::new();
    while large.iter().any(|one| !one.is_finished()) {
        let begun = Instant::now();
        let digest = Digest::of(b"small");
        world.store.catalog.link_blob(&repository(), &digest, 5, 1).await.unwrap();
        waits.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for one in large {
        one.await.unwrap().unwrap();
    }
    let longest = waits.iter().max().unwrap();
    let (all, count) = (all.elapsed(), waits.len());
    println!("one index: {alone:?}; eight: {all:?}; the longest of {count} others: {longest:?}");
    assert!(*longest < alone * 4, "one index takes {alone:?}, and somebody else waited {longest:?}");
}

#[tokio::test]
async fn an_index_of_many_entries_is_recorded_whole_and_judged_entry_by_entry() {
    let world = World::new().await;
    let (store, here) = (&world.store, index(1, 3));
    store.publish(publication(here.clone(), Gaps::Indexes)).await.unwrap();
    // More entries than fit into one statement, some of them twice, one of them stored here.
    let mut text = String::from_utf8(index(2, 1234).bytes).unwrap();
    let entry = |size: usize| {
        let (kind, digest) = (media_type::IMAGE_INDEX, &here.digest);
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    };
    text.truncate(text.len() - 2);
    let with = |size: usize| {
        let text = format!("{text},{0},{0}]}}", entry(size));
        NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes())
    };
    let good = with(here.bytes.len());
    store.publish(publication(good.clone(), Gaps::Indexes)).await.unwrap();
    let sql = world.sql().await;
    let edges: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM edges WHERE manifest = $1 AND kind = 'manifest'")
            .bind(good.digest.to_string())
            .fetch_one(&sql)
            .await
            .unwrap();
    assert_eq!(edges, 1235);
    assert_eq!(store.catalog.listed_by(&repository(), &here.digest, 9).await.unwrap(), [good.digest]);
    let refused = store.publish(publication(with(here.bytes.len() + 1), Gaps::Indexes)).await;
    assert!(matches!(refused, Err(Error::WrongSize { digest, .. }) if digest == here.digest));
    let refused = store.publish(publication(index(3, 600), Gaps::None)).await;
    assert!(matches!(refused, Err(Error::Missing { .. })));
}
