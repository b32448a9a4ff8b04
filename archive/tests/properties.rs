//! What is written by another program, or by chance.
#![allow(clippy::unwrap_used, missing_docs)]

mod hand;

use std::io::Read as _;

use hab_archive::{Kind, Limits, Tar};
use proptest::prelude::*;

const LIMITS: Limits = Limits { entries: 50, entry: 1 << 20, total: 1 << 20, ..Limits::ORDINARY };

/// Path and content, as the `tar` crate writes them: with GNU's long names.
fn written(files: &[(String, Vec<u8>)], links: &[(String, String)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    for (path, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, path, target).unwrap();
    }
    tar.into_inner().unwrap()
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,9}(/[a-z]{1,9}){0,3}", "[a-z]{90,240}", "([a-z]{30}/){3,9}[é-ü]{1,20}"]
}

proptest! {
    #[test]
    fn what_another_program_writes_is_read_back(
        files in proptest::collection::vec((path(), proptest::collection::vec(any::<u8>(), 0..1200)), 0..6),
        links in proptest::collection::vec((path(), path()), 0..4),
    ) {
        let bytes = written(&files, &links);
        let mut tar = Tar::new(bytes.as_slice(), &LIMITS);
        for (path, content) in &files {
            let entry = tar.next_entry().unwrap().unwrap();
            prop_assert_eq!((entry.text(), &entry.kind), (Some(path.as_str()), &Kind::File));
            prop_assert_eq!(&tar.whole(1 << 20).unwrap(), content);
        }
        for (path, target) in &links {
            let entry = tar.next_entry().unwrap().unwrap();
            prop_assert_eq!((entry.text(), &entry.kind), (Some(path.as_str()), &Kind::Link(target.clone().into_bytes())));
        }
        prop_assert!(tar.next_entry().unwrap().is_none());
        tar.finish().unwrap();
    }

    #[test]
    fn a_cut_archive_is_an_error_wherever_it_is_cut(
        files in proptest::collection::vec((path(), proptest::collection::vec(any::<u8>(), 0..1200)), 1..4),
        at in any::<proptest::sample::Index>(),
    ) {
        let bytes = written(&files, &[]);
        // The second block of the end marker may be missing.
        let cut = &bytes[..at.index(bytes.len() - 1023)];
        let mut tar = Tar::new(cut, &LIMITS);
        let error = loop {
            match tar.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was read to an end"),
                Err(error) => break error,
            }
        };
        prop_assert!(error.offset <= bytes.len() as u64, "{}", error);
    }

    #[test]
    fn what_is_accepted_of_damaged_bytes_the_other_reader_sees_too(
        files in proptest::collection::vec((path(), proptest::collection::vec(any::<u8>(), 0..600)), 1..4),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = written(&files, &[("l".to_owned(), "t".to_owned())]);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
            // The checksum would refuse it at once.
            let block = &mut bytes[at / 512 * 512..][..512];
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let mut tar = Tar::new(bytes.as_slice(), &LIMITS);
        let mut ours = Vec::new();
        while let Ok(Some(entry)) = tar.next_entry() {
            let Ok(content) = tar.whole(1 << 20) else { break };
            if !matches!(entry.kind, Kind::Special(_)) {
                ours.push((entry.path, content));
            }
        }
        if tar.finish().is_ok() {
            let mut other = tar::Archive::new(bytes.as_slice());
            let mut theirs = Vec::new();
            for entry in other.entries().unwrap().map_while(Result::ok) {
                let mut entry = entry;
                let mut content = Vec::new();
                let _ = entry.read_to_end(&mut content);
                let kind = entry.header().entry_type();
                if !kind.is_character_special() && !kind.is_block_special() && !kind.is_fifo() {
                    theirs.push((entry.path_bytes().into_owned(), content));
                }
            }
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), kind in any::<u8>()) {
        let mut first = hand::header("n", kind, bytes.len() as u64 / 2).bytes();
        first.extend_from_slice(&bytes);
        for bytes in [bytes.as_slice(), &first] {
            let mut tar = Tar::new(bytes, &LIMITS);
            while let Ok(Some(entry)) = tar.next_entry() {
                prop_assert!(entry.offset <= bytes.len() as u64);
            }
            let _ = hab_archive::deb::data(&mut &*bytes, bytes.len() as u64);
        }
    }
}
