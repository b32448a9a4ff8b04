//! A ref journal of any bytes: each line that is read names the digest of the line before it.
#![no_main]
#![allow(missing_docs)]

use std::io::Write as _;

use hab_mirror::git::Journal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new_in("/dev/shm") else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    if let Ok(journal) = Journal::open(file.path()) {
        let lines = bytes.split(|b| *b == b'\n').count();
        assert_eq!(journal.entries().len() + 1, lines);
        assert!(journal.contains(journal.head()));
        for name in journal.frozen() {
            assert!(journal.is_frozen(name) && journal.last(name).is_some());
        }
        // Nothing of it is lost on the way through a program that appends.
        assert!(journal.refs().keys().all(|name| journal.last(name).is_some()));
    }
});
