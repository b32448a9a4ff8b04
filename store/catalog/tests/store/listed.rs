//! Content that an index lists, of any type, stays like all other named content.

use hab_oci::{Descriptor, Digest, media_type};
use hab_store::{Error, Gaps, NewManifest, Publication, Store};

use crate::collect::{GRACE, has, push, push_blob, rules};
use crate::harness::{Image, World, json, repository, tag};

const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// An index of these contents, each with a media type.
fn index(members: &[(&str, &[u8])]) -> NewManifest {
    let members: Vec<String> =
        members.iter().map(|(kind, bytes)| json(&Descriptor::of(kind, bytes))).collect();
    let text = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", members.join(","));
    NewManifest::new(media_type::IMAGE_INDEX, text.into_bytes())
}

async fn publish(store: &Store, manifest: &NewManifest, gaps: Gaps) -> hab_store::Result<()> {
    let publication = Publication {
        repository: repository(),
        blobs: Vec::new(),
        manifests: vec![manifest.clone()],
        tags: vec![tag("cache")],
        root: manifest.digest.clone(),
        gaps,
        at: 1,
    };
    store.publish(publication).await
}

async fn holds(store: &Store, bytes: &[u8]) -> bool {
    let digest = Digest::of(bytes);
    let member = store.catalog.blob(&repository(), &digest).await.unwrap().is_some();
    assert_eq!(member, store.blobs.get(&digest).unwrap().is_some());
    member
}

#[tokio::test]
async fn layers_that_only_an_index_lists_stay_while_it_has_a_tag_and_go_with_it() {
    let world = World::new().await;
    let store = &world.store;
    let parts: [&[u8]; 4] = [b"layer one", b"layer two", b"what the cache knows", b"nobody's"];
    for bytes in parts {
        push_blob(store, bytes, 1).await.unwrap();
    }
    let cache =
        index(&[(media_type::LAYER_GZIP, parts[0]), (media_type::LAYER_ZSTD, parts[1]), (CACHE, parts[2])]);
    publish(store, &cache, Gaps::None).await.unwrap();
    let collected = store.collect(&rules(), 5_000).await.unwrap();
    assert_eq!((collected.manifests, collected.blobs), (0, 1));
    for bytes in &parts[..3] {
        assert!(holds(store, bytes).await);
        let refused = store.catalog.unlink_blob(&repository(), &Digest::of(bytes)).await;
        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    }
    assert!(!holds(store, parts[3]).await);
    store.catalog.delete_tag(&repository(), &tag("cache"), 6_000).await.unwrap();
    let collected = store.collect(&rules(), 6_000 + GRACE).await.unwrap();
    assert_eq!((collected.manifests, collected.blobs), (1, 4));
}

#[tokio::test]
async fn what_an_index_calls_by_another_type_stays_all_the_same() {
    let world = World::new().await;
    let store = &world.store;
    let (image, loose): (_, &[u8]) = (Image::new("image"), b"a layer that is called an image");
    push(store, &image, &[], 1).await.unwrap();
    push_blob(store, loose, 1).await.unwrap();
    // An index that lists an image as a layer and a layer as an image, and the same below another index.
    let inner =
        index(&[(media_type::LAYER_GZIP, &image.manifest.bytes), (media_type::IMAGE_MANIFEST, loose)]);
    publish(store, &inner, Gaps::None).await.unwrap();
    let outer = index(&[("application/vnd.example.index", &inner.bytes)]);
    publish(store, &outer, Gaps::None).await.unwrap();
    assert!(store.collect(&rules(), 5_000).await.unwrap().is_nothing());
    for digest in [image.digest(), &inner.digest, &outer.digest] {
        assert!(has(store, digest).await, "{digest}");
    }
    for bytes in [&image.config, &image.layer, loose] {
        assert!(holds(store, bytes).await);
    }
    store.catalog.delete_tag(&repository(), &tag("cache"), 6_000).await.unwrap();
    let collected = store.collect(&rules(), 6_000 + GRACE).await.unwrap();
    assert_eq!((collected.manifests, collected.blobs), (3, 6));
}

#[tokio::test]
async fn the_catalog_of_an_earlier_version_that_calls_all_of_them_manifests_keeps_them() {
    let world = World::new().await;
    let store = &world.store;
    let layer: &[u8] = b"a layer";
    push_blob(store, layer, 1).await.unwrap();
    publish(store, &index(&[(media_type::LAYER_GZIP, layer)]), Gaps::None).await.unwrap();
    let changed = sqlx::query("UPDATE edges SET kind = 'manifest' WHERE kind = 'layer'");
    assert_eq!(changed.execute(&world.sql().await).await.unwrap().rows_affected(), 1);
    assert!(store.collect(&rules(), 5_000).await.unwrap().is_nothing());
    assert!(holds(store, layer).await);
}

#[tokio::test]
async fn what_an_index_lists_may_be_left_out_where_that_is_allowed_and_never_has_another_size() {
    let world = World::new().await;
    let store = &world.store;
    let layer: &[u8] = b"a layer";
    let cache = index(&[(media_type::LAYER_GZIP, layer)]);
    let refused = publish(store, &cache, Gaps::None).await;
    assert!(matches!(&refused, Err(Error::Missing { digest, .. }) if *digest == Digest::of(layer)));
    publish(store, &cache, Gaps::Indexes).await.unwrap();
    push_blob(store, layer, 1).await.unwrap();
    publish(store, &cache, Gaps::None).await.unwrap();
    let mut other = String::from_utf8(cache.bytes).unwrap();
    other = other.replace("\"size\":7", "\"size\":8");
    let other = NewManifest::new(media_type::IMAGE_INDEX, other.into_bytes());
    let refused = publish(store, &other, Gaps::Indexes).await;
    assert!(matches!(refused, Err(Error::WrongSize { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_image_whose_configuration_could_be_read_in_two_ways_is_not_published() {
    let world = World::new().await;
    let store = &world.store;
    let mut image = Image::new("one");
    let good = image.config.clone();
    image.config = br#"{"config":{"User":"1000"},"Config":{"User":"0"}}"#.to_vec();
    let text = String::from_utf8(image.manifest.bytes.clone()).unwrap();
    let text = text.replace(
        &json(&Descriptor::of(media_type::IMAGE_CONFIG, &good)),
        &json(&Descriptor::of(media_type::IMAGE_CONFIG, &image.config)),
    );
    image.manifest = NewManifest::new(media_type::IMAGE_MANIFEST, text.into_bytes());
    for gaps in [Gaps::None, Gaps::Indexes, Gaps::All] {
        image.write_blobs(&store.blobs);
        let publication = Publication { gaps, ..image.publication(&["v1"], 1) };
        let refused = store.publish(publication).await;
        assert!(
            matches!(&refused, Err(Error::Configuration { digest, .. }) if *digest == Digest::of(&image.config)),
            "{refused:?}"
        );
        assert!(!has(store, image.digest()).await);
    }
    // The configuration may also come after its manifest, as from an upstream.
    let sparse = Publication { gaps: Gaps::All, blobs: Vec::new(), ..image.publication(&["v1"], 1) };
    store.publish(sparse).await.unwrap();
    let refused = push_blob(store, &image.config, 1).await;
    assert!(matches!(&refused, Err(Error::Configuration { of, .. }) if of == image.digest()), "{refused:?}");
    assert!(store.catalog.blob(&repository(), &Digest::of(&image.config)).await.unwrap().is_none());
    store.catalog.delete_tag(&repository(), &tag("v1"), 2).await.unwrap();
    store.catalog.delete_manifest(&repository(), image.digest(), 2).await.unwrap();
    // As an artifact's configuration it is accepted: no runtime reads it.
    let text = String::from_utf8(image.manifest.bytes.clone()).unwrap();
    let text = text.replace(media_type::IMAGE_CONFIG, "application/vnd.example.config");
    image.manifest = NewManifest::new(media_type::IMAGE_MANIFEST, text.into_bytes());
    store.publish(image.publication(&["v1"], 1)).await.unwrap();
}
