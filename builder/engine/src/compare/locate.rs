//! Where two files first differ, in words that lead to the cause.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::Path;

use object::{Object, ObjectSection};

use super::tree::open;
use crate::unpack::ar::{self, Member};

/// The first differing byte of two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The member, where the files are static libraries.
    pub member: Option<String>,
    /// What holds the byte.
    pub region: Region,
    /// From the beginning of the file.
    pub offset: u64,
    /// The first file's byte, or its end.
    pub first: Option<u8>,
    /// The second file's byte, or its end.
    pub second: Option<u8>,
}

/// Which part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// The section of an ELF file, by its name.
    Section(String),
    /// A part of an ELF file or static library that has no name of its own.
    Header(&'static str),
    /// The line of a text, from 1.
    Line(u64),
    /// Nothing is known about this kind of file.
    Unknown,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(member) = &self.member {
            write!(f, "member {member}, ")?;
        }
        match &self.region {
            Region::Section(name) => write!(f, "section {name}, ")?,
            Region::Header(name) => write!(f, "{name}, ")?,
            Region::Line(line) => write!(f, "line {line}, ")?,
            Region::Unknown => {}
        }
        write!(f, "offset {:#x} ", self.offset)?;
        match (self.first, self.second) {
            (Some(a), Some(b)) => write!(f, "(byte {a:#04x} vs {b:#04x})"),
            (Some(a), None) => write!(f, "(byte {a:#04x} vs the end of the file)"),
            (None, Some(b)) => write!(f, "(the end of the file vs byte {b:#04x})"),
            (None, None) => Ok(()),
        }
    }
}

/// Finds the first differing byte of two files; `None` if there is none.
pub(super) fn locate(first: &Path, second: &Path) -> io::Result<Option<Place>> {
    let mut a = BufReader::new(open(first)?).bytes();
    let mut b = BufReader::new(open(second)?).bytes();
    let (mut offset, mut line, mut text) = (0, 1, true);
    let (one, two) = loop {
        let (one, two) = (a.next().transpose()?, b.next().transpose()?);
        if one != two {
            break (one, two);
        }
        let Some(byte) = one else { return Ok(None) };
        offset += 1;
        line += u64::from(byte == b'\n');
        text &= is_text(byte);
    };
    text &= one.is_none_or(is_text) && two.is_none_or(is_text);
    // A file that ends early is described by the one that goes on.
    let mut content = Vec::new();
    open(if one.is_some() { first } else { second })?.read_to_end(&mut content)?;
    let (member, region) = describe(&content, offset);
    let region = if region == Region::Unknown && text { Region::Line(line) } else { region };
    Ok(Some(Place { member, region, offset, first: one, second: two }))
}

/// Texts in any encoding have no control characters but white space.
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte.is_ascii_whitespace()
}

fn describe(content: &[u8], offset: u64) -> (Option<String>, Region) {
    if !content.starts_with(ar::MAGIC) {
        return (None, elf_region(content, offset).unwrap_or(Region::Unknown));
    }
    match member(content, offset) {
        Some((name, Some(start), inner)) => {
            (Some(name), elf_region(inner, offset - start).unwrap_or(Region::Unknown))
        }
        Some((name, None, _)) => (Some(name), Region::Header("its header")),
        None => (None, Region::Unknown),
    }
}

/// The section with the byte at `offset`, or which of ELF's own tables has it.
fn elf_region(content: &[u8], offset: u64) -> Option<Region> {
    if !content.starts_with(b"\x7fELF") {
        return None;
    }
    let file = object::File::parse(content).ok()?;
    let holds = |(start, size): (u64, u64)| offset >= start && offset - start < size;
    for section in file.sections() {
        if section.file_range().is_some_and(holds) {
            return section.name().ok().map(|name| Region::Section(name.to_owned()));
        }
    }
    let first =
        file.sections().filter_map(|s| s.file_range()).map(|(start, _)| start).filter(|s| *s > 0).min();
    Some(Region::Header(match (offset, first) {
        (..64, _) => "the ELF header",
        (_, Some(first)) if offset < first => "the program headers",
        _ => "between sections or in the section headers",
    }))
}

/// The member of a static library at `offset`: its name, where its content begins (unless `offset` is in its header),
/// and its content.
fn member(content: &[u8], offset: u64) -> Option<(String, Option<u64>, &[u8])> {
    let mut names: &[u8] = &[];
    let mut at = ar::MAGIC.len();
    loop {
        let (header, rest) = content.get(at..)?.split_first_chunk()?;
        let member = Member::parse(header).ok()?;
        let inner = rest.get(..usize::try_from(member.size).ok()?)?;
        if member.name == "//" {
            names = inner;
        }
        let start = (at + ar::HEADER) as u64;
        let next = member.next(start);
        if offset < next {
            return Some((member_name(&member.name, names), (offset >= start).then_some(start), inner));
        }
        at = usize::try_from(next).ok()?;
    }
}

/// GNU's spelling: `name/`, or `/123` for a name at that offset of the member `//`; `/` is the symbol table.
fn member_name(name: &str, names: &[u8]) -> String {
    if name == "/" {
        return "(symbol table)".to_owned();
    }
    let long =
        name.strip_prefix('/').and_then(|n| n.parse().ok()).and_then(|start: usize| names.get(start..));
    match long {
        Some(tail) => {
            let end = tail.iter().position(|b| *b == b'\n').unwrap_or(tail.len());
            String::from_utf8_lossy(&tail[..end]).trim_end_matches('/').to_owned()
        }
        None => name.trim_end_matches('/').to_owned(),
    }
}
