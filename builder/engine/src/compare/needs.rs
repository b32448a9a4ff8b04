//! Finds what the programs of a tree need at run time, and which of them were not linked as a recipe asks.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use object::elf;
use serde::{Deserialize, Serialize};

use hab_oci::{few, shown};

use super::elf::{Facts, facts};
use super::folder::Found;
use super::{CompareError, Folder, Relro, TreeLimits};

/// The most files that are opened to look for libraries, over all programs of a tree. Debian's largest program needs
/// 2,000.
const PLACES: usize = 1_000_000;
/// The most needs that are listed; all others are only counted.
const TOLD: usize = 20;

/// Something that a program in the tree needs and the tree does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The program or library.
    pub file: String,
    /// The loader or library that it needs.
    pub need: Need,
}

/// A need of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// The dynamic loader, by its absolute path.
    Interpreter(String),
    /// A shared library, by its DT_NEEDED name.
    Library(String),
}

/// The loaders and libraries that the programs of a tree need and the tree does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// The first ones, sorted by file.
    pub told: Vec<Missing>,
    /// How many there are in all.
    pub total: usize,
}

/// A program that was not linked or compiled as a recipe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weak {
    /// The program's path.
    pub path: String,
    /// What it lacks.
    pub lacks: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = shown(&self.file);
        match &self.need {
            Need::Interpreter(path) => {
                write!(f, "{file} needs the dynamic loader {}, which is not in the image", shown(path))
            }
            Need::Library(name) => {
                write!(f, "{file} needs the library {}, which is not in the image", shown(name))
            }
        }
    }
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// The most that a sentence lists.
        const SAID: usize = 5;
        f.write_str(&few(self.told.iter().take(SAID), SAID, "; "))?;
        match self.total.saturating_sub(SAID.min(self.told.len())) {
            0 => Ok(()),
            more => write!(f, "; … and {more} more"),
        }
    }
}

/// Finds the loaders and libraries that ELF files of the tree at `root` need and the tree does not have. Other files
/// are skipped. Links in the tree are followed as a process in it would follow them.
pub fn missing_libraries(root: &Path, limits: &TreeLimits) -> Result<Lacking, CompareError> {
    let folder = Folder::open(root)?;
    let mut missing = Vec::new();
    let (mut total, mut places) = (0, PLACES);
    programs(&folder, limits, &mut |path, facts| {
        let mut need = |need| {
            total += 1;
            // Keep the first ones by path, so that the list does not depend on the order of a folder.
            missing.push(Missing { file: path.to_owned(), need });
            if missing.len() > 2 * TOLD {
                sort_and_cut(&mut missing);
            }
        };
        let mut look = Look { folder: &folder, facts, places: &mut places };
        if let Some(loader) = &facts.interpreter
            && !look.provides(loader)?
        {
            need(Need::Interpreter(loader.clone()));
        }
        let folders = facts.folders(path);
        for name in &facts.needed {
            let found =
                if name.contains('/') { look.provides(name)? } else { look.provides_in(&folders, name)? };
            if !found {
                need(Need::Library(name.clone()));
            }
        }
        Ok(())
    })?;
    sort_and_cut(&mut missing);
    Ok(Lacking { told: missing, total })
}

fn sort_and_cut(missing: &mut Vec<Missing>) {
    // The sort is stable: the needs of one file stay in the order of its dynamic entries.
    missing.sort_by(|a, b| a.file.cmp(&b.file));
    missing.truncate(TOLD);
}

/// Finds the first program or library, by path, that lacks what `build.hardened` asks for: flags are easily lost on
/// their way through a build system.
pub fn weakest(root: &Path, limits: &TreeLimits) -> Result<Option<Weak>, CompareError> {
    let mut first: Option<Weak> = None;
    programs(&Folder::open(root)?, limits, &mut |path, facts| {
        let found = facts.hardening;
        let lacks: Vec<_> = [
            (found.pie, "position independence"),
            (found.relro == Relro::Full, "full RELRO"),
            (found.nx, "a stack that is not executable"),
            (found.stack_canary, "stack canaries"),
        ]
        .into_iter()
        .filter_map(|(has, what)| (!has).then_some(what))
        .collect();
        if !lacks.is_empty() && first.as_ref().is_none_or(|weak| path < weak.path.as_str()) {
            first = Some(Weak { path: path.to_owned(), lacks: lacks.join(", ") });
        }
        Ok(())
    })?;
    Ok(first)
}

/// Calls `meet` for every ELF file of a tree.
fn programs(
    folder: &Folder,
    limits: &TreeLimits,
    meet: &mut dyn FnMut(&str, &Facts) -> Result<(), CompareError>,
) -> Result<(), CompareError> {
    folder.walk(limits, &mut |path, found| {
        let Found::File { .. } = found else { return Ok(()) };
        let file = folder.file(&path).map_err(|source| CompareError::Read { path: path.clone(), source })?;
        facts(&file, &path)?.map_or(Ok(()), |facts| meet(&path, &facts))
    })
}

/// Looks for what one file needs.
struct Look<'a> {
    folder: &'a Folder,
    facts: &'a Facts,
    places: &'a mut usize,
}

impl Look<'_> {
    fn provides_in(&mut self, folders: &[String], name: &str) -> Result<bool, CompareError> {
        for folder in folders {
            if self.provides(&format!("{folder}/{name}"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `path`, resolved with the tree as its root, is an ELF file for the same machine.
    fn provides(&mut self, path: &str) -> Result<bool, CompareError> {
        *self.places = self.places.checked_sub(1).ok_or(CompareError::TooManyPlaces { limit: PLACES })?;
        let Ok(mut file) = self.folder.in_root(path) else { return Ok(false) };
        let mut start = [0; 20];
        let whole = file.read_exact(&mut start).is_ok();
        // This compares e_ident[EI_CLASS] and e_machine; all machines that images are built for are little-endian.
        Ok(whole
            && start.starts_with(&elf::ELFMAG)
            && start[4] == self.facts.class.0
            && start[18..] == self.facts.machine.0.to_le_bytes())
    }
}

impl Facts {
    /// The folders in which ld.so(8) looks, with Debian's multiarch folders, each once.
    fn folders(&self, file: &str) -> Vec<String> {
        let origin = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own = self.search.iter().map(|s| s.replace("$ORIGIN", origin).replace("${ORIGIN}", origin));
        let triplet = match self.machine {
            elf::EM_X86_64 => "x86_64-linux-gnu",
            elf::EM_AARCH64 => "aarch64-linux-gnu",
            _ => ".",
        };
        let multiarch = ["lib", "usr/lib"].map(|lib| format!("{lib}/{triplet}"));
        let usual = ["lib", "usr/lib", "lib64", "usr/lib64"].map(str::to_owned);
        let mut seen = HashSet::new();
        own.chain(multiarch).chain(usual).filter(|folder| seen.insert(folder.clone())).collect()
    }
}
