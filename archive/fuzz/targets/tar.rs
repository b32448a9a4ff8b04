//! A tar archive of any bytes: what is accepted stays within the limits, and another reader sees the same.
#![no_main]
#![allow(missing_docs)]

use std::io::Read as _;

use hab_archive::{Kind, Limits, Tar};

const LIMITS: Limits = Limits {
    name: 300,
    link: 300,
    depth: 20,
    extension: 1024,
    entries: 20,
    entry: 4096,
    total: 8192,
    decoded: 1 << 20,
    ratio: None,
    memory: 1 << 20,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Chance does not find checksums, so every block that could be a header gets one that is right.
    let mut bytes = bytes.to_vec();
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[148] == b'!' {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let mut tar = Tar::new(bytes.as_slice(), &LIMITS);
    let mut seen = Vec::new();
    while let Ok(Some(entry)) = tar.next_entry() {
        assert!(entry.path.len() <= 300 && !entry.path.is_empty() && !entry.path.contains(&0));
        assert!(entry.offset + entry.size <= bytes.len() as u64 || tar.whole(u64::MAX).is_err());
        if !matches!(entry.kind, Kind::Special(_)) {
            seen.push((entry.path, entry.size));
        }
        assert!(seen.len() <= 20);
    }
    if tar.finish().is_err() {
        return;
    }
    let mut other = tar::Archive::new(bytes.as_slice());
    let entries = other.entries().into_iter().flatten().map_while(Result::ok);
    let kept = entries.filter(|entry| {
        let kind = entry.header().entry_type();
        kind.is_file() || kind.is_contiguous() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()
    });
    let theirs: Vec<_> = kept
        .map(|mut entry| {
            let mut waste = Vec::new();
            let _ = entry.read_to_end(&mut waste);
            (entry.path_bytes().into_owned(), waste.len() as u64)
        })
        .collect();
    assert_eq!(seen, theirs);
});
