//! How much a stranger's archive may ask for.

/// Limits of one archive. Each is checked before memory is allocated or bytes are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an entry's path.
    pub name: u64,
    /// Bytes of a link's target.
    pub link: u64,
    /// Components of a path.
    pub depth: u64,
    /// Bytes of one pax header. For GNU's long names, `name` and `link` are the limits.
    pub extension: u64,
    /// How many entries there may be; global pax headers count too.
    pub entries: u64,
    /// Bytes of one entry.
    pub entry: u64,
    /// Bytes of all entries together, as their headers declare them.
    pub total: u64,
    /// Bytes that a decompressor may return, with headers, padding and end marker.
    pub decoded: u64,
    /// Bytes that a decompressor may return for each byte that it read. Checked only after 64 MiB, because a small file
    /// of zeros is no attack.
    pub ratio: Option<u64>,
    /// Bytes of a decompressor's own memory: xz's dictionary, zstd's window.
    pub memory: u64,
}

impl Limits {
    /// Bytes that a decompressor may return before the ratio is checked.
    pub(crate) const FREE: u64 = 64 << 20;

    /// Room for every source or package archive seen so far: paths as long as Linux allows, a million entries, 16 GiB.
    /// xz -9 needs 65 MiB, and zstd below `--ultra` 8 MiB.
    pub const ORDINARY: Self = Self {
        name: 4096,
        link: 4096,
        depth: 256,
        extension: 64 << 10,
        entries: 1_000_000,
        entry: 16 << 30,
        total: 16 << 30,
        decoded: 18 << 30,
        ratio: None,
        memory: 128 << 20,
    };

    /// Limits for a single compressed document of at most `bytes` bytes.
    #[must_use]
    pub const fn document(bytes: u64) -> Self {
        Self { decoded: bytes, ..Self::ORDINARY }
    }
}
