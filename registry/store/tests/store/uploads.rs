use std::io::Write;

use hab_oci::{Algorithm, Digest};
use hab_store::{Blobs, Error, UploadId};
use proptest::prelude::*;

use crate::harness::{World, files, repository};

#[test]
fn an_upload_goes_on_where_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let id = blobs.begin_upload().unwrap();
    blobs.upload(&id).unwrap().write_all(b"ab").unwrap();
    assert_eq!(blobs.upload_size(&id).unwrap(), 2);
    let mut upload = blobs.upload(&id).unwrap();
    upload.write_all(b"c").unwrap();
    assert_eq!(upload.commit(Some(&Digest::of(b"abc"))).unwrap().1, 3);
    assert!(matches!(blobs.upload(&id), Err(Error::UploadUnknown(_))));
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn an_upload_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let before = Blobs::open(folder.path()).unwrap();
    let id = before.begin_upload().unwrap();
    before.upload(&id).unwrap().write_all(b"ab").unwrap();
    let after = Blobs::open(folder.path()).unwrap();
    let mut upload = after.upload(&id).unwrap();
    assert_eq!(upload.size(), 2);
    upload.write_all(b"c").unwrap();
    let digest = Digest::of_with(Algorithm::Sha512, b"abc");
    upload.commit(Some(&digest)).unwrap();
    assert_eq!(after.read(&digest).unwrap().unwrap(), b"abc");
}

#[test]
fn a_running_hash_that_does_not_match_the_file_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let one = Blobs::open(folder.path()).unwrap();
    let other = Blobs::open(folder.path()).unwrap();
    let id = one.begin_upload().unwrap();
    one.upload(&id).unwrap().write_all(b"ab").unwrap();
    other.upload(&id).unwrap().write_all(b"c").unwrap();
    assert_eq!(one.upload(&id).unwrap().commit(None).unwrap().0, Digest::of(b"abc"));
}

#[test]
fn an_upload_has_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let id = blobs.begin_upload().unwrap();
    let held = blobs.upload(&id).unwrap();
    assert!(matches!(blobs.upload(&id), Err(Error::UploadBusy(_))));
    drop(held);
    blobs.upload(&id).unwrap();
}

#[test]
fn an_upload_of_another_digest_is_over_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let id = blobs.begin_upload().unwrap();
    let mut upload = blobs.upload(&id).unwrap();
    upload.write_all(b"abd").unwrap();
    assert!(matches!(upload.commit(Some(&Digest::of(b"abc"))), Err(Error::WrongDigest { .. })));
    assert_eq!(files(folder.path()), [""; 0]);
}

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
    assert!(matches!(blobs.upload(&old), Err(Error::UploadUnknown(_))));
    assert!(world.store.catalog.has_upload(&held, &repository()).await.unwrap());
    assert!(!world.store.catalog.has_upload(&old, &repository()).await.unwrap());
    drop(writer);
}

proptest! {
    #[test]
    fn no_text_but_32_digits_names_an_upload(text in "[0-9a-fA-F./]{0,40}") {
        let valid = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        prop_assert_eq!(text.parse::<UploadId>().is_ok(), valid);
    }

    #[test]
    fn a_rewound_upload_has_forgotten_exactly_what_came_after(
        kept in proptest::collection::vec(any::<u8>(), 0..300),
        dropped in proptest::collection::vec(any::<u8>(), 0..300),
        next in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let id = blobs.begin_upload().unwrap();
        let mut upload = blobs.upload(&id).unwrap();
        upload.write_all(&kept).unwrap();
        let mark = upload.mark();
        upload.write_all(&dropped).unwrap();
        upload.rewind(mark).unwrap();
        upload.write_all(&next).unwrap();
        let whole = [kept, next].concat();
        prop_assert_eq!(upload.commit(None).unwrap().0, Digest::of(&whole));
    }
}
