//! Where the files of an oci-archive lie: one walk over its headers (POSIX.1-2017, "ustar Interchange Format" and "pax
//! Interchange Format", and GNU's long names), after which each file is read where it is.
//!
//! Our own, because a reader of archives in general would keep a long name of any length in memory, and would read links,
//! sparse files and second members of one name in ways of which a layout needs none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{Error, MEMBERS, Result};

const BLOCK: u64 = 512;
/// Bytes of what extends a header: a name, or pax records.
const EXTENSION: u64 = 64 << 10;

/// Offset and size of every file, by its path without a leading `./`.
pub(crate) type Members = BTreeMap<String, (u64, u64)>;

/// What came before a header and is for it.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    size: Option<u64>,
}

/// Bytes that can be read anywhere.
pub(crate) trait Bytes {
    fn length(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl Bytes for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..at + buffer.len()));
        buffer.copy_from_slice(rest.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct Walk<'a, B: ?Sized> {
    path: &'a Path,
    file: &'a B,
    length: u64,
    at: u64,
}

/// Finds the files of an archive. `path`: for what is said about it.
pub(crate) fn members<B: Bytes + ?Sized>(path: &Path, file: &B) -> Result<Members> {
    let length = file.length().map_err(Error::io("look at", path))?;
    let mut walk = Walk { path, file, length, at: 0 };
    let (mut members, mut extended) = (Members::new(), Extended::default());
    let mut headers = 0;
    while let Some(header) = walk.header()? {
        headers += 1;
        if headers > MEMBERS {
            return Err(Error::TooMany { what: "members", limit: MEMBERS });
        }
        let size = match extended.size.take() {
            Some(size) => size,
            None => number(&header[124..136]).ok_or_else(|| walk.damaged("a member without a size"))?,
        };
        let content = walk.at + BLOCK;
        if size > walk.length.saturating_sub(content) {
            return Err(walk.damaged("it is cut: a member ends behind the archive's end"));
        }
        match header[156] {
            b'L' => extended.name = Some(walk.text(content, size)?),
            b'x' => walk.records(content, size, &mut extended)?,
            // A comment for all that follows; nobody names files in it.
            b'g' => {}
            kind => {
                let name = extended.name.take().map_or_else(|| walk.name(&header), Ok)?;
                let folder = kind == b'5' || name.ends_with('/');
                let name = walk.clean(&name)?;
                match kind {
                    b'5' => {}
                    b'0' | 0 if folder => {}
                    b'0' | 0 => {
                        if name.is_empty() || members.insert(name.clone(), (content, size)).is_some() {
                            return Err(walk.member(&name, "that has no name, or is there twice"));
                        }
                    }
                    b'1' | b'2' => return Err(walk.member(&name, "that is a link")),
                    _ => return Err(walk.member(&name, "that is neither a file nor a folder")),
                }
            }
        }
        walk.at = content + size.div_ceil(BLOCK) * BLOCK;
    }
    Ok(members)
}

impl<B: Bytes + ?Sized> Walk<'_, B> {
    /// The next header; `None` at the archive's end, which is a block of zeros, or a missing one.
    fn header(&self) -> Result<Option<[u8; 512]>> {
        let mut block = [0; 512];
        if self.at >= self.length {
            return Ok(None);
        }
        if self.length - self.at < BLOCK {
            return Err(self.damaged("it is cut within a header"));
        }
        self.file.read_at(&mut block, self.at).map_err(Error::io("read", self.path))?;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        let field: u64 = block[148..156].iter().map(|b| u64::from(*b)).sum();
        if number(&block[148..156]) != Some(sum - field + 8 * u64::from(b' ')) {
            return Err(self.damaged("this is no header of a tar archive"));
        }
        Ok(Some(block))
    }

    fn name(&self, header: &[u8; 512]) -> Result<String> {
        let text = |field: &[u8]| {
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).map(str::to_owned)
        };
        let bad = |_| self.damaged("a member's name is not UTF-8");
        let name = text(&header[..100]).map_err(bad)?;
        // GNU's own format has times where ustar has a prefix.
        let prefix = if &header[257..263] == b"ustar\0" {
            text(&header[345..500]).map_err(bad)?
        } else {
            String::new()
        };
        Ok(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }

    /// The content of a member that extends the next one.
    fn content(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION {
            return Err(self.damaged("a member's name or its pax records are too long"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file.read_at(&mut bytes, at).map_err(Error::io("read", self.path))?;
        Ok(bytes)
    }

    fn text(&self, at: u64, size: u64) -> Result<String> {
        let mut bytes = self.content(at, size)?;
        bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
        String::from_utf8(bytes).map_err(|_| self.damaged("a member's name is not UTF-8"))
    }

    /// `length key=value\n`, again and again.
    fn records(&self, at: u64, size: u64, extended: &mut Extended) -> Result<()> {
        let bytes = self.content(at, size)?;
        let bad = || self.damaged("pax records that do not read");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let space = rest.iter().position(|b| *b == b' ').ok_or_else(bad)?;
            let length: usize =
                std::str::from_utf8(&rest[..space]).ok().and_then(|n| n.parse().ok()).ok_or_else(bad)?;
            let record = rest.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let value = std::str::from_utf8(&record[equals + 1..]);
            match &record[..equals] {
                b"path" => extended.name = Some(value.map_err(|_| bad())?.to_owned()),
                b"size" => extended.size = Some(value.ok().and_then(|n| n.parse().ok()).ok_or_else(bad)?),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(self.damaged("a sparse member; a layout has none"));
                }
                _ => {}
            }
            rest = &rest[length..];
        }
        Ok(())
    }

    /// A path within the layout: `./` before it, and `/` behind it, mean nothing.
    fn clean(&self, name: &str) -> Result<String> {
        if name.starts_with('/') || name.split('/').any(|part| part == "..") {
            return Err(self.member(name, "that leads out of it"));
        }
        let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        Ok(parts.join("/"))
    }

    fn damaged(&self, why: &'static str) -> Error {
        Error::Archive { path: self.path.to_owned(), at: self.at, why }
    }

    fn member(&self, name: &str, why: &'static str) -> Error {
        Error::Member { path: self.path.to_owned(), member: name.chars().take(200).collect(), why }
    }
}

/// A number in a header: octal digits, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first().map(|(first, rest)| (*first, rest)) {
        let (high, low) = rest.split_at(rest.len().checked_sub(8)?);
        let zeros = high.iter().all(|b| *b == 0);
        return zeros.then(|| low.iter().fold(0, |value, b| value << 8 | u64::from(*b)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    if !digits.bytes().all(|b| matches!(b, b'0'..=b'7')) {
        return None;
    }
    if digits.is_empty() { None } else { u64::from_str_radix(digits, 8).ok() }
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
            header.set_size(bytes.len() as u64);
            // The crate refuses to write what is tested here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
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
            ("", b'L', format!("{long}\0").as_bytes()),
            ("cut", b'0', b"two"),
            ("p", b'x', &pax("path", "blobs//sha256/./a")),
            ("short", b'0', b"three"),
        ]);
        let found = read(&bytes).unwrap();
        let text = |name: &str| {
            let (at, size) = found[name];
            std::str::from_utf8(&bytes[usize::try_from(at).unwrap()..][..usize::try_from(size).unwrap()])
                .unwrap()
        };
        assert_eq!((text("oci-layout"), text(&long), text("blobs/sha256/a")), ("one", "two", "three"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_no_layout_has_is_refused_and_says_what_it_is() {
        for (entries, words) in [
            (vec![("../x", b'0', b"a".as_slice())], "leads out of it"),
            (vec![("a/../../x", b'5', b"")], "leads out of it"),
            (vec![("/etc/passwd", b'0', b"a")], "leads out of it"),
            (vec![("x", b'2', b"")], "is a link"),
            (vec![("x", b'1', b"")], "is a link"),
            (vec![("x", b'3', b"")], "neither a file nor a folder"),
            (vec![("x", b'S', b"")], "neither a file nor a folder"),
            (vec![("x", b'0', b"a"), ("./x", b'0', b"b")], "twice"),
            (vec![("", b'0', b"a")], "no name"),
            (vec![("p", b'x', b"9999 path=x\n"), ("x", b'0', b"a")], "pax records"),
            (vec![("p", b'x', &pax("path", "../x")), ("x", b'0', b"a")], "leads out of it"),
            (vec![("p", b'x', &pax("size", "-1")), ("x", b'0', b"a")], "pax records"),
            (vec![("p", b'x', &pax("size", "999999999999")), ("x", b'0', b"a")], "it is cut"),
            (vec![("p", b'x', &pax("GNU.sparse.major", "1")), ("x", b'0', b"a")], "sparse"),
            (vec![("", b'L', &[b'x'; 70_000]), ("x", b'0', b"a")], "too long"),
            (vec![("", b'L', b"\xff"), ("x", b'0', b"a")], "UTF-8"),
        ] {
            let said = read(&archive(&entries)).unwrap_err().to_string();
            assert!(said.contains(words), "{words:?} not in {said:?}");
        }
    }

    #[test]
    fn a_size_that_would_overflow_ends_behind_the_archive() {
        let mut bytes = archive(&[("x", b'0', b"a")]);
        bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        assert!(read(&bytes).unwrap_err().to_string().contains("it is cut"));
    }

    proptest! {
        #[test]
        fn a_cut_archive_is_refused_or_lacks_its_end(at in 0usize..4096) {
            let bytes = archive(&[("a", b'0', &[7; 700]), ("b", b'0', &[8; 700])]);
            if let Ok(found) = read(&bytes[..at.min(bytes.len())]) {
                prop_assert!(found.values().all(|(from, size)| from + size <= at as u64));
            }
        }

        #[test]
        fn bytes_from_outside_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..1100), kind in any::<u8>()) {
            let _ = read(&bytes);
            // Past the checksum, which chance does not find.
            if bytes.len() >= 512 {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[..512]);
                header.as_mut_bytes()[156] = kind;
                header.set_size(u64::from(kind));
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
                if let Ok(found) = read(&bytes) {
                    prop_assert!(found.values().all(|(at, size)| at + size <= bytes.len() as u64));
                }
            }
        }
    }
}
