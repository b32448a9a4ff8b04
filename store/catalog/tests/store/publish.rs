use hab_oci::{Descriptor, Digest, TagOrDigest, media_type};
use hab_store::{Error, NewManifest, Store};

use crate::harness::{Image, World, by_tag, json, repository, tag};

#[tokio::test]
async fn what_was_published_is_found_by_tag_and_by_digest() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    world.store.publish(image.publication(&["v1", "latest"], 5)).await.unwrap();
    let catalog = &world.store.catalog;
    let by_digest = TagOrDigest::Digest(image.digest().clone());
    for reference in [by_tag("v1"), by_tag("latest"), by_digest] {
        let found = catalog.manifest(&repository(), &reference).await.unwrap().unwrap();
        assert_eq!(&found.digest, image.digest());
        assert_eq!(found.media_type, media_type::IMAGE_MANIFEST);
        assert_eq!(found.size, image.manifest.bytes.len() as u64);
    }
    assert_eq!(world.store.blobs.read(image.digest(), 1 << 30).unwrap().unwrap(), image.manifest.bytes);
    let layer = Digest::of(&image.layer);
    assert_eq!(catalog.blob(&repository(), &layer).await.unwrap(), Some(image.layer.len() as u64));
}

#[tokio::test]
async fn a_missing_blob_is_named_and_nothing_is_published() {
    let world = World::new().await;
    let image = Image::new("one");
    let layer = Digest::of(&image.layer);
    world.store.blobs.put(&image.config).unwrap();
    let listed = world.store.publish(image.publication(&["v1"], 5)).await.unwrap_err();
    assert!(matches!(&listed, Error::NotStored { digest, .. } if *digest == layer), "{listed:?}");

    let mut unlisted = image.publication(&["v1"], 5);
    unlisted.blobs.truncate(1);
    let error = world.store.publish(unlisted).await.unwrap_err();
    assert!(matches!(&error, Error::Missing { digest, .. } if *digest == layer), "{error:?}");
    assert!(error.to_string().contains(layer.hex()));
    assert_eq!(world.store.catalog.manifest(&repository(), &by_tag("v1")).await.unwrap(), None);
    assert!(!world.store.catalog.has_repository(&repository()).await.unwrap());
}

#[tokio::test]
async fn a_descriptor_that_lies_about_a_size_is_refused() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    let mut publication = image.publication(&["v1"], 5);
    publication.blobs[1].size += 1;
    assert!(matches!(world.store.publish(publication).await, Err(Error::WrongSize { .. })));
    let size = format!("\"size\":{}", image.layer.len());
    let lie = String::from_utf8(image.manifest.bytes.clone()).unwrap().replace(&size, "\"size\":7");
    let mut publication = image.publication(&["v1"], 5);
    publication.manifests = vec![NewManifest::new(media_type::IMAGE_MANIFEST, lie.into_bytes())];
    publication.root = publication.manifests[0].digest.clone();
    assert!(matches!(world.store.publish(publication).await, Err(Error::WrongSize { .. })));
}

#[tokio::test]
async fn a_manifest_of_another_digest_or_shape_is_refused() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    let mut flipped = image.publication(&["v1"], 5);
    flipped.manifests[0].bytes[20] ^= 1;
    assert!(matches!(world.store.publish(flipped).await, Err(Error::WrongDigest { .. })));
    let mut html = image.publication(&["v1"], 5);
    html.manifests = vec![NewManifest::new(media_type::IMAGE_MANIFEST, b"<html>".to_vec())];
    html.root = html.manifests[0].digest.clone();
    assert!(matches!(world.store.publish(html).await, Err(Error::Manifest { .. })));
    let mut rootless = image.publication(&["v1"], 5);
    rootless.root = Digest::of(b"other");
    assert!(matches!(world.store.publish(rootless).await, Err(Error::NoRoot(_))));
}

#[tokio::test]
async fn an_index_and_its_images_are_published_together_in_any_order() {
    let world = World::new().await;
    let (one, two) = (Image::new("one"), Image::new("two"));
    one.write_blobs(&world.store.blobs);
    two.write_blobs(&world.store.blobs);
    let child = |i: &Image| json(&Descriptor::of(media_type::IMAGE_MANIFEST, &i.manifest.bytes));
    let text = format!("{{\"schemaVersion\":2,\"manifests\":[{},{}]}}", child(&one), child(&two));
    let index = NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes());
    let mut publication = one.publication(&["v1"], 5);
    publication.blobs.extend(two.publication(&[], 5).blobs);
    publication.root = index.digest.clone();
    publication.manifests = vec![index.clone(), one.manifest.clone()];
    let missing = world.store.publish(publication.clone()).await.unwrap_err();
    assert!(matches!(&missing, Error::Missing { digest, .. } if digest == two.digest()), "{missing:?}");
    publication.manifests.push(two.manifest.clone());
    world.store.publish(publication).await.unwrap();
    let found = world.store.catalog.manifest(&repository(), &by_tag("v1")).await.unwrap().unwrap();
    assert_eq!(found.digest, index.digest);
}

#[tokio::test]
async fn a_referrer_is_found_from_its_subject_which_need_not_exist() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    let absent = Descriptor::of(media_type::IMAGE_MANIFEST, b"not here");
    let text = String::from_utf8(image.manifest.bytes.clone()).unwrap();
    let extra =
        format!(",\"subject\":{},\"artifactType\":\"a/b\",\"annotations\":{{\"k\":\"v\"}}}}", json(&absent));
    let text = format!("{}{extra}", text.strip_suffix('}').unwrap());
    let mut publication = image.publication(&[], 5);
    publication.manifests = vec![NewManifest::new(media_type::IMAGE_MANIFEST, text.into_bytes())];
    publication.root = publication.manifests[0].digest.clone();
    world.store.publish(publication.clone()).await.unwrap();
    let referrers = world.store.catalog.referrers(&repository(), &absent.digest).await.unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0].manifest.digest, publication.root);
    assert_eq!(referrers[0].artifact_type.as_deref(), Some("a/b"));
    assert_eq!(referrers[0].annotations["k"], "v");
}

#[tokio::test]
async fn a_tag_moves_at_once_and_keeps_its_past() {
    let world = World::new().await;
    let (one, two) = (Image::new("one"), Image::new("two"));
    for image in [&one, &two] {
        image.write_blobs(&world.store.blobs);
    }
    world.store.publish(one.publication(&["v1"], 1)).await.unwrap();
    world.store.publish(one.publication(&["v1"], 2)).await.unwrap();
    world.store.publish(two.publication(&["v1"], 3)).await.unwrap();
    // The same second again: the history's order does not depend on the clock.
    world.store.publish(one.publication(&["v1"], 3)).await.unwrap();
    let history = world.store.catalog.tag_history(&repository(), &tag("v1")).await.unwrap();
    let moves: Vec<_> = history.iter().map(|m| (m.digest.as_ref().unwrap(), m.at)).collect();
    assert_eq!(moves, [(one.digest(), 1), (two.digest(), 3), (one.digest(), 3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_a_tag_at_one_place_or_the_other_while_it_moves() {
    let world = World::new().await;
    let images = [Image::new("one"), Image::new("two")];
    for image in &images {
        image.write_blobs(&world.store.blobs);
    }
    world.store.publish(images[0].publication(&["v1"], 0)).await.unwrap();
    let other = Store::open(world.path()).await.unwrap();
    let writer = tokio::spawn({
        let publications: Vec<_> = (1..30).map(|i| images[i % 2].publication(&["v1"], 0)).collect();
        async move {
            for publication in publications {
                other.publish(publication).await.unwrap();
            }
        }
    });
    while !writer.is_finished() {
        let found = world.store.catalog.manifest(&repository(), &by_tag("v1")).await.unwrap().unwrap();
        assert!(images.iter().any(|i| *i.digest() == found.digest));
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_folder_see_each_others_work() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = tokio::join!(Store::open(folder.path()), Store::open(folder.path()));
    let (one, two) = (one.unwrap(), two.unwrap());
    let (left, right) = tokio::join!(many(&one, "left"), many(&two, "right"));
    for (seen_by, names) in [(&one, right), (&two, left)] {
        for name in names {
            assert!(seen_by.catalog.manifest(&repository(), &by_tag(&name)).await.unwrap().is_some());
        }
    }
    assert_eq!(one.catalog.tags(&repository(), None, 100).await.unwrap().len(), 20);
}

async fn many(store: &Store, prefix: &str) -> Vec<String> {
    let names: Vec<_> = (0..10).map(|i| format!("{prefix}{i}")).collect();
    for name in &names {
        let image = Image::new(name);
        image.write_blobs(&store.blobs);
        store.publish(image.publication(&[name], 1)).await.unwrap();
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gives_up_half_way_does_not_hold_up_the_next() {
    let world = World::new().await;
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    for patience in 0..60 {
        let publication = image.publication(&[&format!("t{patience}")], 1);
        let limit = std::time::Duration::from_micros(patience * 200);
        let _ = tokio::time::timeout(limit, world.store.publish(publication)).await;
    }
    world.store.publish(image.publication(&["last"], 2)).await.unwrap();
    for name in world.store.catalog.tags(&repository(), None, 100).await.unwrap() {
        let history = world.store.catalog.tag_history(&repository(), &name).await.unwrap();
        assert_eq!(history.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn the_version_tells_of_every_commit_of_anybody_and_of_nothing_else() {
    let world = World::new().await;
    let other = Store::open(world.path()).await.unwrap();
    let image = Image::new("one");
    image.write_blobs(&world.store.blobs);
    let mut last = world.store.catalog.version().await.unwrap();
    for (n, by) in [&world.store, &other, &other, &world.store].into_iter().enumerate() {
        assert_eq!(world.store.catalog.version().await.unwrap(), last);
        by.catalog.has_repository(&repository()).await.unwrap();
        assert_eq!(world.store.catalog.version().await.unwrap(), last);
        by.publish(image.publication(&[&format!("v{n}")], 5)).await.unwrap();
        let now = world.store.catalog.version().await.unwrap();
        assert!(now > last);
        last = now;
    }
}
