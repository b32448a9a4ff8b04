//! The compressors, with every setting pinned that influences their output.

use std::io::{self, Write};
use std::num::NonZero;

use hab_oci::media_type;
use zstd::stream::raw::CParameter;

use crate::gzip;

/// The level beyond which more time gains little, for 43 MB of stripped programs on two cores: level 3 makes 17.1 MB in
/// 0.3 s of CPU time, 9 makes 15.6 MB in 1.4 s, 15 makes 15.4 MB in 13 s, 19 makes 13.9 MB in 33 s.
const ZSTD_LEVEL: i32 = 9;
/// The window of level 9, 4 MiB, set here so that no table of the library decides it.
const ZSTD_WINDOW_LOG: u32 = 22;
/// The bytes that one thread compresses at a time. The size decides the output, so it is not left to the library
/// either.
const ZSTD_JOB: u32 = 8 << 20;
/// How far a thread looks back into the piece before its own: 6 of 9 is an eighth of the window.
const ZSTD_OVERLAP_LOG: u32 = 6;
/// How a layer is compressed. This is only for transport: the tar's digest decides a layer's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip: one member. Every runtime reads it; Docker before version 23 reads nothing else.
    #[default]
    Gzip,
    /// Zstandard: one frame with a checksum.
    Zstd,
}

impl Compression {
    /// The layer's media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Zstd => media_type::LAYER_ZSTD,
            Self::Gzip => media_type::LAYER_GZIP,
        }
    }

    pub(crate) fn encoder<W: Write>(self, threads: NonZero<u32>, out: W) -> io::Result<Encoder<W>> {
        match self {
            Self::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                encoder.include_checksum(true)?;
                // Any number of workers gives the same output, but no worker at all would give another.
                encoder.multithread(threads.get())?;
                encoder.set_parameter(CParameter::JobSize(ZSTD_JOB))?;
                encoder.set_parameter(CParameter::OverlapSizeLog(ZSTD_OVERLAP_LOG))?;
                Ok(Encoder::Zstd(encoder))
            }
            Self::Gzip => gzip::Encoder::new(threads, out).map(Encoder::Gzip),
        }
    }
}

pub(crate) enum Encoder<W: Write> {
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Gzip(gzip::Encoder<W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}
