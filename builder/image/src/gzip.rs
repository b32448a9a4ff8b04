//! gzip on several cores; the output does not depend on how many there are.
//!
//! The input is cut into blocks of one size. Any free thread compresses a block on its own. The block may refer to the
//! 32 KiB before it, which its thread gets, and its output ends at a whole byte. So the outputs form one DEFLATE stream
//! (RFC 1951) of one gzip member (RFC 1952), which every reader of gzip reads.
//!
//! The compressor is one exact version of zlib-rs, which this crate names, and not the version that another crate asks
//! for: every byte is part of a layer's digest. It computes the same on every machine; its vector instructions only
//! compare and move bytes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use zlib_rs::crc32::{crc32, crc32_combine};
use zlib_rs::{Deflate, DeflateFlush, Status};

/// The bytes that one thread compresses at a time. The size decides the output: 128 KiB, as in pigz, would make it half
/// a percent larger.
const BLOCK: usize = 1 << 20;
/// How far back DEFLATE can refer.
const WINDOW: usize = 32 << 10;
/// The compression level, gzip's own default.
const LEVEL: i32 = 6;
/// The header of RFC 1952: DEFLATE; no name, no time, no further flags; and 255 for an unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// The most threads. More are of no use, because the tar comes from one thread.
const THREADS: u32 = 64;

/// Compresses its input, and writes the result to `W`.
pub(crate) struct Encoder<W: Write> {
    out: W,
    /// The block that is being filled. It is handed on only when more input comes, because the last block is marked as
    /// such.
    block: Vec<u8>,
    /// The end of the block before this one.
    before: Vec<u8>,
    jobs: Sender<Job>,
    /// The threads' results, in the order of the blocks.
    answers: VecDeque<Receiver<io::Result<Piece>>>,
    /// The most blocks that are with the threads at a time.
    most: usize,
    checksum: u32,
    /// The input's size modulo 2^32, as in the trailer.
    size: u32,
}

struct Job {
    before: Vec<u8>,
    block: Vec<u8>,
    last: bool,
    answer: SyncSender<io::Result<Piece>>,
}

/// A compressed block.
struct Piece {
    bytes: Vec<u8>,
    checksum: u32,
    /// The size of the block before compression.
    size: usize,
}

impl<W: Write> Encoder<W> {
    /// Starts the threads, which end when the encoder is dropped.
    pub(crate) fn new(threads: NonZero<u32>, mut out: W) -> io::Result<Self> {
        let threads = threads.get().min(THREADS);
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&waiting))?;
        }
        out.write_all(&HEADER)?;
        let (block, before, answers) = (Vec::with_capacity(BLOCK), Vec::new(), VecDeque::new());
        // Two blocks for each thread, so that no thread waits until the next block is written.
        Ok(Self { out, block, before, jobs, answers, most: 2 * threads as usize, checksum: 0, size: 0 })
    }

    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.block.len() == BLOCK {
                self.hand_on(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Compresses the rest of the input, and ends the member.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.hand_on(true)?;
        while !self.answers.is_empty() {
            self.write_next()?;
        }
        self.out.write_all(&self.checksum.to_le_bytes())?;
        self.out.write_all(&self.size.to_le_bytes())?;
        Ok(self.out)
    }

    fn hand_on(&mut self, last: bool) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(if last { 0 } else { BLOCK }));
        // A block that is not the last is longer than the window.
        let end = block[block.len().saturating_sub(WINDOW)..].to_vec();
        let before = std::mem::replace(&mut self.before, end);
        let (answer, answered) = sync_channel(1);
        self.jobs.send(Job { before, block, last, answer }).map_err(|_| ended())?;
        self.answers.push_back(answered);
        if self.answers.len() > self.most { self.write_next() } else { Ok(()) }
    }

    /// Waits for the first block that is not written yet, and writes it.
    fn write_next(&mut self) -> io::Result<()> {
        let Some(answer) = self.answers.pop_front() else { return Ok(()) };
        let Piece { bytes, checksum, size } = answer.recv().map_err(|_| ended())??;
        self.checksum = crc32_combine(self.checksum, checksum, size as u64);
        // A block has a mebibyte at most.
        self.size = self.size.wrapping_add(u32::try_from(size).unwrap_or(u32::MAX));
        self.out.write_all(&bytes)
    }
}

/// A thread ends early only by a panic.
fn ended() -> io::Error {
    io::Error::other("a thread of the compressor ended early")
}

/// Compresses blocks until no more can come.
fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        // Only one thread at a time waits here. A thread that panicked has left nothing half done.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { before, block, last, answer }) = job else { return };
        // If the output has failed, nobody receives this.
        let _ = answer.send(compress(&before, &block, last));
    }
}

fn compress(before: &[u8], block: &[u8], last: bool) -> io::Result<Piece> {
    let failed = |what: &str| io::Error::other(format!("zlib-rs cannot compress: {what}"));
    let mut deflate = Deflate::new(LEVEL, false, 15);
    if !before.is_empty() {
        deflate.set_dictionary(before).map_err(|e| failed(e.as_str()))?;
    }
    // Incompressible input grows by a few bytes for each 16 KiB. The buffer has room for all of it, because the size of
    // the buffer must not influence the output.
    let mut bytes = vec![0; block.len() + block.len() / 8 + 1024];
    let (flush, done) =
        if last { (DeflateFlush::Finish, Status::StreamEnd) } else { (DeflateFlush::SyncFlush, Status::Ok) };
    let status = deflate.compress(block, &mut bytes, flush).map_err(|e| failed(e.as_str()))?;
    let written = usize::try_from(deflate.total_out()).unwrap_or(usize::MAX);
    if status != done || deflate.total_in() != block.len() as u64 || written >= bytes.len() {
        return Err(failed("the output has no room"));
    }
    bytes.truncate(written);
    Ok(Piece { bytes, checksum: crc32(0, block), size: block.len() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// Incompressible bytes, the same on every machine.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        };
        (0..length).map(|_| next()).collect()
    }

    fn packed(bytes: &[u8], threads: u32, piece: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(NonZero::new(threads).unwrap(), Vec::new()).unwrap();
        bytes.chunks(piece).for_each(|chunk| encoder.write_all(chunk).unwrap());
        encoder.finish().unwrap()
    }

    fn unpacked(gzip: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        // This reads one member; anything after it would be left over.
        let mut decoder = flate2::bufread::GzDecoder::new(gzip);
        decoder.read_to_end(&mut bytes).unwrap();
        assert!(decoder.into_inner().is_empty());
        bytes
    }

    #[test]
    fn every_size_is_read_again_and_neither_threads_nor_pieces_change_a_byte() {
        let bytes = [noise(BLOCK + 7), vec![7; BLOCK], b"text ".repeat(BLOCK / 2)].concat();
        for size in [0, 1, 2, 3, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, bytes.len()] {
            let one = packed(&bytes[..size], 1, BLOCK);
            assert!(unpacked(&one) == bytes[..size], "{size}");
            assert!(
                [(1, 1000), (2, BLOCK), (3, 12_345), (8, 1 << 24)]
                    .into_iter()
                    .all(|(threads, piece)| packed(&bytes[..size], threads, piece) == one),
                "{size}"
            );
        }
    }

    #[test]
    fn a_block_refers_to_what_was_before_it() {
        let mut bytes = noise(BLOCK);
        bytes.extend_from_within(BLOCK - WINDOW + 1000..);
        let gzip = packed(&bytes, 2, BLOCK);
        assert!(gzip.len() < BLOCK + 2000, "{}", gzip.len());
        assert!(unpacked(&gzip) == bytes);
    }

    #[test]
    fn the_programs_that_others_use_read_it() {
        let bytes = [noise(1000), b"text ".repeat(BLOCK)].concat();
        let file = tempfile::NamedTempFile::with_suffix(".gz").unwrap();
        std::fs::write(file.path(), packed(&bytes, 3, BLOCK)).unwrap();
        let read = std::process::Command::new("gzip").arg("-dc").arg(file.path()).output().unwrap();
        assert!(read.status.success() && read.stdout == bytes);
    }

    #[test]
    fn an_output_that_fails_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes.len() == HEADER.len() {
                    Ok(bytes.len())
                } else {
                    Err(io::ErrorKind::StorageFull.into())
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut encoder = Encoder::new(NonZero::<u32>::MIN, Full).unwrap();
        let block = noise(BLOCK);
        let failed = (0..10).find_map(|_| encoder.write_all(&block).err()).unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_compressed_is_read_again(pieces in prop::collection::vec(("[a-c]{0,40}", 1..20_000_usize), 0..12)) {
            let bytes: Vec<u8> = pieces.iter().flat_map(|(text, times)| text.repeat(*times).into_bytes()).collect();
            prop_assert!(unpacked(&packed(&bytes, 2, 4096)) == bytes);
        }
    }
}
