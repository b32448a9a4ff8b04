//! How much a stranger's archive may ask for.

/// Limits of one archive. Every one of them is checked before memory is taken or bytes are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an entry's path.
    pub name: u64,
    /// Bytes of a link's target.
    pub link: u64,
    /// Components of a path.
    pub depth: u64,
    /// Bytes of one pax header. GNU's long names are held to `name` and `link`.
    pub extension: u64,
    /// How many entries there may be; global pax headers count too.
    pub entries: u64,
    /// Bytes of one entry.
    pub entry: u64,
    /// Bytes of all entries together, as their headers declare them.
    pub total: u64,
    /// Bytes that a decompressor may give: headers, padding and the end included.
    pub decoded: u64,
    /// Bytes that a decompressor may give for each byte that it took. Only held once 64 MiB were given, because a small
    /// file of zeros is nobody's attack.
    pub ratio: Option<u64>,
    /// Bytes of a decompressor's own memory: xz's dictionary, zstd's window.
    pub memory: u64,
}

impl Limits {
    /// What a decompressor may give before its ratio is looked at.
    pub(crate) const FREE: u64 = 64 << 20;

    /// Room for every archive of a source or a package that was seen: paths of Linux's own length, a million entries,
    /// 16 GiB. xz -9 asks for 65 MiB, and zstd below `--ultra` for 8 MiB.
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

    /// For one document that is compressed by itself.
    #[must_use]
    pub const fn document(bytes: u64) -> Self {
        Self { decoded: bytes, ..Self::ORDINARY }
    }
}
