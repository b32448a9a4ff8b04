//! One layer: a sorted tar archive of what it is given (image specification, "Filesystem layers").

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use hab_oci::{Descriptor, Digest};

use crate::Compression;
use crate::compress::Compressor;

/// Why a layer or an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a path within an image.
    #[error("{0:?} is not a path in an image: relative, without . or .. or empty parts")]
    Path(String),
    /// One path, two things.
    #[error("{0} would stand twice in a layer")]
    Twice(String),
    /// A file lies below something that is not a folder.
    #[error("{0} would lie below something that is not a folder")]
    BelowFile(String),
    /// The content's size is not the announced one.
    #[error("{path} has {actual} bytes, but {expected} were announced")]
    Size {
        /// Which file.
        path: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes read.
        actual: u64,
    },
    /// Reading content or writing the layer.
    #[error("{path} could not be written to the layer")]
    Io {
        /// Which file, or the layer.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A time that has no date.
    #[error("{0} is not a time that can be written as a date")]
    Time(i64),
}

enum Node<'a> {
    Folder { owner: u32, mode: u32 },
    File { executable: bool, size: u64, content: Box<dyn Read + 'a> },
    Link { target: String },
}

/// A layer that is being put together. Paths are relative to the image's root, with slashes.
#[derive(Default)]
pub struct Layer<'a> {
    nodes: BTreeMap<String, Node<'a>>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The blob: media type, digest and size of the compressed bytes.
    pub descriptor: Descriptor,
    /// The digest of the tar archive itself.
    pub diff_id: Digest,
}

impl<'a> Layer<'a> {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a file of `size` bytes, mode 0755 or 0644.
    pub fn file(
        &mut self,
        path: &str,
        executable: bool,
        size: u64,
        content: impl Read + 'a,
    ) -> Result<(), ImageError> {
        self.add(path, Node::File { executable, size, content: Box::new(content) })
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), ImageError> {
        self.add(path, Node::Link { target: target.to_owned() })
    }

    /// Adds a folder that is more than the parent of what it holds: with an owner (also its group) and mode.
    pub fn folder(&mut self, path: &str, owner: u32, mode: u32) -> Result<(), ImageError> {
        self.add(path, Node::Folder { owner, mode })
    }

    fn add(&mut self, path: &str, node: Node<'a>) -> Result<(), ImageError> {
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(ImageError::Path(path.to_owned()));
        }
        let mut parent = path;
        while let Some((above, _)) = parent.rsplit_once('/') {
            match self.nodes.entry(above.to_owned()).or_insert(Node::Folder { owner: 0, mode: 0o755 }) {
                Node::Folder { .. } => parent = above,
                Node::File { .. } | Node::Link { .. } => return Err(ImageError::BelowFile(path.to_owned())),
            }
        }
        let explicit = matches!(node, Node::Folder { .. });
        match self.nodes.insert(path.to_owned(), node) {
            None => Ok(()),
            // It was there as a parent; now it also has an owner and a mode.
            Some(Node::Folder { owner: 0, mode: 0o755 }) if explicit => Ok(()),
            Some(_) => Err(ImageError::Twice(path.to_owned())),
        }
    }

    /// Writes the layer, every time `mtime` (seconds since 1970), owner 0 unless said otherwise.
    pub fn write<W: Write>(
        self,
        mtime: i64,
        compression: Compression,
        to: W,
    ) -> Result<(W, Written), ImageError> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        self.write_with(mtime, compression, to, u32::try_from(workers).unwrap_or(1))
    }

    pub(crate) fn write_with<W: Write>(
        self,
        mtime: i64,
        compression: Compression,
        to: W,
        workers: u32,
    ) -> Result<(W, Written), ImageError> {
        let whole = |source| ImageError::Io { path: "the layer".to_owned(), source };
        let compressor = Compressor::new(to, compression, workers).map_err(whole)?;
        let mut tar = tar::Builder::new(compressor);
        for (path, node) in self.nodes {
            append(&mut tar, &path, node, u64::try_from(mtime).unwrap_or(0))?;
        }
        let (to, sums) = tar.into_inner().and_then(Compressor::finish).map_err(whole)?;
        let media_type = compression.media_type().to_owned();
        let descriptor = Descriptor { media_type, digest: sums.digest, size: sums.size, platform: None };
        Ok((to, Written { descriptor, diff_id: sums.diff_id }))
    }
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    node: Node<'_>,
    mtime: u64,
) -> Result<(), ImageError> {
    let failed = |source| ImageError::Io { path: path.to_owned(), source };
    let mut header = tar::Header::new_gnu();
    header.set_mtime(mtime);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match node {
        Node::Folder { owner, mode } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(mode);
            header.set_uid(owner.into());
            header.set_gid(owner.into());
            tar.append_data(&mut header, format!("{path}/"), io::empty()).map_err(failed)
        }
        Node::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            tar.append_link(&mut header, path, target).map_err(failed)
        }
        Node::File { executable, size, content } => {
            header.set_mode(if executable { 0o755 } else { 0o644 });
            header.set_size(size);
            // The header is written first, so a file of another size than announced would shift all that follows.
            let mut exact = Exact { inner: content, left: size, read: 0 };
            tar.append_data(&mut header, path, &mut exact).map_err(failed)?;
            exact.check(path, size)
        }
    }
}

/// Yields exactly the announced number of bytes, and remembers when there were more or fewer.
struct Exact<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    read: u64,
}

impl Exact<'_> {
    fn check(mut self, path: &str, expected: u64) -> Result<(), ImageError> {
        let mut one = [0];
        let failed = |source| ImageError::Io { path: path.to_owned(), source };
        let more = self.inner.read(&mut one).map_err(failed)? as u64;
        let actual = self.read + more;
        if actual == expected {
            Ok(())
        } else {
            Err(ImageError::Size { path: path.to_owned(), expected, actual })
        }
    }
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        self.left -= n as u64;
        self.read += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(files: &[(String, Vec<u8>)], compression: Compression, workers: u32) -> (Vec<u8>, Written) {
        let mut layer = Layer::new();
        for (path, content) in files {
            layer.file(path, false, content.len() as u64, content.as_slice()).unwrap();
        }
        layer.write_with(1_700_000_000, compression, Vec::new(), workers).unwrap()
    }

    fn sample() -> Vec<(String, Vec<u8>)> {
        // More than two of zstd's jobs; noise that repeats, because level 19 takes its time over anything else.
        let mut state = 1u32;
        let noise = (0..64 << 10).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let noise = noise.collect::<Vec<u8>>().repeat(17 * 16);
        vec![("usr/bin/a".to_owned(), noise), ("etc/b".to_owned(), b"text".to_vec())]
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        for compression in [Compression::Zstd, Compression::Gzip] {
            assert_eq!(written(&sample(), compression, 1), written(&sample(), compression, 3));
        }
    }

    /// The whole pinned chain: order, headers, compressor and its parameters. It changes when Cargo.lock takes another
    /// zstd or tar, and then every image's transport digest changes too: bump `PLAN_SCHEMA` in hab-recipe with it.
    #[test]
    fn the_bytes_are_pinned() {
        let (_, w) = written(&sample(), Compression::Zstd, 2);
        assert_eq!(
            w.diff_id.to_string(),
            "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        );
        assert_eq!(
            w.descriptor.digest.to_string(),
            "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        );
    }

    #[test]
    fn a_layer_reads_back_as_what_was_put_in() {
        let mut layer = Layer::new();
        layer.folder("var/lib/x", 1000, 0o700).unwrap();
        layer.file("usr/bin/run", true, 2, &b"hi"[..]).unwrap();
        layer.link("usr/lib/l.so", "l.so.1").unwrap();
        let (bytes, written) = layer.write(5, Compression::Gzip, Vec::new()).unwrap();
        assert_eq!(written.descriptor.digest, Digest::of(&bytes));
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(written.diff_id, Digest::of(&plain));
        let mut archive = tar::Archive::new(plain.as_slice());
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                let h = e.header();
                (
                    e.path().unwrap().display().to_string(),
                    h.mode().unwrap(),
                    h.uid().unwrap(),
                    h.mtime().unwrap(),
                )
            })
            .collect();
        let row = |p: &str, m, u| (p.to_owned(), m, u, 5);
        assert_eq!(
            seen,
            [
                row("usr/", 0o755, 0),
                row("usr/bin/", 0o755, 0),
                row("usr/bin/run", 0o755, 0),
                row("usr/lib/", 0o755, 0),
                row("usr/lib/l.so", 0o777, 0),
                row("var/", 0o755, 0),
                row("var/lib/", 0o755, 0),
                row("var/lib/x/", 0o700, 1000),
            ]
        );
    }

    #[test]
    fn what_cannot_be_a_layer_is_refused() {
        let mut layer = Layer::new();
        for bad in ["", "/etc", "a/../b", "a//b", "./a", "a\0b"] {
            assert!(matches!(layer.file(bad, false, 0, io::empty()), Err(ImageError::Path(_))), "{bad}");
        }
        layer.file("a", false, 0, io::empty()).unwrap();
        assert!(matches!(layer.file("a", false, 0, io::empty()), Err(ImageError::Twice(_))));
        assert!(matches!(layer.file("a/b", false, 0, io::empty()), Err(ImageError::BelowFile(_))));
        for size in [1, 3] {
            let mut layer = Layer::new();
            layer.file("a", false, size, &b"22"[..]).unwrap();
            assert!(layer.write(0, Compression::Gzip, Vec::new()).is_err(), "{size}");
        }
    }

    proptest! {
        #[test]
        fn the_order_in_which_files_come_does_not_matter(
            files in proptest::collection::btree_map("[a-z]{1,8}(/[a-z]{1,8}){0,3}", proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            seed in any::<u64>(),
        ) {
            let mut files: Vec<_> = files.into_iter().collect();
            // A file may not be another one's folder.
            let names: Vec<String> = files.iter().map(|f| f.0.clone()).collect();
            files.retain(|(name, _)| !names.iter().any(|n| n.starts_with(&format!("{name}/"))));
            let sorted = written(&files, Compression::Zstd, 1);
            let turn = usize::try_from(seed % 7).unwrap() % files.len().max(1);
            files.rotate_left(turn);
            files.reverse();
            prop_assert_eq!(sorted, written(&files, Compression::Zstd, 1));
        }
    }
}
