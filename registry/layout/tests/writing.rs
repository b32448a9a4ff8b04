//! Layouts that are written.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::{fs, io};

use hab_layout::{Bundle, Error, IndexEntry, Layout, write};
use hab_oci::Digest;

fn bundle(bytes: &[&[u8]]) -> (Bundle, BTreeMap<Digest, Vec<u8>>) {
    let contents: BTreeMap<_, _> = bytes.iter().map(|b| (Digest::of(b), b.to_vec())).collect();
    let blobs = contents.iter().map(|(digest, b)| (digest.clone(), b.len() as u64)).collect();
    let entries = vec![IndexEntry::new("m/t", Digest::of(bytes[0]), bytes[0].len() as u64)];
    (Bundle { entries, blobs }, contents)
}

#[test]
fn the_same_bundle_makes_the_same_archive_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, contents) = bundle(&[b"one", b"two", &[7; 5000]]);
    let open = |digest: &Digest| Ok(io::Cursor::new(contents[digest].clone()));
    let [a, b, c] = ["a.tar", "b.tar", "c"].map(|name| folder.path().join(name));
    for to in [&a, &b, &c] {
        write(to, &bundle, open).unwrap();
        let before = fs::metadata(to).unwrap().modified().unwrap();
        let again = write(to, &bundle, open).unwrap_err();
        assert!(matches!(again, Error::Exists { .. }), "{again}");
        assert_eq!(fs::metadata(to).unwrap().modified().unwrap(), before);
        let layout = Layout::open(to).unwrap();
        assert_eq!(layout.entries(), bundle.entries);
        assert_eq!(layout.blob(&Digest::of(b"two")).unwrap().unwrap().size(), 3);
    }
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let mut names = Vec::new();
    for entry in tar::Archive::new(fs::File::open(&a).unwrap()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        names.push(entry.path().unwrap().display().to_string());
    }
    assert!(names.is_sorted() && names.len() == 7, "{names:?}");
}

#[test]
fn whoever_writes_other_bytes_or_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, contents) = bundle(&[b"one", b"two"]);
    for name in ["a.tar", "a"] {
        let to = folder.path().join(name);
        let flipped = write(&to, &bundle, |digest| {
            let mut bytes = contents[digest].clone();
            bytes[0] ^= 1;
            Ok(io::Cursor::new(bytes))
        });
        assert!(matches!(flipped, Err(Error::WrongDigest { .. })), "{flipped:?}");
        let short = write(&to, &bundle, |digest| Ok(io::Cursor::new(contents[digest][1..].to_vec())));
        assert!(short.is_err());
        let gone = write(&to, &bundle, |_| Err::<io::Empty, _>(io::ErrorKind::NotFound.into()));
        assert!(matches!(gone, Err(Error::Io { .. })), "{gone:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
