//! The part of GNU make's language that depends uses, read as data: nothing is run, and nothing outside the given files
//! is looked at.
//!
//! What only a shell could say is not guessed. It stands as a mark in the text that it would be part of, and whoever needs
//! that text in the end is told where it came from. What decides how the files go on must be known, or reading ends.

mod expand;
mod functions;
mod read;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::rc::Rc;

use super::{DependsError, Files};

/// The largest makefile, in bytes. The largest of Bitcoin Core has 30,000.
const FILE_LIMIT: usize = 1 << 20;
/// How deep expansions, calls and includes may lie within each other. Bitcoin Core needs fewer than 40.
const DEPTH: usize = 100;
/// The largest value of one variable, in bytes.
const VALUE_LIMIT: usize = 4 << 20;
/// How many bytes all expansions of one reading may look at and make.
const WORK: usize = 128 << 20;
/// How many different unknown texts are told apart.
const UNKNOWN_LIMIT: usize = 1 << 16;

/// Around the number of an unknown text, within a text.
const UNKNOWN: char = '\u{1}';
/// Around what one use of the function `fetch_file` says.
const FETCH: char = '\u{2}';
/// Between the parts of it.
const PART: char = '\u{3}';

/// A line of a file.
#[derive(Clone, Debug)]
struct Place {
    file: Rc<str>,
    line: usize,
}

impl Place {
    fn error(&self, detail: impl Into<String>) -> DependsError {
        DependsError { file: self.file.to_string(), line: self.line, detail: detail.into() }
    }
}

#[derive(Clone)]
struct Variable {
    value: Rc<str>,
    /// Expanded whenever it is used (`=`), not when it is set (`:=`).
    recursive: bool,
    /// Set by whoever asks; no file can change it.
    given: bool,
    place: Place,
}

/// What hides the files' variables for a while.
enum Scope {
    /// `foreach`'s variable.
    Named(String, Rc<str>),
    /// `call`'s arguments.
    Arguments(Vec<Rc<str>>),
}

/// One use of `fetch_file`: package, folder's address, name there, name here, hash.
pub(super) type Fetch = [String; 5];

/// Makefiles that are being read, and what they have said so far.
pub(super) struct Make<'f> {
    files: &'f Files,
    variables: HashMap<String, Variable>,
    scopes: Vec<Scope>,
    /// Why texts are unknown.
    unknown: Vec<(Place, String)>,
    place: Place,
    depth: usize,
    work: usize,
}

impl<'f> Make<'f> {
    /// Nothing read yet, and these variables given as if on make's command line.
    pub(super) fn new(files: &'f Files, given: &[(&str, &str)]) -> Self {
        let place = Place { file: "the command".into(), line: 0 };
        let variable = |value: &str| Variable {
            value: value.into(),
            recursive: false,
            given: true,
            place: place.clone(),
        };
        let variables = given.iter().map(|(name, value)| ((*name).to_owned(), variable(value))).collect();
        Self { files, variables, scopes: Vec::new(), unknown: Vec::new(), place, depth: 0, work: WORK }
    }

    /// Reads a file and what it includes.
    pub(super) fn include(&mut self, path: &str) -> Result<(), DependsError> {
        let text = self.file(path)?.ok_or_else(|| self.place.error(format!("there is no file {path}")))?;
        let from = std::mem::replace(&mut self.place, Place { file: path.into(), line: 0 });
        self.enter()?;
        self.read(text, true)?;
        self.leave();
        self.place = from;
        Ok(())
    }

    fn file(&self, path: &str) -> Result<Option<&'f str>, DependsError> {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        if !path.split('/').all(plain) {
            return Err(self.place.error(format!("{path:?} leads out of the folder")));
        }
        let Some(bytes) = self.files.get(path) else { return Ok(None) };
        if bytes.len() > FILE_LIMIT {
            return Err(self.place.error(format!("{path} has more than {FILE_LIMIT} bytes")));
        }
        let text =
            std::str::from_utf8(bytes).map_err(|_| self.place.error(format!("{path} is not UTF-8")))?;
        // The marks are control characters; a file that has them could say that something is known.
        match text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
            Some(c) => Err(self.place.error(format!("{path} has the control character {c:?}"))),
            None => Ok(Some(text)),
        }
    }

    /// The value of a variable as it is for `package`, known in whole.
    pub(super) fn known(&mut self, package: Option<&str>, name: &str) -> Result<String, DependsError> {
        let text = self.value(package, name)?;
        match text::unknown(&text).and_then(|mark| self.reason(mark)) {
            Some((place, why)) => Err(place.error(format!("{name} cannot be known, {why}"))),
            None => Ok(text),
        }
    }

    /// What a command of `package` fetches with `fetch_file`.
    pub(super) fn fetches(&mut self, package: &str, name: &str) -> Result<Vec<Fetch>, DependsError> {
        let text = self.value(Some(package), name)?;
        let mut found = Vec::new();
        // Between two marks lies what was fetched, outside of them shell.
        for parts in text.split(FETCH).skip(1).step_by(2) {
            if let Some((place, why)) = text::unknown(parts).and_then(|mark| self.reason(mark)) {
                return Err(place.error(format!("what {name} fetches cannot be known, {why}")));
            }
            let parts: Vec<String> = parts.split(PART).map(|part| part.trim().to_owned()).collect();
            let fetch = Fetch::try_from(parts);
            found.push(
                fetch.map_err(|_| self.place.error(format!("{name} has fetch_file without 5 arguments")))?,
            );
        }
        Ok(found)
    }

    /// An error at the line that set a variable, where one did.
    pub(super) fn error(&self, name: &str, detail: &str) -> Option<DependsError> {
        Some(self.variables.get(name)?.place.error(detail))
    }

    fn value(&mut self, package: Option<&str>, name: &str) -> Result<String, DependsError> {
        self.scopes.extend(package.map(|package| Scope::Named("package".to_owned(), package.into())));
        // Old versions call a package's commands with its name.
        self.scopes.extend(package.map(|package| Scope::Arguments(vec![name.into(), package.into()])));
        let value = self.expand(&format!("$({name})"));
        self.scopes.clear();
        value
    }

    /// A text that cannot be known, and why.
    fn mark(&mut self, why: impl Into<String>) -> Result<String, DependsError> {
        let why = why.into();
        let last = self.unknown.len();
        if last >= UNKNOWN_LIMIT {
            return Err(self.place.error("too much of it cannot be known"));
        }
        self.unknown.push((self.place.clone(), why));
        Ok(format!("{UNKNOWN}{last}{UNKNOWN}"))
    }

    fn reason(&self, mark: &str) -> Option<&(Place, String)> {
        self.unknown.get(mark.trim_matches(UNKNOWN).parse::<usize>().ok()?)
    }

    /// An error that says why `mark` is unknown.
    fn refuse(&self, what: &str, mark: &str) -> DependsError {
        let why = self
            .reason(mark)
            .map_or_else(String::new, |(place, why)| format!("{why} in {} line {}", place.file, place.line));
        self.place.error(format!("{what} cannot be known: {why}"))
    }

    fn enter(&mut self) -> Result<(), DependsError> {
        self.depth += 1;
        if self.depth > DEPTH {
            Err(self.place.error("it is nested too deeply, or refers to itself"))
        } else {
            Ok(())
        }
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Takes note of `bytes` that are looked at.
    fn work(&mut self, bytes: usize) -> Result<(), DependsError> {
        let left = self.work.checked_sub(bytes + 1);
        self.work = left.ok_or_else(|| self.place.error("it takes too much work to evaluate"))?;
        Ok(())
    }

    /// Refuses a text that grew too large.
    fn grown(&mut self, text: &str) -> Result<(), DependsError> {
        match text.len() {
            0..=VALUE_LIMIT => self.work(0),
            _ => Err(self.place.error(format!("a value grows beyond {VALUE_LIMIT} bytes"))),
        }
    }
}
