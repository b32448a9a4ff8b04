use hab_oci::Digest;
use hab_store::{Back, Error, Expected, Named, Tags};

use crate::harness::{Image, World, by_tag, repository, tag};

/// A world with three images; `latest` pointed at one, two and three in turn.
async fn moved() -> (World, [Image; 3]) {
    let world = World::new().await;
    let images = ["one", "two", "three"].map(Image::new);
    for (at, image) in (1..).zip(&images) {
        image.write_blobs(&world.store.blobs);
        world.store.publish(image.publication(&["latest"], at)).await.unwrap();
    }
    (world, images)
}

async fn place(world: &World, name: &str) -> Option<Digest> {
    world.store.catalog.manifest(&repository(), &by_tag(name)).await.unwrap().map(|found| found.digest)
}

async fn back(world: &World, back: Back) -> Result<Digest, Error> {
    world.store.catalog.rollback_tag(&repository(), &tag("latest"), &back, 9).await
}

fn stays(repository: &str, tag: &str) -> [Tags; 1] {
    [Tags { repository: repository.parse().unwrap(), tag: tag.parse().unwrap() }]
}

#[tokio::test]
async fn a_rollback_is_a_move_and_can_be_taken_back() {
    let (world, images) = moved().await;
    assert_eq!(back(&world, Back::Steps(2)).await.unwrap(), *images[0].digest());
    assert_eq!(place(&world, "latest").await.as_ref(), Some(images[0].digest()));
    assert_eq!(back(&world, Back::Steps(1)).await.unwrap(), *images[2].digest());
    let history = world.store.catalog.tag_history(&repository(), &tag("latest")).await.unwrap();
    assert_eq!((history.len(), history.last().unwrap().at), (5, 9));
    assert_eq!(back(&world, Back::To(images[1].digest().clone())).await.unwrap(), *images[1].digest());
}

#[tokio::test]
async fn where_a_tag_never_was_it_does_not_go_back_to() {
    let (world, images) = moved().await;
    for wanted in [Back::Steps(3), Back::To(Digest::of(b"other"))] {
        let refused = back(&world, wanted).await.unwrap_err();
        assert!(matches!(refused, Error::NeverThere { .. }), "{refused:?}");
        assert!(refused.to_string().contains("hab/bitcoin:latest: it never pointed at"), "{refused}");
    }
    assert_eq!(place(&world, "latest").await.as_ref(), Some(images[2].digest()));
    assert!(["0", "-1", "x", "sha256:x"].iter().all(|bad| bad.parse::<Back>().is_err()));
}

#[tokio::test]
async fn a_deleted_tag_goes_back_to_what_is_still_held() {
    let (world, images) = moved().await;
    let catalog = &world.store.catalog;
    catalog.delete_tag(&repository(), &tag("latest"), 5).await.unwrap();
    assert_eq!(back(&world, Back::Steps(1)).await.unwrap(), *images[2].digest());
    catalog.delete_manifest(&repository(), images[1].digest(), 10).await.unwrap();
    let refused = back(&world, Back::To(images[1].digest().clone())).await.unwrap_err();
    assert!(matches!(refused, Error::NotHeld { .. }), "{refused:?}");
    assert_eq!(place(&world, "latest").await.as_ref(), Some(images[2].digest()));
}

#[tokio::test]
async fn an_immutable_tag_is_made_once_and_neither_moves_nor_goes() {
    let world = World::new().await;
    let store = world.store.clone().with_immutable(&stays("hab/*", "v*"));
    let (one, two) = (Image::new("one"), Image::new("two"));
    for image in [&one, &two] {
        image.write_blobs(&store.blobs);
    }
    store.publish(one.publication(&["v1", "latest"], 1)).await.unwrap();
    store.publish(one.publication(&["v1"], 2)).await.unwrap();
    let refused = store.publish(two.publication(&["latest", "v1"], 3)).await.unwrap_err();
    assert!(matches!(&refused, Error::Immutable { at, .. } if at == one.digest()), "{refused:?}");
    assert_eq!(place(&world, "latest").await.as_ref(), Some(one.digest()), "all of it or nothing");
    let found =
        store.catalog.manifest(&repository(), &hab_oci::TagOrDigest::Digest(two.digest().clone())).await;
    assert_eq!(found.unwrap(), None);
    let catalog = &store.catalog;
    let gone = catalog.delete_tag(&repository(), &tag("v1"), 4).await;
    assert!(matches!(gone, Err(Error::Immutable { .. })), "{gone:?}");
    let gone = catalog.delete_manifest(&repository(), one.digest(), 4).await;
    assert!(matches!(gone, Err(Error::Immutable { .. })), "{gone:?}");
    assert_eq!(place(&world, "latest").await.as_ref(), Some(one.digest()));
    assert!(!catalog.delete_tag(&repository(), &tag("v2"), 4).await.unwrap());
}

#[tokio::test]
async fn a_tag_that_became_immutable_later_does_not_roll_back() {
    let (world, images) = moved().await;
    let catalog = world.store.catalog.clone().with_immutable(&stays("*", "lat*"));
    let refused = catalog.rollback_tag(&repository(), &tag("latest"), &Back::Steps(1), 9).await;
    assert!(matches!(refused, Err(Error::Immutable { .. })), "{refused:?}");
    // The rule does not apply to other repositories or names.
    let other = world.store.catalog.clone().with_immutable(&stays("other/*", "lat*"));
    let moved = other.rollback_tag(&repository(), &tag("latest"), &Back::Steps(1), 9).await.unwrap();
    assert_eq!(moved, *images[1].digest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_of_an_immutable_tag_one_makes_it() {
    let world = World::new().await;
    let images: Vec<_> = (0..6).map(|i| Image::new(&i.to_string())).collect();
    let mut tasks = Vec::new();
    for image in &images {
        image.write_blobs(&world.store.blobs);
        let store = hab_store::Store::open(world.path()).await.unwrap().with_immutable(&stays("*", "v*"));
        let publication = image.publication(&["v1"], 1);
        tasks.push(tokio::spawn(async move { store.publish(publication).await }));
    }
    let mut made = Vec::new();
    for (task, image) in tasks.into_iter().zip(&images) {
        match task.await.unwrap() {
            Ok(()) => made.push(image.digest().clone()),
            Err(e) => assert!(matches!(e, Error::Immutable { .. }), "{e:?}"),
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(place(&world, "v1").await, made.pop());
    assert_eq!(world.store.catalog.tag_history(&repository(), &tag("v1")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_tag_moves_and_goes_only_where_what_is_there_was_expected() {
    let (world, images) = moved().await;
    let these =
        |images: &[&Image]| Some(Named::These(images.iter().map(|image| image.digest().clone()).collect()));
    let is = |images: &[&Image]| Expected { is: these(images), is_not: None };
    let is_not = |images: &[&Image]| Expected { is: None, is_not: these(images) };
    let [one, two, three] = &images;
    let push = async |expected: Expected| {
        let publication = one.publication(&["latest"], 10);
        world.store.publish_if(publication, &by_tag("latest"), &expected).await
    };
    for wrong in [is(&[]), is(&[one, two]), is_not(&[three])] {
        let refused = push(wrong).await.unwrap_err();
        assert!(matches!(refused, Error::Unexpected { .. }), "{refused:?}");
        assert!(refused.to_string().contains(&format!("has {} at latest", three.digest())), "{refused}");
        assert_eq!(place(&world, "latest").await.as_ref(), Some(three.digest()));
    }
    push(is(&[two, three])).await.unwrap();
    assert_eq!(place(&world, "latest").await.as_ref(), Some(one.digest()));
    let catalog = &world.store.catalog;
    let delete = async |tag_: &str, expected: Expected| {
        catalog.delete_tag_if(&repository(), &tag(tag_), &expected, 11).await
    };
    assert!(matches!(delete("latest", is(&[two])).await, Err(Error::Unexpected { .. })));
    assert!(!delete("none", is(&[two])).await.unwrap(), "what is not there is not there");
    assert!(delete("latest", is(&[one])).await.unwrap());
    assert_eq!(place(&world, "latest").await, None);
}

#[tokio::test]
async fn repositories_that_hold_a_manifest_are_listed_in_pages() {
    let (world, _) = moved().await;
    let catalog = &world.store.catalog;
    catalog.link_blob(&"empty".parse().unwrap(), &Digest::of(b"x"), 1, 1).await.unwrap();
    let page = async |after: &str, limit| {
        let names = catalog.repository_page(after, limit).await.unwrap();
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(page("", 10).await, ["hab/bitcoin"]);
    assert_eq!(page("hab/bitcoin", 10).await, [""; 0]);
    assert_eq!(page("", 0).await, [""; 0]);
}
