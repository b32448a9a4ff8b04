//! Which archive a file is, by its content, and the tar stream within it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use super::UnpackError;
use super::ar::{self, Member};

/// xz -9 asks for 65 MiB; what asks for more than this is not a package.
const XZ_MEMORY: u64 = 256 * 1024 * 1024;
/// Long enough to see the magic of a tar, which is in its first header.
const PEEK: usize = 512;

/// What an archive file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Debian binary package: an `ar` archive with a tar archive in it.
    Deb,
    /// A tar archive, compressed or not.
    Tar(Compression),
}

/// How a tar archive is compressed.
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
    fn name(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

impl Format {
    /// Recognises an archive from its first bytes (512 are enough), or says what it looks like instead.
    pub fn recognise(start: &[u8]) -> Result<Self, &'static str> {
        if start.starts_with(ar::MAGIC) {
            return Ok(Self::Deb);
        }
        compression(start).map(Self::Tar)
    }
}

fn compression(start: &[u8]) -> Result<Compression, &'static str> {
    let old_tar = || {
        start.len() >= PEEK && start[0] != 0 && start[148..156].iter().all(|b| b" \x0001234567".contains(b))
    };
    match start {
        [] => Err("an empty file"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Compression::Xz),
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => Err("bzip2, which is not supported"),
        [0x5d, 0, 0, ..] => Err("lzma without a container, which is not supported"),
        [b'P', b'K', ..] => Err("zip, which is not supported"),
        [b'<', ..] => Err("a web page"),
        _ if start.get(257..262) == Some(b"ustar") || old_tar() => Ok(Compression::None),
        // Nothing but an end marker.
        _ if start.len() >= PEEK && start.iter().all(|b| *b == 0) => Ok(Compression::None),
        _ => Err("something unknown"),
    }
}

/// The uncompressed tar of an archive.
pub(super) struct Opened {
    pub(super) tar: Decoder<Box<dyn BufRead + Send>>,
    pub(super) format: Format,
    pub(super) compression: &'static str,
}

/// Opens the archive at `path` and finds the tar stream in it.
pub(super) fn open(name: &str, path: &Path) -> Result<Opened, UnpackError> {
    let io = |source| UnpackError::Open { archive: name.to_owned(), path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut reader: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(128 * 1024, file));
    let start = peek(&mut reader).map_err(io)?;
    let unknown = |looks_like| UnpackError::Format { archive: name.to_owned(), looks_like };
    let format = Format::recognise(&start).map_err(unknown)?;
    let (reader, compression) = match format {
        Format::Tar(compression) => (rejoin(start, reader), compression),
        Format::Deb => {
            let mut member = data_member(name, length, rejoin(start, reader))?;
            let start = peek(&mut member).map_err(io)?;
            let compression = compression(&start).map_err(unknown)?;
            (rejoin(start, member), compression)
        }
    };
    let tar = Decoder::new(compression, reader).map_err(|source| UnpackError::Decode {
        archive: name.to_owned(),
        format: compression.name(),
        source,
    })?;
    Ok(Opened { tar, format, compression: compression.name() })
}

/// Walks a `.deb` to its data member. deb(5): `debian-binary`, then `control.tar`, then `data.tar`; a name that begins
/// with an underscore may stand between the last two.
fn data_member(
    archive: &str,
    length: u64,
    mut reader: Box<dyn BufRead + Send>,
) -> Result<Box<dyn BufRead + Send>, UnpackError> {
    const EXPECTED: [&str; 3] = ["debian-binary", "control.tar", "data.tar"];
    const MISSING: [&str; 3] =
        ["there is no debian-binary member", "there is no control.tar member", "there is no data.tar member"];
    let truncated = |inside| UnpackError::Truncated { archive: archive.to_owned(), inside };
    let mut offset = ar::MAGIC.len() as u64;
    let mut step = 0;
    skip(&mut reader, offset).map_err(|_| truncated("the ar header"))?;
    loop {
        let bad = |problem| UnpackError::Deb { archive: archive.to_owned(), offset, problem };
        if offset >= length {
            return Err(bad(MISSING[step]));
        }
        let mut header = [0; ar::HEADER];
        reader.read_exact(&mut header).map_err(|_| truncated("a member's header"))?;
        let member = Member::parse(&header).map_err(bad)?;
        let content = offset + ar::HEADER as u64;
        // Checked here because a plain data.tar could end early unnoticed.
        if content + member.size > length {
            return Err(truncated("a member"));
        }
        let name = member.name.trim_end_matches('/');
        let matches =
            name == EXPECTED[step] || (step > 0 && name.starts_with(&format!("{}.", EXPECTED[step])));
        let tolerated = step == 2 && name.starts_with('_');
        match step {
            2 if matches => return Ok(Box::new(reader.take(member.size))),
            _ if matches || tolerated => {}
            _ => return Err(bad(MISSING[step])),
        }
        let next = member.next(content);
        if step == 0 {
            let mut version = String::new();
            reader
                .by_ref()
                .take(member.size.min(16))
                .read_to_string(&mut version)
                .map_err(|_| bad("the format version is not text"))?;
            if !version.starts_with("2.") {
                return Err(bad("the format version is not 2"));
            }
            skip(&mut reader, next - content - version.len() as u64).map_err(|_| truncated("a member"))?;
        } else {
            skip(&mut reader, next - content).map_err(|_| truncated("a member"))?;
        }
        step += usize::from(matches);
        offset = next;
    }
}

fn skip(reader: &mut dyn BufRead, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn peek(reader: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(PEEK);
    reader.take(PEEK as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn rejoin(start: Vec<u8>, rest: Box<dyn BufRead + Send>) -> Box<dyn BufRead + Send> {
    Box::new(Cursor::new(start).chain(rest))
}

/// One of the decompressors.
pub(super) enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Xz(Box<liblzma::bufread::XzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    fn new(compression: Compression, reader: R) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(reader),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Compression::Xz => {
                // dpkg and tar accept concatenated streams, so does this.
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Self::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream)))
            }
            Compression::Zstd => Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)),
        })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buffer),
            Self::Gzip(r) => r.read(buffer),
            Self::Xz(r) => r.read(buffer),
            Self::Zstd(r) => r.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(Format::recognise(b"!<arch>\ndebian"), Ok(Format::Deb));
        assert_eq!(
            Format::recognise(&[0xfd, b'7', b'z', b'X', b'Z', 0, 0]),
            Ok(Format::Tar(Compression::Xz))
        );
        assert_eq!(Format::recognise(&[0x1f, 0x8b, 8]), Ok(Format::Tar(Compression::Gzip)));
        assert_eq!(Format::recognise(&[0x28, 0xb5, 0x2f, 0xfd]), Ok(Format::Tar(Compression::Zstd)));
        assert_eq!(Format::recognise(b"BZh9"), Err("bzip2, which is not supported"));
        assert_eq!(Format::recognise(b""), Err("an empty file"));
        assert_eq!(Format::recognise(b"<!DOCTYPE html>"), Err("a web page"));
    }
}
