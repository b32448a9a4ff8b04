//! An archive of any bytes, unpacked: nothing is written outside its folder, no mode or time is the archive's own
//! choice.
#![no_main]
#![allow(missing_docs)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use hab_builder::unpack::{Options, unpack_archive};

/// The latest time that anything may have.
const EPOCH: i64 = 1_000_000_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    // Chance does not find checksums, so every block that could be a header gets one that is right.
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[148] == b'!' {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let Ok(world) = tempfile::tempdir_in("/dev/shm") else { return };
    let archive = world.path().join("archive");
    let root = world.path().join("root");
    if fs::File::create(&archive).and_then(|mut file| file.write_all(&bytes)).is_err() {
        return;
    }
    let options = Options { epoch: EPOCH, ..Options::default() };
    let unpacked = unpack_archive("archive", &archive, &root, &options, &AtomicBool::new(false));
    let beside: Vec<_> = fs::read_dir(world.path()).into_iter().flatten().flatten().collect();
    assert!(beside.len() <= 2, "something was written beside the root");
    if unpacked.is_ok() {
        look(&root);
    }
});

fn look(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(about) = entry.path().symlink_metadata() else { continue };
        assert!(about.mtime() <= EPOCH, "{}", entry.path().display());
        if about.is_dir() {
            assert_eq!(about.mode() & 0o7777, 0o755);
            look(&entry.path());
        } else if about.is_file() {
            assert!([0o755, 0o644].contains(&(about.mode() & 0o7777)));
        } else {
            assert!(about.is_symlink());
        }
    }
}
