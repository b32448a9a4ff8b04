//! Finds where two files first differ, and describes the place so that a person finds the cause.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

use hab_oci::shown;
use object::Endianness;
use object::elf::{FileClass, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use serde::{Deserialize, Serialize};

use super::bytes::Part;
use super::{Folder, elf};
use crate::unpack::ar::{self, Member};

/// The most members of a static library that are read.
const MEMBERS: usize = 1_000_000;
/// The most bytes of a section's or member's name.
const NAME: usize = 1024;

/// The first differing byte of two files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDifference {
    /// The member, if the files are static libraries.
    pub member: Option<String>,
    /// The part of the file that holds the byte.
    pub region: Region,
    /// The byte's offset from the beginning of the file.
    pub offset: u64,
    /// The first file's byte; `None` at its end.
    pub first: Option<u8>,
    /// The second file's byte; `None` at its end.
    pub second: Option<u8>,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Region {
    /// The section of an ELF file, by its name.
    Section(String),
    /// A part of an ELF file or static library that has no name of its own.
    Header(String),
    /// The line of a text, from 1.
    Line(u64),
    /// A part of a file of an unknown kind.
    Unknown,
}

impl fmt::Display for FirstDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(member) = &self.member {
            write!(f, "member {}, ", shown(member))?;
        }
        match &self.region {
            Region::Section(name) => write!(f, "section {}, ", shown(name))?,
            Region::Header(name) => write!(f, "{}, ", shown(name))?,
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

/// Finds the first differing byte of the file at `path` in two folders; `None` if there is none.
pub fn locate(first: &Folder, second: &Folder, path: &str) -> io::Result<Option<FirstDifference>> {
    let (a, b) = (first.file(path)?, second.file(path)?);
    let Some(Split { offset, line, text, one, two }) = split(&a, &b)? else { return Ok(None) };
    // If one file ends early, the longer one describes the place.
    let whole = Part::whole(if one.is_some() { &a } else { &b })?;
    let (member, region) = describe(&whole, offset);
    let region = if region == Region::Unknown && text { Region::Line(line) } else { region };
    Ok(Some(FirstDifference { member, region, offset, first: one, second: two }))
}

/// The place where two files begin to differ.
struct Split {
    offset: u64,
    line: u64,
    /// Whether all bytes before this place, and both bytes at it, can be text.
    text: bool,
    one: Option<u8>,
    two: Option<u8>,
}

fn split(a: &File, b: &File) -> io::Result<Option<Split>> {
    const PIECE: usize = 64 << 10;
    let (mut a, mut b) = (BufReader::with_capacity(PIECE, a), BufReader::with_capacity(PIECE, b));
    let (mut offset, mut line, mut text) = (0, 1, true);
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let both = left.len().min(right.len());
        let same = left.iter().zip(right).position(|(x, y)| x != y).unwrap_or(both);
        for byte in &left[..same] {
            line += u64::from(*byte == b'\n');
            text &= is_text(*byte);
        }
        offset += same as u64;
        if same < both || both == 0 {
            let (one, two) = (left.get(same).copied(), right.get(same).copied());
            let text = text && one.is_none_or(is_text) && two.is_none_or(is_text);
            return Ok((one != two).then_some(Split { offset, line, text, one, two }));
        }
        a.consume(same);
        b.consume(same);
    }
}

/// Texts in any encoding have no control characters but white space.
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte.is_ascii_whitespace()
}

fn describe(whole: &Part<'_>, offset: u64) -> (Option<String>, Region) {
    let magic = whole.read(0, ar::MAGIC.len(), "the first bytes");
    if magic.map_or(true, |magic| magic != ar::MAGIC) {
        return (None, elf_region(whole, offset).unwrap_or(Region::Unknown));
    }
    match member(whole, offset) {
        Some((name, Some(start), inner)) => {
            (Some(name), elf_region(&inner, offset - start).unwrap_or(Region::Unknown))
        }
        Some((name, None, _)) => (Some(name), Region::Header("its header".to_owned())),
        None => (None, Region::Unknown),
    }
}

/// The section that holds the byte at `offset`, or the ELF table that does.
fn elf_region(part: &Part<'_>, offset: u64) -> Option<Region> {
    match elf::class(part).ok()?? {
        FileClass(1) => region::<FileHeader32<Endianness>>(part, offset),
        _ => region::<FileHeader64<Endianness>>(part, offset),
    }
}

fn region<Elf>(part: &Part<'_>, offset: u64) -> Option<Region>
where
    Elf: FileHeader<Endian = Endianness> + Copy,
    Elf::SectionHeader: Copy,
{
    let (header, endian) = elf::header::<Elf>(part).ok()?;
    let sections = elf::sections(part, &header, endian).ok()?;
    let ranges = || sections.iter().filter_map(|s| Some((s, s.file_range(endian)?)));
    let held = ranges().find(|(_, (start, size))| offset >= *start && offset - start < *size);
    if let Some((section, _)) = held {
        let names = sections.get(usize::from(header.e_shstrndx(endian).0))?;
        let (start, size) = names.file_range(endian)?;
        let names = part.part(start, size)?;
        return names
            .text(section.sh_name(endian).into(), NAME, "a section's name")
            .ok()
            .map(Region::Section);
    }
    let first = ranges().map(|(_, (start, _))| start).filter(|start| *start > 0).min();
    let header = match (offset, first) {
        (..64, _) => "the ELF header",
        (_, Some(first)) if offset < first => "the program headers",
        _ => "between sections or in the section headers",
    };
    Some(Region::Header(header.to_owned()))
}

/// The member of a static library at `offset`: its name, where its content begins (unless `offset` is in its header),
/// and its content.
fn member<'a>(whole: &Part<'a>, offset: u64) -> Option<(String, Option<u64>, Part<'a>)> {
    let mut names = None;
    let mut at = ar::MAGIC.len() as u64;
    for _ in 0..MEMBERS {
        let header = whole.read(at, ar::HEADER, "a member's header").ok()?;
        let member = Member::parse(header.first_chunk()?).ok()?;
        let start = at + ar::HEADER as u64;
        let inner = whole.part(start, member.size)?;
        if member.name == "//" {
            names = Some(inner);
        }
        let next = member.next(start);
        if offset < next {
            return Some((member_name(&member.name, names), (offset >= start).then_some(start), inner));
        }
        at = next;
    }
    None
}

/// The member's name in GNU's spelling: `name/`, or `/123` for a name at that offset of the member `//`; `/` is the
/// symbol table.
fn member_name(name: &str, names: Option<Part<'_>>) -> String {
    if name == "/" {
        return "(symbol table)".to_owned();
    }
    let long = name.strip_prefix('/').and_then(|n| n.parse().ok()).zip(names).and_then(
        |(start, names): (u64, _)| {
            let size = names.size().checked_sub(start)?.min(NAME as u64);
            names.read(start, usize::try_from(size).ok()?, "a member's name").ok()
        },
    );
    match long {
        Some(tail) => {
            let end = tail.iter().position(|b| *b == b'\n').unwrap_or(tail.len());
            String::from_utf8_lossy(&tail[..end]).trim_end_matches('/').to_owned()
        }
        None => name.trim_end_matches('/').to_owned(),
    }
}
