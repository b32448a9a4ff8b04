//! One entry.

/// One entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as spelled; never empty, and without NULs.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The content's length; 0 for all but files.
    pub size: u64,
    /// Seconds since 1970; negative before.
    pub mtime: i64,
    /// Permissions.
    pub mode: u32,
    /// Where its header begins in the uncompressed stream, with what extends it.
    pub header: u64,
    /// Where its content begins.
    pub offset: u64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// A hard link and its target.
    HardLink(Vec<u8>),
    /// Something else, by its name, for an error.
    Special(&'static str),
}

impl Entry {
    /// Whether anybody may execute it.
    pub fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// The path as text.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.path).ok()
    }
}

/// An entry whose place is not known yet.
pub(super) struct Outline {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) mode: u32,
}

impl Outline {
    pub(super) fn entry(self, header: u64, offset: u64) -> Entry {
        let Self { path, kind, size, mtime, mode } = self;
        Entry { path, kind, size, mtime, mode, header, offset }
    }
}
