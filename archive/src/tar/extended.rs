//! Headers that extend the next one: pax records (POSIX.1-2017, "pax Extended Header") and GNU's long names.

use super::entry::{Kind, Outline};
use super::header::Header;
use crate::{Exceeded, Limits, Measure, Problem};

/// What earlier headers said about the next entry.
#[derive(Default)]
pub(super) struct Extended {
    /// The path from a GNU long name header.
    pub(super) name: Option<Vec<u8>>,
    /// The link target from a GNU long link header.
    pub(super) link: Option<Vec<u8>>,
    /// The records of a pax header.
    pub(super) records: Option<Records>,
}

/// The records of one pax header that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
    /// Whether there is an `hdrcharset` record, which says how to read the others.
    charset: bool,
}

const RECORD: Problem = Problem::Malformed("a pax record is malformed");

impl Records {
    /// Parses records of the form `LENGTH KEY=VALUE\n`, with nothing between them.
    pub(super) fn parse(mut bytes: &[u8], limits: &Limits) -> Result<Self, Problem> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or(RECORD)?;
            let length = decimal(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(RECORD)?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(RECORD);
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').filter(|at| *at > 0).ok_or(RECORD)?;
            records.set(&record[..equals], &record[equals + 1..], limits)?;
            bytes = &bytes[length..];
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Problem> {
        let once = |given: bool| {
            if given { Err(Problem::Malformed("a pax header has the same key twice")) } else { Ok(()) }
        };
        match key {
            b"path" => {
                once(self.path.is_some())?;
                self.path = Some(name(value, Measure::Name, limits.name)?);
            }
            b"linkpath" => {
                once(self.link.is_some())?;
                self.link = Some(name(value, Measure::Link, limits.link)?);
            }
            b"size" => {
                once(self.size.is_some())?;
                self.size = Some(decimal(value).ok_or(Problem::Malformed("a pax size is not a number"))?);
            }
            b"mtime" => {
                once(self.mtime.is_some())?;
                self.mtime = Some(time(value).ok_or(Problem::Malformed("a pax time is not a number"))?);
            }
            b"hdrcharset" if matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => self.charset = true,
            b"hdrcharset" => return Err(Problem::Malformed("a pax header is in another character set")),
            b"SCHILY.realsize" | b"SCHILY.filetype" => return Err(SPARSE),
            _ if key.starts_with(b"GNU.sparse.") => return Err(SPARSE),
            _ if key.starts_with(b"GNU.volume.") => return Err(VOLUME),
            _ => {}
        }
        Ok(())
    }

    /// Refuses a global header that sets anything. git-archive writes a global comment, which is harmless. A path, a
    /// size or a time for all entries can only be an attack, and readers differ in how they treat it.
    pub(super) fn global(&self) -> Result<(), &'static str> {
        if *self == Self::default() {
            Ok(())
        } else {
            Err("a global header names a path, a link, a size or a time")
        }
    }
}

const SPARSE: Problem = Problem::Malformed("it is a sparse file, which is not supported");
const VOLUME: Problem =
    Problem::Malformed("it is a part of an archive in several volumes, which is not supported");

fn name(value: &[u8], measure: Measure, limit: u64) -> Result<Vec<u8>, Problem> {
    if value.len() as u64 > limit {
        return Err(Problem::Exceeded(Exceeded { measure, limit }));
    }
    if value.is_empty() || value.contains(&0) {
        return Err(Problem::Malformed("a pax name is empty or has a NUL byte in it"));
    }
    Ok(value.to_vec())
}

impl Extended {
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.records.is_none()
    }

    /// The entry that `header` begins, `size` being the size in it; or what is wrong, with the entry's path.
    pub(super) fn outline(
        self,
        header: &Header,
        size: u64,
        limits: &Limits,
    ) -> Result<Outline, (Option<Vec<u8>>, Problem)> {
        let records = self.records.unwrap_or_default();
        let path = one(self.name, records.path, Problem::Malformed("it has two different names"));
        let path = path.map_err(|problem| (None, problem))?.unwrap_or_else(|| header.name());
        let link = one(self.link, records.link, Problem::Malformed("it has two different link targets"));
        let said = (records.size, records.mtime);
        match link.and_then(|link| outline(header, &path, link, (size, said), limits)) {
            Ok((kind, size, mtime, mode)) => Ok(Outline { path, kind, size, mtime, mode }),
            Err(problem) => Err((Some(path), problem)),
        }
    }
}

/// A value from GNU's header or pax's; if both have one, they must agree.
fn one(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, differ: Problem) -> Result<Option<Vec<u8>>, Problem> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(differ),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

type Said = (Option<u64>, Option<i64>);

fn outline(
    header: &Header,
    path: &[u8],
    link: Option<Vec<u8>>,
    (size, (pax_size, pax_mtime)): (u64, Said),
    limits: &Limits,
) -> Result<(Kind, u64, i64, u32), Problem> {
    let bad = Problem::Malformed;
    if path.is_empty() {
        return Err(bad("it has no name"));
    }
    if path.len() as u64 > limits.name {
        return Err(Problem::Exceeded(Exceeded { measure: Measure::Name, limit: limits.name }));
    }
    let depth = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).count();
    if depth as u64 > limits.depth {
        return Err(Problem::Exceeded(Exceeded { measure: Measure::Depth, limit: limits.depth }));
    }
    let size = match pax_size {
        None => size,
        Some(pax) if pax == size => size,
        // Octal digits cannot hold a size this large: the pax record has it, and the header has something else.
        Some(pax) if pax > Header::LARGEST && pax <= 1 << 60 => pax,
        // A reader that believed the other size would find other entries after this one.
        Some(_) => return Err(bad("two different sizes are declared")),
    };
    let target = || match link.unwrap_or_else(|| header.link().to_vec()) {
        target if target.is_empty() => Err(bad("it is a link without a target")),
        target if target.len() as u64 > limits.link => {
            Err(Problem::Exceeded(Exceeded { measure: Measure::Link, limit: limits.link }))
        }
        target => Ok(target),
    };
    let folder = path.last() == Some(&b'/');
    let kind = match header.kind() {
        // As before POSIX, which added a type for directories.
        0 | b'0' if folder => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink(target()?),
        b'2' => Kind::Link(target()?),
        b'3' | b'4' => Kind::Special("device"),
        b'5' => Kind::Directory,
        b'6' => Kind::Special("fifo"),
        b'S' => return Err(SPARSE),
        b'M' => return Err(VOLUME),
        b'V' => return Err(bad("it is a volume's label, which is not supported")),
        b'D' => return Err(bad("it is a listing of an incremental backup, which is not supported")),
        b'N' | b'X' => return Err(bad("it is an extended header of an old kind, which is not supported")),
        _ => return Err(bad("it is of an unknown type")),
    };
    if size != 0 && kind != Kind::File {
        return Err(bad("it has content but is not a file"));
    }
    let mode = header.mode().map_err(bad)?;
    let mtime = header.mtime().map_err(bad)?;
    Ok((kind, size, pax_mtime.unwrap_or(mtime), mode))
}

/// A decimal number of digits alone: anything more, some parsers accept and others do not.
fn decimal(digits: &[u8]) -> Option<u64> {
    let leading = digits.len() > 1 && digits[0] == b'0';
    if digits.is_empty() || leading || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// A time in whole seconds; a fraction is cut off.
fn time(value: &[u8]) -> Option<i64> {
    let (sign, value) = match value.split_first() {
        Some((b'-', rest)) => (-1, rest),
        _ => (1, value),
    };
    let mut parts = value.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    fraction.iter().all(u8::is_ascii_digit).then_some(sign * whole)
}
