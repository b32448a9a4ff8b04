//! A tar archive of any bytes as a git tree: read twice it has the same id.
#![no_main]
#![allow(missing_docs)]

use hab_keys::parsers::git_tree;

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
    let first = git_tree(&mut bytes.as_slice());
    assert_eq!(first, git_tree(&mut bytes.as_slice()));
    if let Ok(tree) = first {
        assert!(tree.len() == 40 && tree.bytes().all(|b| b.is_ascii_hexdigit()));
    }
});
