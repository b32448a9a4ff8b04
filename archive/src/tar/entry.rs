//! One entry of a tar archive.

/// What an entry's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as spelled; never empty, and without NULs.
    pub path: Vec<u8>,
    /// The entry's type.
    pub kind: Kind,
    /// The content's length; 0 for everything but files.
    pub size: u64,
    /// Modification time in seconds since 1970; negative before.
    pub mtime: i64,
    /// Permission bits.
    pub mode: u32,
    /// The offset in the uncompressed stream where its header, or the first header that extends it, begins.
    pub header: u64,
    /// The offset where its content begins.
    pub offset: u64,
}

/// The type of an entry.
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
    /// Something else; the text names it in errors.
    Special(&'static str),
}

impl Entry {
    /// Whether the owner, the group or others may execute it.
    pub fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// The path, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.path).ok()
    }
}

/// An entry whose offsets are not known yet.
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
