//! Reads archives that strangers made; the house's only archive reader.
//!
//! In scope: the headers of tar archives (POSIX.1-2017, "ustar Interchange Format" and "pax Interchange Format", and
//! GNU's long names and base-256 numbers), of ar archives and of `.deb` files (deb(5)), and the decompressors gzip, xz
//! and zstd. Everything has a limit ([`Limits`]), and no name is held in memory beyond its own.
//!
//! Out of scope: what becomes of an entry. This crate never opens, creates or resolves a path. It reads from
//! [`std::io::Read`] and knows neither files nor async. The caller decides whether it accepts `..` or a leading `/`.
//!
//! The reader is strict: anything that two programs could read differently is an error that names the entry, the byte
//! and the fault. So a digest over an archive means the same tree to everyone who reads it.
//!
//! Start reading at [`Tar`], then [`Decoder`].

pub mod ar;
pub mod deb;
mod decode;
mod error;
mod limits;
mod shown;
mod source;
mod tar;

pub use decode::{Compression, Decoder, decompress};
pub use error::{Error, Exceeded, Measure, Problem};
pub use limits::Limits;
pub use shown::shown;
pub use source::{Source, Stream};
pub use tar::{Content, Entry, Kind, Tar};
