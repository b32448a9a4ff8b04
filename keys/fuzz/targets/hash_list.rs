//! A list of hashes: what reads is written back the same, line by line.
#![no_main]
#![allow(missing_docs)]

use hab_keys::HashList;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(list) = HashList::parse(bytes) {
        let lines = list.entries().iter().map(|(name, digest)| format!("{}  {name}\n", digest.hex()));
        let text: Vec<_> = lines.collect();
        // Of a list whose every name is contested, nothing is said.
        if !text.is_empty() {
            let again = HashList::parse(text.concat().as_bytes());
            assert_eq!(again.as_ref().map(HashList::entries), Ok(list.entries()));
        }
    }
});
