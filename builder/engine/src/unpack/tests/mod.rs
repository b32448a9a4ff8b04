//! Tests unpacking with corrupt archives. They are written byte by byte, because the `tar` crate's builder refuses
//! them.
#![allow(clippy::unwrap_used, missing_docs)]

mod formats;
mod hostile;
mod many;
mod outside;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::*;

static RUN: AtomicBool = AtomicBool::new(false);

/// One tar entry: a header and its padded content.
struct Entry<'a> {
    path: &'a [u8],
    kind: u8,
    mode: u32,
    mtime: u64,
    link: &'a [u8],
    content: &'a [u8],
}

fn file<'a>(path: &'a str, content: &'a str) -> Entry<'a> {
    Entry {
        path: path.as_bytes(),
        kind: b'0',
        mode: 0o644,
        mtime: 1000,
        link: b"",
        content: content.as_bytes(),
    }
}

fn directory(path: &str) -> Entry<'_> {
    Entry { kind: b'5', mode: 0o755, ..file(path, "") }
}

fn link<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry { kind: b'2', link: target.as_bytes(), ..file(path, "") }
}

fn hard_link<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry { kind: b'1', link: target.as_bytes(), ..file(path, "") }
}

/// Appends an entry; values that do not fit into a header go into a pax header first.
fn append(tar: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut records = Vec::new();
    for (key, value) in [("path", entry.path), ("linkpath", entry.link)] {
        if value.len() > 100 {
            let tail = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let length = (1..9999).find(|l| *l == tail.len() + l.to_string().len()).unwrap();
            records.extend_from_slice(length.to_string().as_bytes());
            records.extend_from_slice(&tail);
        }
    }
    if !records.is_empty() {
        append(tar, &Entry { path: b"pax", kind: b'x', mode: 0, mtime: 0, link: b"", content: &records });
    }
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &entry.path[..entry.path.len().min(100)]);
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, b"0000000\x000000000\0");
    put(124, format!("{:011o}\0", entry.content.len()).as_bytes());
    put(136, format!("{:011o}\0", entry.mtime).as_bytes());
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(157, &entry.link[..entry.link.len().min(100)]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&block);
    tar.extend_from_slice(entry.content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        append(&mut tar, entry);
    }
    tar.extend_from_slice(&[0; 1024]);
    tar
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = ar::MAGIC.to_vec();
    for (name, content) in members {
        out.extend_from_slice(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).as_bytes(),
        );
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

fn deb(data: &[u8]) -> Vec<u8> {
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"unread"), ("data.tar.xz", data)])
}

/// A folder for archives and, beside them, the root and a file that must not be reached.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("outside"), "untouched").unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn archive(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn unpack(&self, bytes: &[u8]) -> Result<Summary, UnpackError> {
        self.unpack_with(bytes, &Options::default())
    }

    fn unpack_with(&self, bytes: &[u8], options: &Options) -> Result<Summary, UnpackError> {
        unpack_archive("a.tar", &self.archive("a.tar", bytes), &self.root(), options, &RUN)
    }

    fn packages(&self, packages: &[Vec<u8>], options: &Options) -> Result<Summary, UnpackError> {
        let packages: Vec<_> = packages
            .iter()
            .enumerate()
            .map(|(at, bytes)| (format!("p{at}"), self.archive(&format!("p{at}.deb"), bytes)))
            .collect();
        unpack_packages(&packages, &self.root(), options, &|_| {}, &RUN)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Asserts that nothing beside the root was made or changed.
    fn assert_nothing_outside(&self) {
        assert_eq!(fs::read_to_string(self.folder.path().join("outside")).unwrap(), "untouched");
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let ours = name == "outside" || name == "root" || name.contains(".tar") || name.contains(".deb");
            assert!(ours, "{name} was made outside");
        }
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn mtime(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).unwrap().mtime()
}
