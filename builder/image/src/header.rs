//! Tar headers: POSIX ustar, preceded by a pax header where a value does not fit.
//!
//! They are written by hand and not by the `tar` crate, because every byte is part of an image's identity: another
//! version of a dependency must not change a diffID.

pub(crate) const BLOCK: usize = 512;

/// The end of an archive: two blocks of zeros, and no padding to a tape's record.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// An entry's metadata; names of users and groups are always empty.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    /// A symbolic link's target, a hard link's file, or nothing.
    pub(crate) target: &'a str,
}

/// The type flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File = b'0' as isize,
    HardLink = b'1' as isize,
    Link = b'2' as isize,
    Directory = b'5' as isize,
    Extended = b'x' as isize,
}

impl Header<'_> {
    /// The header's bytes, whole blocks.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut name = self.path.to_owned();
        if self.kind == Kind::Directory {
            name.push('/');
        }
        let mut records = Vec::new();
        // ustar allows only ASCII.
        let place = split(&name).filter(|_| name.is_ascii());
        if place.is_none() {
            record(&mut records, "path", &name);
        }
        let target = Some(self.target).filter(|t| t.len() <= 100 && t.is_ascii());
        if target.is_none() {
            record(&mut records, "linkpath", self.target);
        }
        let ids = [("uid", self.uid), ("gid", self.gid)];
        for (key, id) in ids.into_iter().filter(|(_, id)| octal(u64::from(*id), 7).is_none()) {
            record(&mut records, key, &id.to_string());
        }
        let size = octal(self.size, 11);
        if size.is_none() {
            record(&mut records, "size", &self.size.to_string());
        }
        let mut bytes = Vec::new();
        if !records.is_empty() {
            let extended = Header {
                path: "PaxHeader",
                kind: Kind::Extended,
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: records.len() as u64,
                mtime: self.mtime,
                target: "",
            };
            extended.block(("", "PaxHeader"), "", &mut bytes);
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        // A reader without pax sees a placeholder or nothing here, never another path's name.
        self.block(place.unwrap_or(("", "PaxHeader")), target.unwrap_or_default(), &mut bytes);
        bytes
    }

    fn block(&self, (prefix, name): (&str, &str), target: &str, out: &mut Vec<u8>) {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let number = |value: u64, digits| octal(value, digits).unwrap_or_else(|| "0".repeat(digits));
        put(0, name.as_bytes());
        put(100, number(u64::from(self.mode), 7).as_bytes());
        put(108, number(u64::from(self.uid), 7).as_bytes());
        put(116, number(u64::from(self.gid), 7).as_bytes());
        put(124, number(self.size, 11).as_bytes());
        put(136, number(self.mtime, 11).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind as u8]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        put(329, number(0, 7).as_bytes());
        put(337, number(0, 7).as_bytes());
        put(345, prefix.as_bytes());
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&block);
    }
}

/// The padding that brings `size` to whole blocks, in bytes.
pub(crate) fn padding(size: u64) -> usize {
    // The remainder is below 512.
    usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0)
}

/// The prefix (at most 155 bytes) and the name (at most 100), divided at a slash.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let bytes = path.as_bytes();
    // The name must not become empty: a directory's last slash is no place to divide.
    let last = bytes.len() - 1;
    let slash = (0..last.min(156)).rev().find(|at| bytes[*at] == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (name.len() <= 100 && !prefix.is_empty()).then_some((prefix, name))
}

fn octal(value: u64, digits: usize) -> Option<String> {
    let text = format!("{value:0digits$o}");
    (text.len() == digits).then_some(text)
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for length in 1..1200 {
            let mut bytes = Vec::new();
            record(&mut bytes, "path", &"x".repeat(length));
            let digits = bytes.iter().position(|b| *b == b' ').unwrap_or(0);
            assert_eq!(String::from_utf8_lossy(&bytes[..digits]), bytes.len().to_string());
        }
    }

    #[test]
    fn a_path_is_divided_at_a_slash_or_not_at_all() {
        let long = format!("{}/{}", "a".repeat(150), "b".repeat(100));
        assert_eq!(split(&long), Some((&long[..150], &long[151..])));
        assert_eq!(split(&format!("{}/", "a".repeat(120))), None);
        assert_eq!(split(&format!("{}/{}", "a".repeat(156), "b")), None);
        assert_eq!(split(&format!("a/{}", "b".repeat(101))), None);
    }
}
