//! Finds the files of an archive: [`hab_archive`] walks once over the headers; afterwards each file is read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hab_archive::{Kind, Limits, Problem, Source, Tar, shown};

use crate::{BLOB, Error, MEMBERS, Result};

/// The limits for an oci-archive or an archive of `docker save`.
const LIMITS: Limits = Limits {
    name: 1024,
    link: 1024,
    depth: 16,
    extension: 64 << 10,
    entries: MEMBERS as u64,
    entry: BLOB,
    total: 64 * BLOB,
    ..Limits::ORDINARY
};

/// The most links that are followed to a file: `docker save` writes one.
const LINKS: usize = 4;

/// The members of an archive, by their paths without a leading `./`.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The offset and size of every file.
    pub(crate) files: BTreeMap<String, (u64, u64)>,
    /// The targets of symbolic links, as the archive has them.
    pub(crate) links: BTreeMap<String, String>,
}

impl Members {
    /// Finds a file by its path or through links, which cannot leave the archive.
    pub(crate) fn find(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = path.to_owned();
        for _ in 0..=LINKS {
            if let Some(found) = self.files.get(&path) {
                return Some(*found);
            }
            path = beside(&path, self.links.get(&path)?)?;
        }
        None
    }
}

/// The path that a link at `path` leads to; `None` if it leaves the archive.
fn beside(path: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<_> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Bytes that can be read at any offset.
pub(crate) trait Bytes {
    fn length(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }
}

impl Bytes for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        rest.read(buffer)
    }
}

/// A reader from an offset that skips content without reading it.
struct Walk<'a, B: ?Sized> {
    bytes: &'a B,
    length: u64,
    at: u64,
}

impl<B: Bytes + ?Sized> Read for Walk<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<B: Bytes + ?Sized> Source for Walk<'_, B> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.length);
        self.at = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

/// Finds the files of an archive. Errors name `path`.
pub(crate) fn members<B: Bytes + ?Sized>(path: &Path, bytes: &B) -> Result<Members> {
    let failed = |problem: hab_archive::Error| match problem.problem {
        Problem::Read(source) => Error::io("read", path)(source),
        _ => Error::Archive { path: path.to_owned(), problem },
    };
    let length = bytes.length().map_err(Error::io("look at", path))?;
    let mut tar = Tar::new(Walk { bytes, length, at: 0 }, &LIMITS);
    let mut members = Members::default();
    while let Some(entry) = tar.next_entry().map_err(failed)? {
        let odd = |why| Error::Member { path: path.to_owned(), member: shown(&entry.path), why };
        let name = clean(&entry.path).map_err(odd)?;
        match entry.kind {
            Kind::Directory => continue,
            Kind::File | Kind::Link(_) => {}
            Kind::HardLink(_) => return Err(odd("that is a link")),
            Kind::Special(_) => return Err(odd("that is neither a file nor a folder")),
        }
        if name.is_empty() || members.files.contains_key(&name) || members.links.contains_key(&name) {
            return Err(odd("that has no name, or is there twice"));
        }
        if let Kind::Link(target) = entry.kind {
            let target = String::from_utf8(target).ok().filter(|target| beside(&name, target).is_some());
            let leads_out = "that is a link, and leads out of it";
            members.links.insert(
                name,
                target.ok_or_else(|| Error::Member {
                    path: path.to_owned(),
                    member: shown(&entry.path),
                    why: leads_out,
                })?,
            );
        } else {
            members.files.insert(name, (entry.offset, entry.size));
        }
    }
    tar.finish().map_err(failed)?;
    Ok(members)
}

/// Normalises a path within the archive: `.` and empty parts mean nothing.
fn clean(name: &[u8]) -> Result<String, &'static str> {
    let name = str::from_utf8(name).map_err(|_| "whose name is not UTF-8")?;
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return Err("that leads out of it");
    }
    let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(*kind));
            // For a link, `bytes` is its target.
            let content: &[u8] = if matches!(kind, b'1' | b'2') { b"" } else { bytes };
            if content.is_empty() {
                header.as_mut_bytes()[157..157 + bytes.len()].copy_from_slice(bytes);
            }
            header.set_size(content.len() as u64);
            // Write the name directly, because the crate tar refuses these names.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Members> {
        members(Path::new("a.tar"), bytes)
    }

    fn pax(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        // The length counts its own digits; two are enough here.
        format!("{}{rest}", rest.len() + 2).into_bytes()
    }

    #[test]
    fn files_are_found_where_they_are_whatever_is_before_their_names() {
        let long = "x".repeat(300);
        let bytes = archive(&[
            ("./", b'5', b""),
            ("././oci-layout", b'0', b"one"),
            ("blobs/", b'0', b""),
            ("ignored", b'g', b""),
            ("long", b'L', format!("{long}\0").as_bytes()),
            ("cut", b'0', b"two"),
            ("p", b'x', &pax("path", "blobs//sha256/./a")),
            ("short", b'0', b"three"),
        ]);
        let found = read(&bytes).unwrap();
        let text = |name: &str| {
            let (at, size) = found.find(name).unwrap();
            std::str::from_utf8(&bytes[usize::try_from(at).unwrap()..][..usize::try_from(size).unwrap()])
                .unwrap()
        };
        assert_eq!((text("oci-layout"), text(&long), text("blobs/sha256/a")), ("one", "two", "three"));
        assert_eq!(found.files.len(), 3);
    }

    #[test]
    fn what_no_layout_has_is_refused_and_says_what_it_is() {
        for (entries, words) in [
            (vec![("../x", b'0', b"a".as_slice())], "leads out of it"),
            (vec![("a/../../x", b'5', b"")], "leads out of it"),
            (vec![("/etc/passwd", b'0', b"a")], "leads out of it"),
            (vec![("x", b'2', b"/etc/passwd")], "leads out of it"),
            (vec![("a/x", b'2', b"../../etc/passwd")], "leads out of it"),
            (vec![("x", b'1', b"y")], "is a link"),
            (vec![("x", b'3', b"")], "neither a file nor a folder"),
            (vec![("x", b'S', b"")], "sparse"),
            (vec![("x", b'0', b"a"), ("./x", b'0', b"b")], "twice"),
            (vec![("x", b'0', b"a"), ("./x", b'2', b"b")], "twice"),
            (vec![("x", b'2', b"a"), ("./x", b'2', b"b")], "twice"),
            (vec![("", b'0', b"a")], "no name"),
            (vec![("./.", b'0', b"a")], "no name"),
            (vec![("p", b'x', b"9999 path=x\n"), ("x", b'0', b"a")], "pax record"),
            (vec![("p", b'x', &pax("path", "../x")), ("x", b'0', b"a")], "leads out of it"),
            (vec![("p", b'x', &pax("size", "-1")), ("x", b'0', b"a")], "not a number"),
            (vec![("p", b'x', &pax("size", "999999999999")), ("x", b'0', b"a")], "larger than"),
            (vec![("p", b'x', &pax("GNU.sparse.major", "1")), ("x", b'0', b"a")], "sparse"),
            (vec![("l", b'L', &[b'x'; 70_000]), ("x", b'0', b"a")], "longer than 1024"),
            (vec![("l", b'L', b"\xff\0"), ("x", b'0', b"a")], "UTF-8"),
        ] {
            let said = read(&archive(&entries)).unwrap_err().to_string();
            assert!(said.contains(words), "{words:?} not in {said:?}");
        }
    }

    #[test]
    fn links_lead_to_files_of_the_archive_or_nowhere() {
        let bytes = archive(&[
            ("a/layer.tar", b'0', b"layer"),
            ("b/layer.tar", b'2', b"../a/layer.tar"),
            ("c/layer.tar", b'2', b"../b/./layer.tar"),
            ("loop", b'2', b"loop"),
            ("absent", b'2', b"b/nothing"),
            ("folder", b'2', b"a"),
        ]);
        let found = read(&bytes).unwrap();
        let layer = found.find("a/layer.tar");
        assert!(layer.is_some() && found.find("b/layer.tar") == layer && found.find("c/layer.tar") == layer);
        assert!(
            ["loop", "absent", "folder", "folder/layer.tar"].iter().all(|name| found.find(name).is_none())
        );
    }

    #[test]
    fn a_member_ends_within_the_archive() {
        let whole = archive(&[("a", b'0', &[7; 700]), ("b", b'0', &[8; 700])]);
        for cut in [600, 1536, 2048, 3000] {
            let said = read(&whole[..cut]).unwrap_err().to_string();
            assert!(said.contains("ends in the middle of"), "{said}");
        }
        let said = read(&[whole, b"more".to_vec()].concat()).unwrap_err().to_string();
        assert!(said.contains("bytes follow the archive's end"), "{said}");
    }

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..1100), kind in any::<u8>()) {
            let _ = read(&bytes);
            // Fix the checksum, because random bytes never have a right one.
            if bytes.len() >= 512 {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[..512]);
                header.as_mut_bytes()[156] = kind;
                header.set_size(u64::from(kind));
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
                if let Ok(found) = read(&bytes) {
                    prop_assert!(found.files.values().all(|(at, size)| at + size <= bytes.len() as u64));
                }
            }
        }
    }
}
