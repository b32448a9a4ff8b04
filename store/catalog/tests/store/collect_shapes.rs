//! Collections over graphs of unusual shapes.

use hab_store::Collected;

use crate::collect::{index, push, push_manifest, rules};
use crate::harness::{Image, World, repository, tag};

#[tokio::test]
async fn a_thousand_indexes_within_each_other_go_from_the_outermost() {
    let world = World::new().await;
    let store = &world.store;
    let image = Image::new("core");
    push(store, &image, &[], 1).await.unwrap();
    let mut inner = image.manifest.clone();
    for _ in 0..1_000 {
        let outer = index(&[&inner]);
        push_manifest(store, outer.clone(), &[], 1).await.unwrap();
        inner = outer;
    }
    push_manifest(store, inner.clone(), &["deep"], 1).await.unwrap();
    assert_eq!(store.collect(&rules(), 5_000).await.unwrap(), Collected::default());
    store.catalog.delete_tag(&repository(), &tag("deep"), 5_000).await.unwrap();
    let start = std::time::Instant::now();
    assert_eq!(store.collect(&rules(), 9_000).await.unwrap().manifests, 1_001);
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

/// Hashes make cycles impossible, but rows of a catalog may have them, and a collection must still end.
#[tokio::test]
async fn cycles_of_subjects_and_of_indexes_end() {
    let world = World::new().await;
    let store = &world.store;
    let images: Vec<_> = (0..4).map(|n| Image::new(&n.to_string())).collect();
    for image in &images {
        push(store, image, &[], 1).await.unwrap();
    }
    let pool = world.sql().await;
    for (from, kind, to) in [(0, "subject", 1), (1, "subject", 0), (2, "manifest", 3), (3, "manifest", 2)] {
        sqlx::query(
            "INSERT INTO edges (repository, manifest, kind, child) VALUES ('hab/bitcoin', $1, $2, $3)",
        )
        .bind(images[from].digest().to_string())
        .bind(kind)
        .bind(images[to].digest().to_string())
        .execute(&pool)
        .await
        .unwrap();
    }
    store.publish(images[0].publication(&["v1"], 1)).await.unwrap();
    let collected = store.collect(&rules(), 5_000).await.unwrap();
    assert_eq!(collected.manifests, 2, "the subjects' cycle has a tag, the indexes' one has none");
    store.catalog.delete_tag(&repository(), &tag("v1"), 5_000).await.unwrap();
    assert_eq!(store.collect(&rules(), 9_000).await.unwrap().manifests, 2);
}

/// 20,000 manifests in one repository: images, every second one also in an index, every fourth one tagged.
#[tokio::test]
async fn a_large_repository_takes_time_in_its_size_and_no_more() {
    let world = World::new().await;
    let pool = world.sql().await;
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)";
    let digest = |kind: char, i: &str| format!("'sha256:{kind}' || printf('%063x', {i})");
    let (manifest, layer) = (digest('0', "i"), digest('1', "i"));
    for sql in [
        "INSERT INTO repositories VALUES ('hab/bitcoin', 1)".to_owned(),
        format!("{numbers} INSERT INTO blobs (digest, size, created) SELECT {manifest}, 1, 1 FROM n"),
        format!("{numbers} INSERT INTO blobs (digest, size, created) SELECT {layer}, 1, 1 FROM n"),
        format!("{numbers} INSERT INTO repository_blobs SELECT 'hab/bitcoin', {layer}, 1 FROM n"),
        format!(
            "{numbers} INSERT INTO manifests (repository, digest, media_type, size, annotations, created)
             SELECT 'hab/bitcoin', {manifest}, 'm/t', 1, '{{}}', 1 FROM n"
        ),
        format!("{numbers} INSERT INTO edges SELECT 'hab/bitcoin', {manifest}, 'layer', {layer} FROM n"),
        format!(
            "{numbers} INSERT INTO edges SELECT 'hab/bitcoin', {manifest}, 'manifest', {} FROM n WHERE i % 2 = 1",
            digest('0', "i - 1")
        ),
        format!(
            "{numbers} INSERT INTO tags SELECT 'hab/bitcoin', 't' || i, {manifest}, 1 FROM n WHERE i % 4 = 1"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    let start = std::time::Instant::now();
    let would = world.store.would_collect(&rules(), 5_000).await.unwrap();
    assert_eq!((would.manifests, would.blobs), (10_000, 0), "there are no files to remove");
    assert_eq!(world.store.collect(&rules(), 5_000).await.unwrap(), would);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM blobs").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 20_000);
}
