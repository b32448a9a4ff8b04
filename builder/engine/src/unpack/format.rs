//! Recognises an archive by its content, and opens the tar stream in it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

pub use hab_archive::Compression;
use hab_archive::{Decoder, Limits, Problem, Source, ar, deb};

use super::UnpackError;

/// Long enough to see the magic of a tar, which is in its first header.
const PEEK: usize = 512;

/// The format of an archive file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Debian binary package: an `ar` archive with a tar archive in it.
    Deb,
    /// A tar archive, compressed or not.
    Tar(Compression),
}

impl Format {
    /// Recognises an archive from its first bytes (512 are enough), or says what it looks like instead.
    pub fn recognise(start: &[u8]) -> Result<Self, &'static str> {
        if start.starts_with(ar::MAGIC) {
            return Ok(Self::Deb);
        }
        Compression::recognise(start).map(Self::Tar)
    }
}

/// The uncompressed tar of an archive.
pub(super) struct Opened {
    pub(super) tar: Decoder<Box<dyn BufRead + Send>>,
    pub(super) format: Format,
    pub(super) compression: &'static str,
}

/// Opens the archive at `path` and finds the tar stream in it, which must keep to `limits`.
pub(super) fn open(name: &str, path: &Path, limits: &Limits) -> Result<Opened, UnpackError> {
    let io = |source| UnpackError::Open { archive: name.to_owned(), path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut reader = BufReader::with_capacity(128 * 1024, file);
    let start = peek(&mut reader).map_err(io)?;
    let unknown = |looks_like| UnpackError::Format { archive: name.to_owned(), looks_like };
    let format = Format::recognise(&start).map_err(unknown)?;
    let (reader, compression): (Box<dyn BufRead + Send>, _) = match format {
        Format::Tar(compression) => (Box::new(Cursor::new(start).chain(reader)), compression),
        Format::Deb => {
            reader.seek(SeekFrom::Start(0)).map_err(io)?;
            let mut outline = Outline(reader);
            let span = deb::data(&mut outline, length).map_err(|e| malformed(name, e))?;
            let mut reader = outline.0;
            reader.seek(SeekFrom::Start(span.offset)).map_err(io)?;
            let mut member = reader.take(span.size);
            let start = peek(&mut member).map_err(io)?;
            let compression = Compression::recognise(&start).map_err(unknown)?;
            (Box::new(Cursor::new(start).chain(member)), compression)
        }
    };
    let tar = Decoder::new(compression, reader, limits).map_err(|source| UnpackError::Decode {
        archive: name.to_owned(),
        format: compression.name(),
        source,
    })?;
    Ok(Opened { tar, format, compression: compression.name() })
}

/// The error for a package whose outer `ar` archive is malformed.
fn malformed(archive: &str, error: hab_archive::Error) -> UnpackError {
    let (archive, offset) = (archive.to_owned(), error.offset);
    match error.problem {
        Problem::Truncated(inside) => UnpackError::Truncated { archive, inside },
        Problem::Malformed(problem) => UnpackError::Deb { archive, offset, problem },
        Problem::Exceeded(exceeded) => UnpackError::Limit { archive, entry: None, exceeded },
        Problem::Read(source) => UnpackError::Decode { archive, format: "ar", source },
    }
}

/// A package whose members are skipped without reading them.
struct Outline(BufReader<File>);

impl Read for Outline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Outline {
    /// The caller has checked the members' sizes against the file's, so this never goes beyond its end.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.0.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)
    }
}

fn peek(reader: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(PEEK);
    reader.take(PEEK as u64).read_to_end(&mut start)?;
    Ok(start)
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
