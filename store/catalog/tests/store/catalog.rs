use hab_oci::Digest;
use hab_store::{Error, Pulls, Rebuild, Store};

use crate::harness::{Image, World, by_tag, repository, tag};

#[tokio::test]
async fn a_plan_is_answered_with_its_recorded_result() {
    let world = World::new().await;
    let plan = Digest::of(b"plan");
    assert_eq!(world.store.catalog.build(&plan).await.unwrap(), None);
    world.store.catalog.record_build(&plan, "{\"ok\":1}", 10, 20).await.unwrap();
    world.store.catalog.record_build(&plan, "{\"ok\":2}", 30, 40).await.unwrap();
    assert_eq!(world.store.catalog.build(&plan).await.unwrap().as_deref(), Some("{\"ok\":2}"));
}

#[tokio::test]
async fn a_name_keeps_everything_that_it_ever_was() {
    let world = World::new().await;
    let catalog = &world.store.catalog;
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    for (digest, at, news) in [(&a, 1, true), (&a, 2, false), (&b, 3, true), (&a, 4, true)] {
        assert_eq!(catalog.remember("crate", "x-1.0", digest, 9, at).await.unwrap(), news, "at {at}");
    }
    assert_eq!(catalog.latest("crate", "x-1.0").await.unwrap(), Some(a.clone()));
    assert_eq!(catalog.latest("archive", "x-1.0").await.unwrap(), None);
    let history = catalog.history("crate", "x-1.0").await.unwrap();
    let facts: Vec<_> = history.iter().map(|f| (&f.digest, f.first_seen)).collect();
    assert_eq!(facts, [(&a, 1), (&b, 3), (&a, 4)]);
}

#[tokio::test]
async fn a_name_that_was_withdrawn_stands_for_nothing_until_it_is_said_anew() {
    let World { folder, store } = World::new().await;
    let catalog = &store.catalog;
    let a = Digest::of(b"a");
    catalog.withdraw("tag", "v1", 1).await.unwrap();
    assert!(catalog.remember("tag", "v1", &a, 0, 2).await.unwrap());
    catalog.withdraw("tag", "v1", 3).await.unwrap();
    catalog.withdraw("tag", "v1", 4).await.unwrap();
    assert_eq!(catalog.latest("tag", "v1").await.unwrap(), None);
    assert_eq!(catalog.names("tag").await.unwrap(), []);
    // A catalog that is rebuilt from the journal has the same facts.
    catalog.close().await;
    drop(store);
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("catalog.sqlite") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    Rebuild::default().run(folder.path()).await.unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.catalog.latest("tag", "v1").await.unwrap(), None);
    assert!(store.catalog.remember("tag", "v1", &a, 0, 5).await.unwrap(), "it is news again");
    assert_eq!(store.catalog.latest("tag", "v1").await.unwrap(), Some(a.clone()));
    let seen: Vec<_> =
        store.catalog.history("tag", "v1").await.unwrap().iter().map(|f| f.first_seen).collect();
    assert_eq!(seen, [2, 5]);
}

#[tokio::test]
async fn a_blob_belongs_only_to_the_repositories_that_it_was_given_to() {
    let world = World::new().await;
    let catalog = &world.store.catalog;
    let digest = world.store.blobs.put(b"abc").unwrap();
    let (here, there) = (repository(), "other".parse().unwrap());
    assert_eq!(catalog.blob(&here, &digest).await.unwrap(), None);
    catalog.link_blob(&here, &digest, 3, 1).await.unwrap();
    assert_eq!(catalog.blob(&here, &digest).await.unwrap(), Some(3));
    assert_eq!(catalog.blob(&there, &digest).await.unwrap(), None);
    assert!(!catalog.mount_blob(&there, &here, &digest, 2).await.unwrap());
    assert!(!catalog.has_repository(&there).await.unwrap(), "a failed mount makes no repository");
    assert!(catalog.mount_blob(&here, &there, &digest, 2).await.unwrap());
    assert_eq!(catalog.blob(&there, &digest).await.unwrap(), Some(3));
    assert!(catalog.unlink_blob(&here, &digest).await.unwrap());
    assert_eq!(catalog.blob(&here, &digest).await.unwrap(), None);
    assert_eq!(catalog.blob(&there, &digest).await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_blob_of_a_manifest_cannot_be_taken_out_before_the_manifest() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    world.store.publish(image.publication(&["v1"], 5)).await.unwrap();
    let layer = Digest::of(&image.layer);
    let refused = world.store.catalog.unlink_blob(&repository(), &layer).await;
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    assert!(world.store.catalog.delete_manifest(&repository(), image.digest(), 6).await.unwrap());
    assert!(world.store.catalog.unlink_blob(&repository(), &layer).await.unwrap());
    assert_eq!(world.store.catalog.manifest(&repository(), &by_tag("v1")).await.unwrap(), None);
    let history = world.store.catalog.tag_history(&repository(), &tag("v1")).await.unwrap();
    assert_eq!(
        history.iter().map(|m| (m.digest.is_some(), m.at)).collect::<Vec<_>>(),
        [(true, 5), (false, 6)]
    );
}

#[tokio::test]
async fn names_are_listed_by_what_they_begin_with_as_they_were_seen_last() {
    let world = World::new().await;
    let catalog = &world.store.catalog;
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    for name in ["ab 1", "abc 1", "abc 2", "abc-d 1", "abcd 1", "ABC 1"] {
        assert!(catalog.remember("line", name, &a, 1, 1).await.unwrap());
    }
    assert!(catalog.remember("other", "abc 3", &a, 1, 1).await.unwrap());
    assert!(catalog.remember("line", "abc 1", &b, 2, 2).await.unwrap());
    let found = catalog.names_below("line", "abc ").await.unwrap();
    let found: Vec<_> = found.iter().map(|(name, fact)| (name.as_str(), &fact.digest, fact.size)).collect();
    assert_eq!(found, [("abc 1", &b, 2), ("abc 2", &a, 1)]);
    assert_eq!(catalog.names("line").await.unwrap().len(), 6);
}

#[tokio::test]
async fn tags_come_in_byte_order_and_in_pages() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    world.store.publish(image.publication(&["b", "a", "C", "v10", "v9"], 1)).await.unwrap();
    let names = |tags: Vec<hab_oci::Tag>| tags.iter().map(ToString::to_string).collect::<Vec<_>>();
    let catalog = &world.store.catalog;
    assert_eq!(names(catalog.tags(&repository(), None, 9).await.unwrap()), ["C", "a", "b", "v10", "v9"]);
    assert_eq!(names(catalog.tags(&repository(), Some("a"), 2).await.unwrap()), ["b", "v10"]);
    assert!(catalog.delete_tag(&repository(), &tag("a"), 2).await.unwrap());
    assert!(!catalog.delete_tag(&repository(), &tag("a"), 3).await.unwrap());
    assert!(catalog.manifest(&repository(), &by_tag("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_catalog_of_a_later_version_is_refused_with_a_sentence() {
    let world = World::new().await;
    let file = world.path().join("catalog.sqlite");
    world.store.catalog.close().await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9000, 'later', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = Store::open(world.path()).await.unwrap_err();
    assert!(matches!(error, Error::Newer { found: 9000, .. }), "{error:?}");
    assert!(error.to_string().contains("use that version, or another data folder"));
}

#[tokio::test]
async fn a_file_that_is_no_catalog_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.sqlite");
    std::fs::write(&file, "not a database, and long enough to be looked at as one".repeat(40)).unwrap();
    let error = Store::open(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("catalog.sqlite is damaged"), "{error}");
    assert!(error.hint().unwrap().contains("hab-build store rebuild"), "{error:?}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("not a database"));
}

#[tokio::test]
async fn of_the_pulls_of_one_manifest_one_an_hour_is_recorded() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    world.store.publish(image.publication(&["v1"], 1)).await.unwrap();
    let catalog = &world.store.catalog;
    let pulls = Pulls::default();
    for (at, recorded) in [(5_000, 5_000), (6_000, 5_000), (8_599, 5_000), (8_600, 8_600), (4_000, 8_600)] {
        pulls.saw(&repository(), image.digest(), at);
        pulls.saw(&repository(), &Digest::of(b"gone meanwhile"), at);
        pulls.record(catalog).await.unwrap();
        let rows = catalog.tag_rows(&repository()).await.unwrap();
        assert_eq!(rows[0].pulled, Some(recorded), "at {at}");
    }
}

#[tokio::test]
async fn pulls_that_could_not_be_recorded_are_recorded_later() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    world.store.publish(image.publication(&["v1"], 1)).await.unwrap();
    let pulls = Pulls::default();
    pulls.saw(&repository(), image.digest(), 9);
    world.store.catalog.close().await;
    pulls.record(&world.store.catalog).await.unwrap_err();
    let again = Store::open(world.path()).await.unwrap();
    pulls.record(&again.catalog).await.unwrap();
    assert_eq!(again.catalog.tag_rows(&repository()).await.unwrap()[0].pulled, Some(9));
}

#[tokio::test]
async fn a_catalog_of_the_first_schema_is_brought_to_this_one_with_all_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("catalog.sqlite"))
        .create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let mut first = sqlx::migrate!("./migrations");
    first.migrations.to_mut().retain(|migration| migration.version == 1);
    first.run(&pool).await.unwrap();
    let digest = Digest::of(b"abc");
    sqlx::query("INSERT INTO repositories VALUES ('hab/bitcoin', 1)").execute(&pool).await.unwrap();
    for sql in [
        "INSERT INTO blobs VALUES ($1, 3, NULL, 1)",
        "INSERT INTO repository_blobs VALUES ('hab/bitcoin', $1, 1)",
        "INSERT INTO manifests VALUES ('hab/bitcoin', $1, 'm/t', 3, NULL, NULL, NULL, '{}', 1)",
        "INSERT INTO tags VALUES ('hab/bitcoin', 'v1', $1, 1)",
    ] {
        sqlx::query(sql).bind(digest.to_string()).execute(&pool).await.unwrap();
    }
    pool.close().await;
    hab_store::Blobs::open(folder.path()).unwrap().put(b"abc").unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.catalog.blob(&repository(), &digest).await.unwrap(), Some(3));
    let rows = store.catalog.tag_rows(&repository()).await.unwrap();
    assert_eq!((&rows[0].digest, rows[0].pulled), (&digest, None));
}
