//! What ELF files in an image's tree need at run time, and how they were linked.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::elf::{self, FileClass, FileHeader32, FileHeader64, Machine};
use object::read::FileKind;
use object::read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::Serialize;

use super::tree::{Node, Tree, open};
use super::{CompareError, Limits};

/// Something that a program in the tree needs and the tree does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The program or library.
    pub file: String,
    /// What it asks for.
    pub need: Need,
}

/// What an ELF file asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// The dynamic loader, by its absolute path.
    Interpreter(String),
    /// A shared library, by its DT_NEEDED name.
    Library(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.need {
            Need::Interpreter(path) => {
                write!(f, "{} needs the dynamic loader {path}, which is not in the image", self.file)
            }
            Need::Library(name) => {
                write!(f, "{} needs the library {name}, which is not in the image", self.file)
            }
        }
    }
}

/// How an ELF file was linked and compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Hardening {
    /// Position-independent (ET_DYN).
    pub pie: bool,
    /// Relocations that are read-only after loading.
    pub relro: Relro,
    /// The stack is not executable.
    pub nx: bool,
    /// `__stack_chk_fail` is used. A static file without symbols never shows it.
    pub stack_canary: bool,
    /// A checked variant of a libc function, such as `__memcpy_chk`, is used; symbols as above.
    pub fortify: bool,
}

/// Relocations that are read-only after loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
struct Facts {
    class: FileClass,
    machine: Machine,
    interpreter: Option<String>,
    needed: Vec<String>,
    /// DT_RPATH and DT_RUNPATH.
    search: Vec<String>,
    hardening: Hardening,
}

enum Problem {
    Elf(object::read::Error),
    /// `object` has no public way to make its error.
    Name,
}

impl From<object::read::Error> for Problem {
    fn from(error: object::read::Error) -> Self {
        Self::Elf(error)
    }
}

/// What the ELF files of the tree at `root` need and the tree does not have, sorted by file. Files of other kinds are
/// passed over; links within the tree are followed as a process in it would follow them.
pub fn missing_libraries(root: &Path) -> Result<Vec<Missing>, CompareError> {
    let read = |source| CompareError::Read { path: root.to_owned(), source };
    let folder = File::open(root).map_err(read)?;
    let mut missing = Vec::new();
    for entry in Tree::scan(root, &Limits::default())?.entries() {
        if !matches!(entry.node, Node::File { .. }) {
            continue;
        }
        let Some(facts) = facts(&root.join(&entry.path))? else { continue };
        let mut need = |need| missing.push(Missing { file: entry.path.clone(), need });
        if let Some(path) = &facts.interpreter
            && !provides(&folder, path, &facts)
        {
            need(Need::Interpreter(path.clone()));
        }
        let folders = facts.folders(&entry.path);
        for name in &facts.needed {
            let found = if name.contains('/') {
                provides(&folder, name, &facts)
            } else {
                folders.iter().any(|f| provides(&folder, &format!("{f}/{name}"), &facts))
            };
            if !found {
                need(Need::Library(name.clone()));
            }
        }
    }
    Ok(missing)
}

/// How the ELF file at `path` was linked and compiled; `None` if it is no ELF file.
pub fn hardening(path: &Path) -> Result<Option<Hardening>, CompareError> {
    Ok(facts(path)?.map(|facts| facts.hardening))
}

/// Whether `path`, resolved with `root` as its root, is an ELF file for the same machine.
fn provides(root: &File, path: &str, wanted: &Facts) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(fd) = openat2(root, path, flags, Mode::empty(), resolve) else { return false };
    let mut start = [0; 20];
    let whole = File::from(fd).read_exact(&mut start).is_ok();
    // e_ident[EI_CLASS] and, for the little-endian machines of this house, e_machine.
    whole
        && start.starts_with(&elf::ELFMAG)
        && start[4] == wanted.class.0
        && start[18..] == wanted.machine.0.to_le_bytes()
}

impl Facts {
    /// Where ld.so(8) looks, with Debian's multiarch folders.
    fn folders(&self, file: &str) -> Vec<String> {
        let origin = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own = self.search.iter().map(|s| s.replace("$ORIGIN", origin).replace("${ORIGIN}", origin));
        let triplet = match self.machine {
            elf::EM_X86_64 => "x86_64-linux-gnu",
            elf::EM_AARCH64 => "aarch64-linux-gnu",
            _ => ".",
        };
        let multiarch = ["lib", "usr/lib"].map(|lib| format!("{lib}/{triplet}"));
        own.chain(multiarch).chain(["lib", "usr/lib", "lib64", "usr/lib64"].map(str::to_owned)).collect()
    }
}

fn facts(path: &Path) -> Result<Option<Facts>, CompareError> {
    let read = |source| CompareError::Read { path: path.to_owned(), source };
    let mut file = open(path).map_err(read)?;
    let mut content = Vec::new();
    file.by_ref().take(4).read_to_end(&mut content).map_err(read)?;
    if content != elf::ELFMAG {
        return Ok(None);
    }
    file.read_to_end(&mut content).map_err(read)?;
    let parsed = match FileKind::parse(content.as_slice()) {
        Ok(FileKind::Elf32) => parse::<FileHeader32<Endianness>>(&content),
        Ok(_) => parse::<FileHeader64<Endianness>>(&content),
        Err(e) => Err(Problem::Elf(e)),
    };
    parsed.map(Some).map_err(|problem| match problem {
        Problem::Elf(source) => CompareError::Elf { path: path.to_owned(), source },
        Problem::Name => CompareError::ElfName { path: path.to_owned() },
    })
}

/// Reads what the loader reads, so from segments: sections may be stripped.
fn parse<Elf: FileHeader<Endian = Endianness>>(content: &[u8]) -> Result<Facts, Problem> {
    let file = ElfFile::<Elf>::parse(content)?;
    let (header, endian) = (file.elf_header(), file.endian());
    let (mut interpreter, mut dynamics): (_, &[Elf::Dyn]) = (None, &[]);
    let (mut relro, mut nx) = (false, false);
    for segment in file.elf_program_headers() {
        interpreter = segment.interpreter(endian, content)?.map(lossy).or(interpreter);
        dynamics = segment.dynamic(endian, content)?.unwrap_or(dynamics);
        match segment.p_type(endian) {
            elf::PT_GNU_RELRO => relro = true,
            elf::PT_GNU_STACK => nx = segment.p_flags(endian).0 & elf::PF_X.0 == 0,
            _ => {}
        }
    }
    let value = |d: &Elf::Dyn| -> u64 { d.d_val(endian).into() };
    let entries =
        || dynamics.iter().map(|d| (d.d_tag(endian), value(d))).take_while(|(tag, _)| *tag != elf::DT_NULL);
    let text = |offset: u64| -> Result<String, Problem> {
        let table = entries().find(|(tag, _)| *tag == elf::DT_STRTAB).map(|(_, at)| at);
        let start = table.and_then(|table| table.checked_add(offset)).ok_or(Problem::Name)?;
        let bytes = at_address::<Elf>(&file, content, start).ok_or(Problem::Name)?;
        Ok(lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()))
    };
    let (mut needed, mut search, mut now) = (Vec::new(), Vec::new(), false);
    for (tag, value) in entries() {
        match tag {
            elf::DT_NEEDED => needed.push(text(value)?),
            elf::DT_RPATH | elf::DT_RUNPATH => search.extend(text(value)?.split(':').map(str::to_owned)),
            elf::DT_BIND_NOW => now = true,
            elf::DT_FLAGS => now |= value & elf::DF_BIND_NOW.0 != 0,
            elf::DT_FLAGS_1 => now |= value & elf::DF_1_NOW.0 != 0,
            _ => {}
        }
    }
    let (mut stack_canary, mut fortify) = (false, false);
    for symbol in file.dynamic_symbols().chain(file.symbols()) {
        let name = symbol.name().unwrap_or_default().split('@').next().unwrap_or_default();
        match name {
            "__stack_chk_fail" => stack_canary = true,
            _ => fortify |= name.starts_with("__") && name.ends_with("_chk"),
        }
    }
    let relro = match (relro, now) {
        (false, _) => Relro::None,
        (true, false) => Relro::Partial,
        (true, true) => Relro::Full,
    };
    let hardening = Hardening { pie: header.e_type(endian) == elf::ET_DYN, relro, nx, stack_canary, fortify };
    let (class, machine) = (header.e_ident().class, header.e_machine(endian));
    Ok(Facts { class, machine, interpreter, needed, search, hardening })
}

/// The file's bytes from a virtual address to the end of its segment.
fn at_address<'a, Elf: FileHeader<Endian = Endianness>>(
    file: &ElfFile<'_, Elf>,
    content: &'a [u8],
    address: u64,
) -> Option<&'a [u8]> {
    let endian = file.endian();
    file.elf_program_headers().iter().filter(|s| s.p_type(endian) == elf::PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.p_vaddr(endian).into())?;
        let (offset, size) = segment.file_range(endian);
        let (start, end) = (offset.checked_add(within)?, offset.checked_add(size)?);
        content.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
