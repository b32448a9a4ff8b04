use crate::harness::{World, repository};

#[tokio::test]
async fn an_old_upload_expires_unless_it_is_being_written() {
    let world = World::new().await;
    let blobs = &world.store.blobs;
    let (old, held) = (blobs.begin_upload().unwrap(), blobs.begin_upload().unwrap());
    for id in [&old, &held] {
        world.store.catalog.add_upload(id, &repository(), 100).await.unwrap();
    }
    let writer = blobs.upload(&held).unwrap();
    assert_eq!(world.store.expire_uploads(100).await.unwrap(), 0);
    assert_eq!(world.store.expire_uploads(101).await.unwrap(), 1);
    assert!(matches!(blobs.upload(&old), Err(hab_blobs::Error::UploadUnknown(_))));
    assert!(world.store.catalog.has_upload(&held, &repository()).await.unwrap());
    assert!(!world.store.catalog.has_upload(&old, &repository()).await.unwrap());
    drop(writer);
}
