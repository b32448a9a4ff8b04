//! Reads an ELF file, in pieces of a known size.
//!
//! What the loader reads is taken from segments, because sections may be stripped; only the symbols' names are taken
//! from sections. Linkers stay far below the limits here; a file that exceeds them was made to be slow to read.

use std::collections::HashSet;
use std::fs::File;
use std::mem::size_of;
use std::path::Path;

use object::elf::{self, FileClass, FileHeader32, FileHeader64, Machine};
use object::pod::{from_bytes, slice_from_bytes};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, Pod};
use serde::{Deserialize, Serialize};

use super::bytes::Part;
use super::folder::PATH;
use super::{CompareError, ElfProblem};

const SEGMENTS: u64 = 1_000;
const DYNAMIC: u64 = 20_000;
const NEEDED: usize = 1_000;
const SEARCH: usize = 100;
pub(super) const SECTIONS: u64 = 100_000;
const SYMBOLS: u64 = 4_000_000;
/// The most symbols that are in memory at a time.
const SYMBOLS_AT_ONCE: u64 = 65_536;
/// The most bytes of all symbols' names.
const NAMES: u64 = 64 << 20;
/// The most bytes of a symbol's name; no name that is searched for is longer.
const SYMBOL: usize = 256;

/// How an ELF file was linked and compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Hardening {
    /// Position-independent (ET_DYN).
    pub pie: bool,
    /// Which relocations are read-only after loading.
    pub relro: Relro,
    /// The stack is not executable.
    pub nx: bool,
    /// `__stack_chk_fail` is used. A static file without symbols never shows it.
    pub stack_canary: bool,
    /// A checked variant of a libc function, such as `__memcpy_chk`, is used; symbols as above.
    pub fortify: bool,
}

/// Which relocations are read-only after loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relro {
    /// None.
    None,
    /// All but the procedure linkage table's.
    Partial,
    /// All; everything is bound when the program starts.
    Full,
}

/// Everything that is read from an ELF file here.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) class: FileClass,
    pub(super) machine: Machine,
    pub(super) interpreter: Option<String>,
    /// Each name once, because the loader loads a library once.
    pub(super) needed: Vec<String>,
    /// DT_RPATH and DT_RUNPATH, each folder once.
    pub(super) search: Vec<String>,
    pub(super) hardening: Hardening,
}

/// How the ELF file at `path` was linked and compiled; `None` if it is not an ELF file.
pub fn hardening(path: &Path) -> Result<Option<Hardening>, CompareError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| CompareError::Read { path: name.clone(), source })?;
    Ok(facts(&file, &name)?.map(|facts| facts.hardening))
}

/// The facts about `file`, which errors call `path`; `None` if it is not an ELF file.
pub(super) fn facts(file: &File, path: &str) -> Result<Option<Facts>, CompareError> {
    let elf = |source| CompareError::Elf { path: path.to_owned(), source };
    let whole = Part::whole(file).map_err(|e| elf(ElfProblem::Read(e)))?;
    match class(&whole).map_err(elf)? {
        None => Ok(None),
        Some(FileClass(1)) => parse::<FileHeader32<Endianness>>(&whole).map(Some).map_err(elf),
        Some(_) => parse::<FileHeader64<Endianness>>(&whole).map(Some).map_err(elf),
    }
}

/// The class of an ELF file: 32 or 64 bits. `None` if this is not an ELF file.
pub(super) fn class(part: &Part<'_>) -> Result<Option<FileClass>, ElfProblem> {
    if part.size() < 4 || part.read(0, 4, "the ELF header")? != elf::ELFMAG {
        return Ok(None);
    }
    let ident = part.read(0, 5, "the ELF header")?;
    Ok(Some(FileClass(ident[4])))
}

/// The file header, and its byte order.
pub(super) fn header<Elf>(part: &Part<'_>) -> Result<(Elf, Endianness), ElfProblem>
where
    Elf: FileHeader<Endian = Endianness> + Copy,
{
    let header: Elf = one(part, 0, "the ELF header")?;
    if !header.is_supported() {
        return Err(ElfProblem::Header("its ELF header is of an unknown kind"));
    }
    let endian = header.endian().map_err(|_| ElfProblem::Header("its ELF header has no byte order"))?;
    Ok((header, endian))
}

fn one<T: Pod + Copy>(part: &Part<'_>, offset: u64, what: &'static str) -> Result<T, ElfProblem> {
    let bytes = part.read(offset, size_of::<T>(), what)?;
    from_bytes::<T>(&bytes).map(|(value, _)| *value).map_err(|()| ElfProblem::Outside(what))
}

/// Reads `count` values of a table; fails if that is more than `limit`.
fn many<T: Pod + Copy>(
    part: &Part<'_>,
    offset: u64,
    count: u64,
    limit: u64,
    what: &'static str,
) -> Result<Vec<T>, ElfProblem> {
    let count = usize::try_from(count).ok().filter(|_| count <= limit);
    let count = count.ok_or(ElfProblem::TooMany { what, limit })?;
    let bytes = part.read(offset, count * size_of::<T>(), what)?;
    let (values, _) = slice_from_bytes::<T>(&bytes, count).map_err(|()| ElfProblem::Outside(what))?;
    Ok(values.to_vec())
}

/// The section headers; empty if the file has none.
pub(super) fn sections<Elf>(
    part: &Part<'_>,
    header: &Elf,
    endian: Endianness,
) -> Result<Vec<Elf::SectionHeader>, ElfProblem>
where
    Elf: FileHeader<Endian = Endianness>,
    Elf::SectionHeader: Copy,
{
    let at: u64 = header.e_shoff(endian).into();
    if at == 0 {
        return Ok(Vec::new());
    }
    if usize::from(header.e_shentsize(endian)) != size_of::<Elf::SectionHeader>() {
        return Err(ElfProblem::Header("its section headers have the wrong size"));
    }
    let count = match header.e_shnum(endian) {
        // With 65,280 sections or more, the first header has the count.
        0 => one::<Elf::SectionHeader>(part, at, "sections")?.sh_size(endian).into(),
        count => u64::from(count),
    };
    many(part, at, count, SECTIONS, "sections")
}

/// Reads the facts from segments, as the loader does.
fn parse<Elf>(whole: &Part<'_>) -> Result<Facts, ElfProblem>
where
    Elf: FileHeader<Endian = Endianness> + Copy,
    Elf::ProgramHeader: Copy,
    Elf::SectionHeader: Copy,
    Elf::Dyn: Copy,
    Elf::Sym: Copy,
{
    let (header, endian) = header::<Elf>(whole)?;
    let segments = segments(whole, &header, endian)?;
    let (mut interpreter, mut dynamic) = (None, Vec::<Elf::Dyn>::new());
    let (mut relro, mut nx) = (false, false);
    for segment in &segments {
        let (offset, size) = segment.file_range(endian);
        match segment.p_type(endian) {
            elf::PT_INTERP => {
                let part = whole.part(offset, size).ok_or(ElfProblem::Outside("the loader's name"))?;
                interpreter = Some(part.text(0, PATH, "the loader's name")?);
            }
            elf::PT_DYNAMIC => {
                let count = size / size_of::<Elf::Dyn>() as u64;
                dynamic = many(whole, offset, count, DYNAMIC, "dynamic entries")?;
            }
            elf::PT_GNU_RELRO => relro = true,
            elf::PT_GNU_STACK => nx = segment.p_flags(endian).0 & elf::PF_X.0 == 0,
            _ => {}
        }
    }
    let Linked { needed, search, now } = linked::<Elf>(whole, &segments, &dynamic, endian)?;
    let (stack_canary, fortify) = symbols::<Elf>(whole, &header, endian)?;
    let relro = match (relro, now) {
        (false, _) => Relro::None,
        (true, false) => Relro::Partial,
        (true, true) => Relro::Full,
    };
    let hardening = Hardening { pie: header.e_type(endian) == elf::ET_DYN, relro, nx, stack_canary, fortify };
    let (class, machine) = (header.e_ident().class, header.e_machine(endian));
    Ok(Facts { class, machine, interpreter, needed, search, hardening })
}

fn segments<Elf>(
    whole: &Part<'_>,
    header: &Elf,
    endian: Endianness,
) -> Result<Vec<Elf::ProgramHeader>, ElfProblem>
where
    Elf: FileHeader<Endian = Endianness>,
    Elf::ProgramHeader: Copy,
{
    let count = u64::from(header.e_phnum(endian));
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(header.e_phentsize(endian)) != size_of::<Elf::ProgramHeader>() {
        return Err(ElfProblem::Header("its program headers have the wrong size"));
    }
    many(whole, header.e_phoff(endian).into(), count, SEGMENTS, "segments")
}

/// The facts in the dynamic entries.
struct Linked {
    needed: Vec<String>,
    search: Vec<String>,
    now: bool,
}

fn linked<Elf: FileHeader<Endian = Endianness>>(
    whole: &Part<'_>,
    segments: &[Elf::ProgramHeader],
    dynamic: &[Elf::Dyn],
    endian: Endianness,
) -> Result<Linked, ElfProblem> {
    const WHAT: &str = "the name of a dynamic entry";
    let value = |d: &Elf::Dyn| -> u64 { d.d_val(endian).into() };
    let entries =
        || dynamic.iter().map(|d| (d.d_tag(endian), value(d))).take_while(|(tag, _)| *tag != elf::DT_NULL);
    let table = entries().find(|(tag, _)| *tag == elf::DT_STRTAB).map(|(_, at)| at);
    let text = |offset: u64| -> Result<String, ElfProblem> {
        let address = table.and_then(|table| table.checked_add(offset)).ok_or(ElfProblem::Outside(WHAT))?;
        let part = at_address(whole, segments, address, endian).ok_or(ElfProblem::Outside(WHAT))?;
        part.text(0, PATH, WHAT)
    };
    let mut linked = Linked { needed: Vec::new(), search: Vec::new(), now: false };
    let (mut names, mut folders) = (HashSet::new(), HashSet::new());
    for (tag, value) in entries() {
        match tag {
            elf::DT_NEEDED => {
                add(text(value)?, NEEDED, "needed libraries", &mut names, &mut linked.needed)?;
            }
            elf::DT_RPATH | elf::DT_RUNPATH => {
                for folder in text(value)?.split(':') {
                    add(folder.to_owned(), SEARCH, "library folders", &mut folders, &mut linked.search)?;
                }
            }
            elf::DT_BIND_NOW => linked.now = true,
            elf::DT_FLAGS => linked.now |= value & elf::DF_BIND_NOW.0 != 0,
            elf::DT_FLAGS_1 => linked.now |= value & elf::DF_1_NOW.0 != 0,
            _ => {}
        }
    }
    Ok(linked)
}

/// Adds `text` to `list`, unless it is there already.
fn add(
    text: String,
    limit: usize,
    what: &'static str,
    seen: &mut HashSet<String>,
    list: &mut Vec<String>,
) -> Result<(), ElfProblem> {
    if seen.insert(text.clone()) {
        if list.len() >= limit {
            return Err(ElfProblem::TooMany { what, limit: limit as u64 });
        }
        list.push(text);
    }
    Ok(())
}

/// The file's bytes from a virtual address to the end of its segment.
fn at_address<'a, P: ProgramHeader<Endian = Endianness>>(
    whole: &Part<'a>,
    segments: &[P],
    address: u64,
    endian: Endianness,
) -> Option<Part<'a>> {
    segments.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.p_vaddr(endian).into())?;
        let (offset, size) = segment.file_range(endian);
        whole.part(offset.checked_add(within)?, size.checked_sub(within)?)
    })
}

/// Whether any symbol is a stack canary's, and whether any is a checked function's.
fn symbols<Elf>(whole: &Part<'_>, header: &Elf, endian: Endianness) -> Result<(bool, bool), ElfProblem>
where
    Elf: FileHeader<Endian = Endianness>,
    Elf::SectionHeader: Copy,
    Elf::Sym: Copy,
{
    let (mut canary, mut fortify) = (false, false);
    let sections = sections(whole, header, endian)?;
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let Some(table) = sections.iter().find(|s| s.sh_type(endian) == kind) else { continue };
        let strings = usize::try_from(table.sh_link(endian)).ok().and_then(|link| sections.get(link));
        let strings = strings.ok_or(ElfProblem::Outside("the names of symbols"))?;
        let size: u64 = strings.sh_size(endian).into();
        let names: Vec<u8> =
            many(whole, strings.sh_offset(endian).into(), size, NAMES, "bytes in symbols' names")?;
        let width = size_of::<Elf::Sym>() as u64;
        let (start, count): (u64, u64) =
            (table.sh_offset(endian).into(), table.sh_size(endian).into() / width);
        if count > SYMBOLS {
            return Err(ElfProblem::TooMany { what: "symbols", limit: SYMBOLS });
        }
        let mut at = 0;
        while at < count {
            let now = (count - at).min(SYMBOLS_AT_ONCE);
            let offset = start.checked_add(at * width).ok_or(ElfProblem::Outside("symbols"))?;
            for symbol in many::<Elf::Sym>(whole, offset, now, SYMBOLS_AT_ONCE, "symbols")? {
                let name = symbol_name(&names, symbol.st_name(endian));
                canary |= name == b"__stack_chk_fail";
                fortify |= name != b"__stack_chk_fail" && name.starts_with(b"__") && name.ends_with(b"_chk");
            }
            at += now;
        }
    }
    Ok((canary, fortify))
}

/// A symbol's name without its version; empty if it is longer than every name that is searched for.
fn symbol_name(names: &[u8], offset: u32) -> &[u8] {
    let tail = usize::try_from(offset).ok().and_then(|offset| names.get(offset..)).unwrap_or_default();
    let tail = &tail[..tail.len().min(SYMBOL)];
    let name = tail.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.len() == tail.len() && name.len() == SYMBOL {
        return &[];
    }
    name.split(|byte| *byte == b'@').next().unwrap_or_default()
}
