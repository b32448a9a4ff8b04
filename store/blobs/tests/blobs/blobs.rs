use std::error::Error as _;
use std::io::{Read, Write};
use std::process::Command;

use hab_blobs::{Blobs, Error, Fault};
use hab_oci::{Algorithm, Digest};
use proptest::prelude::*;

use crate::files;

#[test]
fn a_blob_is_found_by_the_digest_of_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let mut writer = blobs.writer().unwrap();
    writer.write_all(b"a").unwrap();
    writer.write_all(b"bc").unwrap();
    let (digest, size) = writer.commit(None).unwrap();
    assert_eq!((&digest, size), (&Digest::of(b"abc"), 3));
    assert_eq!(blobs.get(&digest).unwrap(), Some(3));
    let mut text = String::new();
    blobs.open_blob(&digest).unwrap().unwrap().file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "abc");
    assert_eq!(
        files(folder.path()),
        [format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex())],
        "one file, in its place, and nothing temporary"
    );
}

#[test]
fn bytes_of_another_digest_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let said = Digest::of(b"abc");
    let mut writer = blobs.writer().unwrap();
    writer.write_all(b"abd").unwrap();
    let error = writer.commit(Some(&said)).unwrap_err();
    assert_eq!(error.fault(), Fault::Input);
    assert!(error.to_string().contains(said.hex()) && error.to_string().contains(Digest::of(b"abd").hex()));
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let mut writer = blobs.writer().unwrap();
    writer.write_all(b"abc").unwrap();
    drop(writer);
    assert_eq!(files(folder.path()), [""; 0]);
    assert_eq!(blobs.get(&Digest::of(b"abc")).unwrap(), None);
}

#[test]
fn a_digest_of_either_algorithm_can_be_asked_for_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let long = Digest::of_with(Algorithm::Sha512, b"abc");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let mut writer = blobs.writer_with(algorithm).unwrap();
        writer.write_all(b"abc").unwrap();
        assert_eq!(writer.commit(Some(&long)).unwrap().0, long);
    }
    assert!(blobs.path(&long).starts_with(folder.path().join("blobs/sha512")));
    let mut writer = blobs.writer().unwrap();
    writer.write_all(b"abd").unwrap();
    assert!(matches!(writer.commit(Some(&long)), Err(Error::WrongDigest { .. })));
}

#[test]
fn many_writers_of_one_blob_leave_one_whole_blob() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let bytes = vec![7; 300_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut writer = blobs.writer().unwrap();
                for chunk in bytes.chunks(1000) {
                    writer.write_all(chunk).unwrap();
                }
                writer.commit(None).unwrap();
            });
        }
    });
    assert_eq!(blobs.read(&Digest::of(&bytes), 1 << 30).unwrap().unwrap(), bytes);
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_blob_that_is_there_is_kept_and_one_that_was_cut_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let digest = blobs.put(b"abc").unwrap();
    let written = std::fs::metadata(blobs.path(&digest)).unwrap().modified().unwrap();
    blobs.put(b"abc").unwrap();
    assert_eq!(std::fs::metadata(blobs.path(&digest)).unwrap().modified().unwrap(), written);

    std::fs::remove_file(blobs.path(&digest)).unwrap();
    std::fs::write(blobs.path(&digest), "ab").unwrap();
    assert!(matches!(blobs.read(&digest, 1 << 30), Err(Error::Damaged { .. })));
    blobs.put(b"abc").unwrap();
    assert_eq!(blobs.read(&digest, 1 << 30).unwrap().unwrap(), b"abc");
    assert!(blobs.remove(&digest).unwrap() && !blobs.remove(&digest).unwrap());
}

#[test]
fn opening_the_folder_again_does_not_disturb_a_live_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Blobs::open(folder.path()).unwrap().writer().unwrap();
    writer.write_all(b"abc").unwrap();
    let again = Blobs::open(folder.path()).unwrap();
    let (digest, _) = writer.commit(None).unwrap();
    assert_eq!(again.get(&digest).unwrap(), Some(3));
}

#[test]
fn what_a_dead_writer_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    Blobs::open(folder.path()).unwrap();
    std::fs::write(folder.path().join("blobs/tmp/left"), "half").unwrap();
    Blobs::open(folder.path()).unwrap();
    assert_eq!(files(folder.path()), [""; 0]);
}

/// A file system of 64 KiB; only root may mount one.
#[test]
fn a_full_disk_is_said_in_a_sentence_and_leaves_nothing() {
    struct Mount<'a>(&'a std::path::Path);
    impl Drop for Mount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "hab-store-test"])
        .arg(folder.path())
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return hab_skip::skip(hab_skip::Lack::Mount, "a small file system to fill");
    }
    let _mount = Mount(folder.path());
    let blobs = Blobs::open(folder.path()).unwrap();
    let mut writer = blobs.writer().unwrap();
    let error = writer.add(&vec![0; 1 << 20]).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Ours);
    assert!(error.to_string().contains("free some space"), "{error}");
    let source = error.source().unwrap().to_string();
    assert!(!error.to_string().contains(&source), "a chain does not repeat itself: {error}: {source}");
    drop(writer);
    assert_eq!(files(folder.path()), [""; 0]);
    blobs.put(b"small").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn however_it_is_cut_a_stream_becomes_the_blob_of_its_bytes(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let whole = chunks.concat();
        let mut writer = blobs.writer().unwrap();
        for chunk in &chunks {
            writer.write_all(chunk).unwrap();
        }
        let (digest, size) = writer.commit(Some(&Digest::of(&whole))).unwrap();
        prop_assert_eq!(size, whole.len() as u64);
        prop_assert_eq!(blobs.read(&digest, 1 << 30).unwrap().unwrap(), whole);
        prop_assert!(blobs.path(&digest).starts_with(folder.path().join("blobs")));
    }
}

#[test]
fn a_document_is_not_read_beyond_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let digest = blobs.put(&[7; 1000]).unwrap();
    assert_eq!(blobs.read(&digest, 1000).unwrap().unwrap().len(), 1000);
    let error = blobs.read(&digest, 999).unwrap_err();
    assert!(matches!(error, Error::TooLarge { size: 1000, limit: 999, .. }), "{error}");
    assert!(error.to_string().contains("has 1000 bytes: at most 999 are read"), "{error}");
    // Nor is one that became larger than its bytes ever were: it is written anew.
    let path = blobs.path(&digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    blobs.put(&[7; 1000]).unwrap();
    assert_eq!(blobs.read(&digest, 1000).unwrap().unwrap(), [7; 1000]);
}
