//! The house's one reader of archives that strangers made.
//!
//! In scope: the headers of tar archives (POSIX.1-2017, "ustar Interchange Format" and "pax Interchange Format", and
//! GNU's long names and base-256 numbers), of ar archives and of `.deb` files (deb(5)), and the decompressors gzip, xz
//! and zstd. Everything has a limit ([`Limits`]), and no name is held in memory beyond its own.
//!
//! Out of scope: what becomes of an entry. This crate never opens, creates or resolves a path; it reads from
//! [`std::io::Read`] and knows neither files nor async. Whether `..` or a leading `/` is acceptable is for the caller.
//!
//! The reader is strict: whatever two programs could understand in two ways is an error that names the entry, the byte
//! and what is wrong. So a digest over an archive means the same tree to everyone who reads it.
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
