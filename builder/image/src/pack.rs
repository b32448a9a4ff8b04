//! Writes a layer in one pass: one thread makes and hashes the tar, another compresses it and hashes the result.

use std::io::{self, Read, Write};
use std::num::NonZero;
use std::sync::mpsc::{SyncSender, sync_channel};

use hab_oci::{Algorithm, Descriptor, Digest, Hasher};

use crate::header::{END, Header, Kind, padding};
use crate::layer::{Layer, Node};
use crate::{Compression, ImageError};

/// The bytes of the tar that one thread hands to the other at a time. The compressor always gets pieces of this size,
/// whatever pieces the readers deliver.
const CHUNK: usize = 1 << 20;
/// The most chunks that may wait for the compressor.
const WAITING: usize = 8;

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    /// The digest of the uncompressed tar: the same for every compression.
    pub diff_id: Digest,
    /// The uncompressed tar's size in bytes.
    pub tar_size: u64,
    /// The compressed blob's descriptor.
    pub descriptor: Descriptor,
}

impl Layer<'_> {
    /// Writes the layer to `out`, compressed by `threads` threads; their number does not change a byte.
    pub fn pack(
        self,
        compression: Compression,
        threads: usize,
        out: &mut dyn Write,
    ) -> Result<PackedLayer, ImageError> {
        let threads = u32::try_from(threads).ok().and_then(NonZero::new).unwrap_or(NonZero::<u32>::MIN);
        let (sender, receiver) = sync_channel::<Vec<u8>>(WAITING);
        std::thread::scope(|scope| {
            let tar = scope.spawn(move || -> Result<_, ImageError> {
                let mut sink =
                    Sink { chunk: Vec::with_capacity(CHUNK), sender, hasher: sha256(), size: 0, cut: false };
                self.tar(&mut sink)?;
                sink.flush();
                Ok((sink.hasher.finish(), sink.size))
            });
            let compressed = (|| {
                let mut encoder = compression.encoder(threads, Hashing { out, hasher: sha256(), size: 0 })?;
                // This closure owns the receiver: when it returns early, the other thread must not wait for ever.
                let receiver = receiver;
                for chunk in &receiver {
                    encoder.write_all(&chunk)?;
                }
                let mut written = encoder.finish()?;
                written.flush()?;
                Ok((written.hasher.finish(), written.size))
            })();
            // The tar's error comes first: a failed input cuts the compressor's input short.
            let (diff_id, tar_size) = tar.join().map_err(|_| ImageError::Panicked)??;
            let (digest, size) = compressed.map_err(ImageError::Write)?;
            let media_type = compression.media_type().to_owned();
            Ok(PackedLayer {
                diff_id,
                tar_size,
                descriptor: Descriptor { media_type, digest, size, platform: None },
            })
        })
    }

    fn tar(self, sink: &mut Sink) -> Result<(), ImageError> {
        for (path, node) in self.nodes {
            if sink.cut {
                // The compressor has failed, and its error is the one to report.
                return Ok(());
            }
            let mut header = Header {
                path: &path,
                kind: Kind::File,
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: self.epoch,
                target: "",
            };
            match node {
                Node::File { executable, size, open } => {
                    header.mode = if executable { 0o755 } else { 0o644 };
                    header.size = size;
                    sink.put(&header.bytes());
                    let read = |source| ImageError::Read { path: path.clone(), source };
                    let copied = sink.copy(open().map_err(read)?.as_mut(), size).map_err(read)?;
                    if let Some(relation) = copied {
                        return Err(ImageError::Size { path, relation, size });
                    }
                }
                Node::Link(target) => {
                    let header = Header { kind: Kind::Link, mode: 0o777, target: &target, ..header };
                    sink.put(&header.bytes());
                }
                Node::HardLink { executable, target } => {
                    let mode = if executable { 0o755 } else { 0o644 };
                    let header = Header { kind: Kind::HardLink, mode, target: &target, ..header };
                    sink.put(&header.bytes());
                }
                Node::Directory(d) => {
                    let header =
                        Header { kind: Kind::Directory, mode: d.mode, uid: d.uid, gid: d.gid, ..header };
                    sink.put(&header.bytes());
                }
                Node::Implied => {
                    let header = Header { kind: Kind::Directory, mode: 0o755, ..header };
                    sink.put(&header.bytes());
                }
            }
        }
        sink.put(&END);
        Ok(())
    }
}

fn sha256() -> Hasher {
    Hasher::new(Algorithm::Sha256)
}

/// Collects the tar into chunks, which it hashes and hands on.
struct Sink {
    chunk: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
    hasher: Hasher,
    size: u64,
    /// Whether nobody takes the chunks any more.
    cut: bool,
}

impl Sink {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK {
                self.flush();
            }
        }
    }

    /// Copies a file's content and its padding. Returns `longer` or `shorter` if the content is not `size` bytes long.
    fn copy(&mut self, reader: &mut dyn Read, size: u64) -> io::Result<Option<&'static str>> {
        let mut left = size;
        while left > 0 && !self.cut {
            let room = (CHUNK - self.chunk.len()) as u64;
            let read = reader.take(left.min(room)).read_to_end(&mut self.chunk)?;
            if read == 0 {
                return Ok(Some("shorter"));
            }
            left -= read as u64;
            if self.chunk.len() == CHUNK {
                self.flush();
            }
        }
        if !self.cut && reader.take(1).read_to_end(&mut Vec::new())? > 0 {
            return Ok(Some("longer"));
        }
        self.put(&END[..padding(size)]);
        Ok(None)
    }

    fn flush(&mut self) {
        self.hasher.update(&self.chunk);
        self.size += self.chunk.len() as u64;
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.cut |= self.sender.send(chunk).is_err();
    }
}

/// Passes bytes on to `out`, and hashes them.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: Hasher,
    size: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
