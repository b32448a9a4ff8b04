//! Debian binary packages, deb(5): an `ar` archive of `debian-binary`, `control.tar` and `data.tar`.

use crate::ar::{HEADER, MAGIC, Member};
use crate::{Error, Problem, Source};

/// Where in the archive a member's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The offset of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

const EXPECTED: [&str; 3] = ["debian-binary", "control.tar", "data.tar"];
const MISSING: [&str; 3] =
    ["there is no debian-binary member", "there is no control.tar member", "there is no data.tar member"];
/// The longest version text that is read; longer than "2.0\n" and than any version to come.
const VERSION: u64 = 64;
/// The most members that are read. Real packages have three; a signature makes four.
const MEMBERS: usize = 32;

/// Finds the data member of a package of `length` bytes; `source` starts at the package's first byte.
///
/// Walks over every member to the last byte. deb(5) allows a member whose name begins with an underscore between the
/// second and the third member and after the third. With any other extra member, two programs could read the package
/// differently, so it is an error.
pub fn data(source: &mut impl Source, length: u64) -> Result<Span, Error> {
    let bad = |offset, why| Error::malformed(offset, why);
    let cut = |offset, inside| Error::new(offset, Problem::Truncated(inside));
    let mut magic = [0; MAGIC.len()];
    source.read_exact(&mut magic).map_err(|e| Error::read(0, "the ar header", e))?;
    if magic != *MAGIC {
        return Err(bad(0, "it does not begin with the magic of an ar archive"));
    }
    let (mut offset, mut found) = (magic.len() as u64, Vec::new());
    for _ in 0..MEMBERS {
        if offset >= length {
            break;
        }
        let mut header = [0; HEADER];
        source.read_exact(&mut header).map_err(|e| Error::read(offset, "a member's header", e))?;
        let member = Member::parse(&header).map_err(|why| bad(offset, why))?;
        let content = offset + HEADER as u64;
        // A size has ten digits, so no sum overflows. The check stands here because a plain data.tar that ends early
        // could go unnoticed.
        if content + member.size > length {
            return Err(cut(offset, "a member"));
        }
        let name = member.name.trim_end_matches('/');
        let step = found.len();
        let is = |expected: &&str| {
            name.strip_prefix(*expected)
                .is_some_and(|rest| rest.is_empty() || step > 0 && rest.starts_with('.'))
        };
        if EXPECTED.get(step).is_some_and(is) {
            found.push(Span { offset: content, size: member.size });
        } else if step < 2 || !name.starts_with('_') {
            let why = MISSING.get(step).copied();
            return Err(bad(offset, why.unwrap_or("a member follows data.tar that deb(5) does not allow")));
        }
        let read = if step == 0 { version(source, offset, member.size)? } else { 0 };
        let next = member.next(content);
        // The padding byte of the last member may be missing: old tools wrote padding only between members.
        let end = next.min(length);
        source.skip(end - content - read).map_err(|e| Error::read(offset, "a member", e))?;
        offset = next;
    }
    if offset < length {
        return Err(bad(offset, "it has too many members"));
    }
    let why = MISSING.get(found.len()).copied();
    found.get(2).copied().ok_or_else(|| bad(offset, why.unwrap_or_default()))
}

/// Checks the format's version, and returns how many bytes it read.
fn version(source: &mut impl Source, offset: u64, size: u64) -> Result<u64, Error> {
    if size > VERSION {
        return Err(Error::malformed(offset, "the format version is too long"));
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
    source.read_exact(&mut text).map_err(|e| Error::read(offset, "a member", e))?;
    if text.starts_with(b"2.") {
        Ok(size)
    } else {
        Err(Error::malformed(offset, "the format version is not 2"))
    }
}
