//! Reads the part of GNU make's language that depends uses, as data: nothing is run, and only the given files are read.
//!
//! A value that only a shell can compute is not guessed. It becomes a mark in the text that it is part of, and an error
//! that names its origin once somebody needs that text. If such a value decides how the files continue, reading ends.

mod expand;
mod functions;
mod read;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::rc::Rc;

use super::{DependsError, Files};

/// The largest makefile, in bytes. Bitcoin Core's largest has 30,000.
const FILE_LIMIT: usize = 1 << 20;
/// How deep expansions, calls and includes may nest. Bitcoin Core needs fewer than 40.
const DEPTH: usize = 100;
/// The largest value of one variable, in bytes.
const VALUE_LIMIT: usize = 4 << 20;
/// The most bytes that all expansions of one reading may read and make.
const WORK: usize = 128 << 20;
/// The most different unknown values.
const UNKNOWN_LIMIT: usize = 1 << 16;

/// Encloses the number of an unknown value in a text.
const UNKNOWN: char = '\u{1}';
/// Encloses the arguments of one call of `fetch_file` in a text.
const FETCH: char = '\u{2}';
/// Separates these arguments.
const PART: char = '\u{3}';

/// A line of a file.
#[derive(Clone, Debug)]
struct SourceLine {
    file: Rc<str>,
    line: usize,
}

impl SourceLine {
    fn error(&self, detail: impl Into<String>) -> DependsError {
        DependsError { file: self.file.to_string(), line: self.line, detail: detail.into() }
    }
}

#[derive(Clone)]
struct Variable {
    value: Rc<str>,
    /// Expanded whenever it is used (`=`), not once when it is set (`:=`).
    recursive: bool,
    /// Set by the caller; no file can change it.
    given: bool,
    place: SourceLine,
}

/// Values that hide the files' variables for a while.
enum Scope {
    /// The variable of a `foreach`.
    Named(String, Rc<str>),
    /// The arguments of a `call`.
    Arguments(Vec<Rc<str>>),
}

/// The arguments of one call of `fetch_file`: package, address of the folder, name there, name here, hash.
pub(super) type Fetch = [String; 5];

/// The state of a reading: the makefiles, and their values so far.
pub(super) struct Make<'f> {
    files: &'f Files,
    variables: HashMap<String, Variable>,
    scopes: Vec<Scope>,
    /// Where each unknown value comes from, and why it is unknown.
    unknown: Vec<(SourceLine, String)>,
    place: SourceLine,
    depth: usize,
    work: usize,
}

impl<'f> Make<'f> {
    /// A new reading, with these variables given as if on make's command line.
    pub(super) fn new(files: &'f Files, given: &[(&str, &str)]) -> Self {
        let place = SourceLine { file: "the command".into(), line: 0 };
        let variable = |value: &str| Variable {
            value: value.into(),
            recursive: false,
            given: true,
            place: place.clone(),
        };
        let variables = given.iter().map(|(name, value)| ((*name).to_owned(), variable(value))).collect();
        Self { files, variables, scopes: Vec::new(), unknown: Vec::new(), place, depth: 0, work: WORK }
    }

    /// Reads a file and the files that it includes.
    pub(super) fn include(&mut self, path: &str) -> Result<(), DependsError> {
        let text = self.file(path)?.ok_or_else(|| self.place.error(format!("there is no file {path}")))?;
        let from = std::mem::replace(&mut self.place, SourceLine { file: path.into(), line: 0 });
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
        // Marks are control characters: a file that contains them could forge one.
        match text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
            Some(c) => Err(self.place.error(format!("{path} has the control character {c:?}"))),
            None => Ok(Some(text)),
        }
    }

    /// The value of a variable for `package`; an error if any part of it is unknown.
    pub(super) fn known(&mut self, package: Option<&str>, name: &str) -> Result<String, DependsError> {
        let text = self.value(package, name)?;
        match text::unknown(&text).and_then(|mark| self.reason(mark)) {
            Some((place, why)) => Err(place.error(format!("{name} cannot be known, {why}"))),
            None => Ok(text),
        }
    }

    /// The files that a command of `package` fetches with `fetch_file`.
    pub(super) fn fetches(&mut self, package: &str, name: &str) -> Result<Vec<Fetch>, DependsError> {
        let text = self.value(Some(package), name)?;
        let mut found = Vec::new();
        // Every second part lies between two marks; the others are shell.
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

    /// An error at the line that set a variable; `None` if no line did.
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

    /// Makes a mark for a value that cannot be known, with the reason.
    fn mark(&mut self, why: impl Into<String>) -> Result<String, DependsError> {
        let why = why.into();
        let last = self.unknown.len();
        if last >= UNKNOWN_LIMIT {
            return Err(self.place.error("it has too many values that cannot be known"));
        }
        self.unknown.push((self.place.clone(), why));
        Ok(format!("{UNKNOWN}{last}{UNKNOWN}"))
    }

    fn reason(&self, mark: &str) -> Option<&(SourceLine, String)> {
        self.unknown.get(mark.trim_matches(UNKNOWN).parse::<usize>().ok()?)
    }

    /// An error that says why the value of `mark` is unknown.
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

    /// Counts `bytes` of work.
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
