//! An export of any tar archive: what is given to whoever takes entries is what the manifest announced.
#![no_main]
#![allow(missing_docs)]

use std::io::Write as _;

use hab_mirror::airgap;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Chance finds neither checksums nor compression, so both are made right.
    let mut bytes = bytes.to_vec();
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[148] == b'!' {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let Ok(packed) = zstd::encode_all(bytes.as_slice(), 1) else { return };
    let Ok(mut file) = tempfile::NamedTempFile::new_in("/dev/shm") else { return };
    if file.write_all(&packed).is_err() {
        return;
    }
    let mut announced = 0;
    let mut taken = 0;
    let read = airgap::read(
        file.path(),
        |manifest| {
            announced = manifest.bytes();
            Ok(())
        },
        |_, _, size, content| {
            let mut whole = Vec::new();
            if content.read_to_end(&mut whole).is_ok() {
                assert_eq!(whole.len() as u64, size);
            }
            taken += size;
            Ok(())
        },
    );
    if let Ok(manifest) = read {
        assert_eq!((manifest.bytes(), taken), (announced, announced));
    }
});
