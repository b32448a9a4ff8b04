//! A tar archive of any bytes: every file that is found lies within it, under a path that leads nowhere else.
#![no_main]
#![allow(missing_docs)]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for (path, (at, size)) in hab_layout::members(bytes).into_iter().flatten() {
        assert!(at.checked_add(size).is_some_and(|end| end <= bytes.len() as u64));
        assert!(!path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
});
