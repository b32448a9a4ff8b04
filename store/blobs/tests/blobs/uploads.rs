use std::io::Write;

use hab_blobs::{Blobs, Error, UploadId};
use hab_oci::{Algorithm, Digest};
use proptest::prelude::*;

use crate::files;

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
    assert_eq!(after.read(&digest, 1 << 30).unwrap().unwrap(), b"abc");
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

#[test]
fn an_upload_whose_writer_was_killed_as_it_became_a_blob_goes_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let id = blobs.begin_upload().unwrap();
    blobs.upload(&id).unwrap().write_all(b"ab").unwrap();
    let path = folder.path().join(format!("blobs/uploads/{id}"));
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    for sealed in [0o444, 0o1444] {
        // As it is between being sealed and being renamed.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(sealed)).unwrap();
        blobs.upload(&id).unwrap().write_all(b"c").unwrap();
        // Root can open a sealed file, and would leave it sealed while it is written to.
        assert_eq!(mode(), 0o600, "{sealed:o}");
    }
    assert_eq!(blobs.upload(&id).unwrap().commit(None).unwrap().0, Digest::of(b"abcc"));
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_sealed_upload_that_is_still_being_written_is_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let id = blobs.begin_upload().unwrap();
    let held = blobs.upload(&id).unwrap();
    let path = folder.path().join(format!("blobs/uploads/{id}"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    assert!(matches!(blobs.upload(&id), Err(Error::UploadBusy(_))));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
    drop(held);
}

/// Larger than what is read again rather than kept.
fn chunk(seed: u8) -> Vec<u8> {
    (0..5_u32 << 20).map(|i| seed ^ i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// What this thread has read so far, in bytes.
fn read_so_far() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// An upload with a first chunk, put back; and the file that its running hash is in.
fn put_back(folder: &std::path::Path) -> (UploadId, std::path::PathBuf) {
    let blobs = Blobs::open(folder).unwrap();
    let id = blobs.begin_upload().unwrap();
    let mut upload = blobs.upload(&id).unwrap();
    upload.add(&chunk(1)).unwrap();
    upload.put_back().unwrap();
    let state = folder.join(format!("blobs/uploads/{id}.state"));
    assert!(state.exists());
    (id, state)
}

/// After a restart: how much was read to open it, and whether the right digest is accepted, and only that one.
fn go_on(folder: &std::path::Path, id: &UploadId) -> u64 {
    let blobs = Blobs::open(folder).unwrap();
    let before = read_so_far();
    let mut upload = blobs.upload(id).unwrap();
    let read = read_so_far() - before;
    upload.add(b"more").unwrap();
    let digest = Digest::of(&[&chunk(1)[..], b"more"].concat());
    assert_eq!(upload.commit(Some(&digest)).unwrap().0, digest);
    let kept = blobs.read(&digest, 1 << 30).unwrap();
    assert!(kept.is_some(), "and the bytes are those");
    read
}

#[test]
fn an_upload_that_was_put_back_is_not_read_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (id, state) = put_back(folder.path());
    assert!(go_on(folder.path(), &id) < 10_000);
    assert!(!state.exists(), "nothing is left of it");
    // Without it everything is the same, only slower.
    let (id, state) = put_back(folder.path());
    std::fs::remove_file(state).unwrap();
    assert!(go_on(folder.path(), &id) >= 5 << 20);
}

#[test]
fn every_chunk_after_every_restart_costs_its_own_length() {
    let folder = tempfile::tempdir().unwrap();
    let (id, _) = put_back(folder.path());
    for round in 0..4 {
        let blobs = Blobs::open(folder.path()).unwrap();
        let before = read_so_far();
        let mut upload = blobs.upload(&id).unwrap();
        assert!(read_so_far() - before < 10_000, "round {round}");
        upload.add(&[round; 1000]).unwrap();
        upload.put_back().unwrap();
    }
    let whole = [chunk(1), (0..4).flat_map(|round| [round; 1000]).collect()].concat();
    let blobs = Blobs::open(folder.path()).unwrap();
    blobs.upload(&id).unwrap().commit(Some(&Digest::of(&whole))).unwrap();
}

#[test]
fn a_state_with_any_byte_changed_or_cut_is_not_believed() {
    let sealed = {
        let folder = tempfile::tempdir().unwrap();
        std::fs::read(put_back(folder.path()).1).unwrap().len()
    };
    let ends = [0, 8, 9, 17, 40, 57, 100, sealed - 1];
    for at in ends {
        let folder = tempfile::tempdir().unwrap();
        let (id, state) = put_back(folder.path());
        let mut bytes = std::fs::read(&state).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&state, &bytes).unwrap();
        assert!(go_on(folder.path(), &id) >= 5 << 20, "byte {at}");
    }
    for length in [0, 64, sealed - 1] {
        let folder = tempfile::tempdir().unwrap();
        let (id, state) = put_back(folder.path());
        let bytes = std::fs::read(&state).unwrap();
        std::fs::write(&state, &bytes[..length]).unwrap();
        assert!(go_on(folder.path(), &id) >= 5 << 20, "{length} bytes");
    }
}

#[test]
fn a_state_of_another_upload_or_folder_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let other = blobs.begin_upload().unwrap();
    let mut upload = blobs.upload(&other).unwrap();
    upload.add(&chunk(2)).unwrap();
    upload.put_back().unwrap();
    let (id, state) = put_back(folder.path());
    std::fs::copy(folder.path().join(format!("blobs/uploads/{other}.state")), &state).unwrap();
    assert!(go_on(folder.path(), &id) >= 5 << 20);
    // The same upload, but sealed with a key that was lost.
    for key in [None, Some(vec![7; 32]), Some(vec![7; 5])] {
        let (id, _) = put_back(folder.path());
        let path = folder.path().join("blobs/uploads/key");
        std::fs::remove_file(&path).unwrap();
        if let Some(key) = key {
            std::fs::write(&path, key).unwrap();
        }
        assert!(go_on(folder.path(), &id) >= 5 << 20);
    }
}

#[test]
fn bytes_that_changed_since_they_were_hashed_are_hashed_again() {
    let folder = tempfile::tempdir().unwrap();
    let (id, _) = put_back(folder.path());
    let file = folder.path().join(format!("blobs/uploads/{id}"));
    // The same length, the same file, and even its time set back.
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_at(&open, b"?", 3).unwrap();
    open.set_modified(time).unwrap();
    drop(open);
    let blobs = Blobs::open(folder.path()).unwrap();
    let wrong = blobs.upload(&id).unwrap().commit(Some(&Digest::of(&chunk(1))));
    assert!(matches!(wrong, Err(Error::WrongDigest { .. })), "{wrong:?}");
}

#[test]
fn bytes_that_came_after_the_state_are_not_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (id, _) = put_back(folder.path());
    // As a kill leaves it: more bytes, and a state that knows nothing of them.
    let blobs = Blobs::open(folder.path()).unwrap();
    let mut upload = blobs.upload(&id).unwrap();
    upload.add(b"and ").unwrap();
    drop(upload);
    drop(blobs);
    let blobs = Blobs::open(folder.path()).unwrap();
    let mut upload = blobs.upload(&id).unwrap();
    upload.add(b"more").unwrap();
    let whole = [&chunk(1)[..], b"and more"].concat();
    upload.commit(Some(&Digest::of(&whole))).unwrap();
}

#[test]
fn a_rewound_upload_is_not_what_its_state_says() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let id = blobs.begin_upload().unwrap();
    let mut upload = blobs.upload(&id).unwrap();
    let start = upload.mark();
    upload.add(&chunk(2)).unwrap();
    upload.put_back().unwrap();
    let mut upload = blobs.upload(&id).unwrap();
    upload.rewind(start).unwrap();
    upload.add(&chunk(1)).unwrap();
    drop(upload);
    assert!(go_on(folder.path(), &id) >= 5 << 20);
}

#[test]
fn a_cancelled_or_refused_upload_leaves_no_state() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let (id, _) = put_back(folder.path());
    blobs.upload(&id).unwrap().cancel().unwrap();
    let (id, _) = put_back(folder.path());
    assert!(blobs.upload(&id).unwrap().commit(Some(&Digest::of(b"other"))).is_err());
    assert_eq!(files(folder.path()), ["blobs/uploads/key"]);
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
