//! What is wrong with an archive, and where.

use std::fmt;
use std::io;

/// Why an archive was not read.
#[derive(Debug)]
pub struct Error {
    /// The entry's name as the archive spells it, escaped for a person, if it is known.
    pub entry: Option<String>,
    /// The byte in the uncompressed stream at which the entry's header, or the fault, begins.
    pub offset: u64,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The stream ends inside the named part.
    #[error("it ends in the middle of {0}")]
    Truncated(&'static str),
    /// The format does not allow this, or it can be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// The archive exceeds a limit.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// The stream, or the decompressor below it, failed.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// A limit that an archive exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// What the limit is about.
    pub measure: Measure,
    /// The largest amount that is allowed.
    pub limit: u64,
}

/// What a limit is about; one for each field of [`crate::Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes of a name.
    Name,
    /// Bytes of a link's target.
    Link,
    /// Components of a path.
    Depth,
    /// Bytes of a pax header.
    Extension,
    /// Entries.
    Entries,
    /// Bytes of one entry.
    Entry,
    /// Bytes of all entries.
    Total,
    /// Bytes that a decompressor gives.
    Decoded,
    /// Bytes that a decompressor gives for each that it takes.
    Ratio,
    /// Bytes of a decompressor's memory.
    Memory,
}

impl Error {
    pub(crate) fn new(offset: u64, problem: Problem) -> Self {
        Self { entry: None, offset, problem }
    }

    pub(crate) fn malformed(offset: u64, why: &'static str) -> Self {
        Self::new(offset, Problem::Malformed(why))
    }

    pub(crate) fn exceeded(offset: u64, measure: Measure, limit: u64) -> Self {
        Self::new(offset, Problem::Exceeded(Exceeded { measure, limit }))
    }

    /// A failed read. Reports an exceeded limit of the decompressor below as a limit, not as damage.
    pub(crate) fn read(offset: u64, inside: &'static str, source: io::Error) -> Self {
        let problem = match source.get_ref().and_then(|inner| inner.downcast_ref::<Exceeded>()) {
            Some(exceeded) => Problem::Exceeded(*exceeded),
            None if source.kind() == io::ErrorKind::UnexpectedEof => Problem::Truncated(inside),
            None => Problem::Read(source),
        };
        Self::new(offset, problem)
    }

    /// The limit that is exceeded, if that is what is wrong.
    pub fn exceeds(&self) -> Option<Exceeded> {
        match self.problem {
            Problem::Exceeded(exceeded) => Some(exceeded),
            _ => None,
        }
    }

    /// The whole sentence with its causes, for callers whose errors are text.
    pub fn words(&self) -> String {
        match &self.problem {
            Problem::Read(source) => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

impl std::error::Error for Error {
    /// The problem's own words are in the sentence already, so the chain continues below it.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(source) => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "at byte {}, entry \"{entry}\": {}", self.offset, self.problem),
            None => write!(f, "at byte {}: {}", self.offset, self.problem),
        }
    }
}

impl std::error::Error for Exceeded {}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.measure {
            Measure::Name => write!(f, "the name is longer than {limit} bytes"),
            Measure::Link => write!(f, "the link's target is longer than {limit} bytes"),
            Measure::Depth => write!(f, "the path is more than {limit} folders deep"),
            Measure::Extension => write!(f, "the pax header is larger than {limit} bytes"),
            Measure::Entries => write!(f, "there are more than {limit} entries"),
            Measure::Entry => write!(f, "the entry is larger than {limit} bytes"),
            Measure::Total => write!(f, "all entries together are larger than {limit} bytes"),
            Measure::Decoded => write!(f, "it decompresses to more than {limit} bytes"),
            Measure::Ratio => write!(f, "it decompresses to more than {limit} times its size"),
            Measure::Memory => write!(f, "decompressing it takes more than {limit} bytes of memory"),
        }
    }
}

impl From<Exceeded> for io::Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::new(io::ErrorKind::InvalidData, exceeded)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.problem {
            Problem::Truncated(_) => io::ErrorKind::UnexpectedEof,
            Problem::Read(source) => source.kind(),
            Problem::Malformed(_) | Problem::Exceeded(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
