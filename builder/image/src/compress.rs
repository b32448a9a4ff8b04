//! From a tar stream to a blob: two digests in one pass.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use hab_oci::{Algorithm, Digest, Hasher, media_type};

/// zstd's level. The image is made once and pulled often, so the slow end of what is still cheap to unpack.
const ZSTD_LEVEL: i32 = 19;
/// How much input each of zstd's jobs gets, in bytes. Pinned: it decides the output, the number of workers does not.
const ZSTD_JOB: u32 = 8 << 20;
/// gzip's level.
const GZIP_LEVEL: u32 = 9;
/// How much is handed to the two sides at a time.
const CHUNK: usize = 1 << 20;

/// How a layer is compressed for transport. Identity does not depend on it: that is the diffID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// zstd.
    Zstd,
    /// gzip.
    Gzip,
}

impl Compression {
    /// The layer's media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Zstd => media_type::LAYER_ZSTD,
            Self::Gzip => media_type::LAYER_GZIP,
        }
    }
}

/// Takes the tar stream; hashes it on another thread while this one compresses.
pub(crate) struct Compressor<W: Write> {
    chunk: Vec<u8>,
    plain: SyncSender<Arc<Vec<u8>>>,
    hashing: JoinHandle<Digest>,
    packed: Packed<W>,
}

enum Packed<W: Write> {
    Zstd(zstd::Encoder<'static, Counted<W>>),
    Gzip(flate2::write::GzEncoder<Counted<W>>),
}

/// What a finished stream was.
pub(crate) struct Sums {
    pub diff_id: Digest,
    pub digest: Digest,
    pub size: u64,
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(to: W, compression: Compression, workers: u32) -> io::Result<Self> {
        let (plain, chunks) = sync_channel::<Arc<Vec<u8>>>(4);
        let hashing = thread::spawn(move || {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            for chunk in chunks {
                hasher.update(&chunk);
            }
            hasher.finish()
        });
        let to = Counted { inner: to, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let packed = match compression {
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL)?;
                // At least one: without workers zstd takes another path, with other output.
                encoder.multithread(workers.max(1))?;
                encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
                encoder.include_checksum(true)?;
                Packed::Zstd(encoder)
            }
            Compression::Gzip => Packed::Gzip(
                // 255: unknown; the header must not tell where it was made.
                flate2::GzBuilder::new()
                    .mtime(0)
                    .operating_system(255)
                    .write(to, flate2::Compression::new(GZIP_LEVEL)),
            ),
        };
        Ok(Self { chunk: Vec::with_capacity(CHUNK), plain, hashing, packed })
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = Arc::new(std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK)));
        self.plain.send(Arc::clone(&chunk)).map_err(|_| io::Error::other("the hashing thread ended"))?;
        match &mut self.packed {
            Packed::Zstd(encoder) => encoder.write_all(&chunk),
            Packed::Gzip(encoder) => encoder.write_all(&chunk),
        }
    }

    pub(crate) fn finish(mut self) -> io::Result<(W, Sums)> {
        self.send()?;
        drop(self.plain);
        let counted = match self.packed {
            Packed::Zstd(encoder) => encoder.finish()?,
            Packed::Gzip(encoder) => encoder.finish()?,
        };
        let diff_id = self.hashing.join().map_err(|_| io::Error::other("the hashing thread panicked"))?;
        Ok((counted.inner, Sums { diff_id, digest: counted.hasher.finish(), size: counted.size }))
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let n = bytes.len().min(room);
        self.chunk.extend_from_slice(&bytes[..n]);
        if self.chunk.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Counted<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
