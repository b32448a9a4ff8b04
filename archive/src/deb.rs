//! Debian binary packages, deb(5): an `ar` archive of `debian-binary`, `control.tar` and `data.tar`.

use crate::ar::{HEADER, MAGIC, Member};
use crate::{Error, Problem, Source};

/// Where a member's content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
}

const EXPECTED: [&str; 3] = ["debian-binary", "control.tar", "data.tar"];
const MISSING: [&str; 3] =
    ["there is no debian-binary member", "there is no control.tar member", "there is no data.tar member"];
/// Longer than "2.0\n", and than any version to come.
const VERSION: u64 = 64;
/// Real packages have three members; one more is a signature.
const MEMBERS: usize = 32;

/// Finds the data member of a package of `length` bytes, of which `source` gives all from the first on.
///
/// The whole outline is walked, to the last byte: deb(5) lets a name that begins with an underscore stand between the
/// second and the third member and after it; anything else is a package that two programs could read in two ways.
pub fn data(source: &mut impl Source, length: u64) -> Result<Span, Error> {
    let bad = |offset, why| Error::malformed(offset, why);
    let cut = |offset, inside| Error::new(offset, Problem::Truncated(inside));
    let mut magic = [0; MAGIC.len()];
    source.read_exact(&mut magic).map_err(|e| Error::read(0, "the ar header", e))?;
    if magic != *MAGIC {
        return Err(bad(0, "it does not begin as an ar archive does"));
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
        // A size has ten digits, so no sum overflows. Checked here because a plain data.tar could end early unnoticed.
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
            return Err(bad(offset, why.unwrap_or("a member follows data.tar that is none of deb(5)")));
        }
        let read = if step == 0 { version(source, offset, member.size)? } else { 0 };
        let next = member.next(content);
        // The byte that pads the last member may be missing: old tools wrote it only between members.
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

/// Checks the format's version, and returns how many bytes were read for that.
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
