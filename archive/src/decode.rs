//! Decompressors that stop at a limit.

use std::io::{self, BufRead, Read};

use crate::{Error, Exceeded, Limits, Measure, Source};

/// The first bytes that are looked at: a tar archive's magic is in its first header.
const PEEK: usize = 512;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard, RFC 8878.
    Zstd,
}

impl Compression {
    /// The format's name, for errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// Recognises a tar archive, compressed or not, from its first bytes (512 are enough). Otherwise says what they
    /// look like.
    pub fn recognise(start: &[u8]) -> Result<Self, &'static str> {
        let old_tar = || {
            start.len() >= PEEK
                && start[0] != 0
                && start[148..156].iter().all(|b| b" \x0001234567".contains(b))
        };
        match start {
            [] => Err("an empty file"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Err("bzip2, which is not supported"),
            [0x5d, 0, 0, ..] => Err("lzma without a container, which is not supported"),
            [b'P', b'K', ..] => Err("zip, which is not supported"),
            [b'<', ..] => Err("a web page"),
            _ if start.get(257..262) == Some(b"ustar") || old_tar() => Ok(Self::None),
            // An archive that is nothing but its end marker.
            _ if start.len() >= PEEK && start.iter().all(|b| *b == 0) => Ok(Self::None),
            _ => Err("something unknown"),
        }
    }
}

/// One of the decompressors, within limits. After it fails once, every further read fails.
pub struct Decoder<R: BufRead> {
    inner: Inner<Counted<R>>,
    given: u64,
    limits: Limits,
    exceeded: Option<Exceeded>,
}

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Xz(Box<liblzma::bufread::XzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    /// A decompressor of `reader` that keeps to [`Limits::decoded`], [`Limits::ratio`] and [`Limits::memory`].
    pub fn new(compression: Compression, reader: R, limits: &Limits) -> io::Result<Self> {
        let reader = Counted { inner: reader, taken: 0 };
        let inner = match compression {
            Compression::None => Inner::Plain(reader),
            Compression::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Compression::Xz => {
                // Accept concatenated streams, as dpkg and tar do.
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(limits.memory, flags)?;
                Inner::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                // A window's size is a power of two; the format allows 1 KiB to 2 GiB.
                decoder.window_log_max(limits.memory.checked_ilog2().unwrap_or(0).clamp(10, 31))?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { inner, given: 0, limits: *limits, exceeded: None })
    }

    /// The number of decompressed bytes so far.
    pub fn given(&self) -> u64 {
        self.given
    }

    fn taken(&self) -> u64 {
        match &self.inner {
            Inner::Plain(r) => r.taken,
            Inner::Gzip(r) => r.get_ref().taken,
            Inner::Xz(r) => r.get_ref().taken,
            Inner::Zstd(r) => r.get_ref().taken,
        }
    }

    fn exceed(&mut self, measure: Measure, limit: u64) -> io::Error {
        let exceeded = Exceeded { measure, limit };
        self.exceeded = Some(exceeded);
        exceeded.into()
    }
}

impl<R: BufRead> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("given", &self.given)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(exceeded) = self.exceeded {
            return Err(exceeded.into());
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        // Read one byte more than is allowed, to distinguish data that ends exactly at the limit from data that goes
        // on.
        let left = self.limits.decoded.saturating_sub(self.given).saturating_add(1);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match &mut self.inner {
            Inner::Plain(r) => r.read(&mut buffer[..most]),
            Inner::Gzip(r) => r.read(&mut buffer[..most]),
            Inner::Xz(r) => r.read(&mut buffer[..most]),
            Inner::Zstd(r) => r.read(&mut buffer[..most]),
        };
        match read {
            Ok(n) => self.given += n as u64,
            Err(e) if is_memory(&e) => return Err(self.exceed(Measure::Memory, self.limits.memory)),
            Err(e) => return Err(e),
        }
        if self.given > self.limits.decoded {
            return Err(self.exceed(Measure::Decoded, self.limits.decoded));
        }
        if let Some(ratio) = self.limits.ratio
            && self.given > Limits::FREE
            && self.given > self.taken().saturating_mul(ratio)
        {
            return Err(self.exceed(Measure::Ratio, ratio));
        }
        read
    }
}

impl<R: BufRead> Source for Decoder<R> {}

/// Whether a decompressor failed because it needs more memory than it may have.
fn is_memory(error: &io::Error) -> bool {
    let xz = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    // zstd reports this only in its message; a test checks the words.
    matches!(xz, Some(liblzma::stream::Error::MemLimit))
        || error.to_string().contains("requires too much memory")
}

/// Counts the bytes that are read through it.
struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.taken += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

/// Decompresses a whole document; an error if it has more than `limit` bytes.
pub fn decompress(compression: Compression, bytes: &[u8], limit: u64) -> Result<Vec<u8>, Error> {
    let limits = Limits::document(limit);
    let failed = |e| Error::read(0, "its compressed data", e);
    let mut decoder = Decoder::new(compression, bytes, &limits).map_err(failed)?;
    let mut document = Vec::new();
    decoder.read_to_end(&mut document).map_err(failed)?;
    Ok(document)
}
