//! Bytes named by their digest, as files.
//!
//! Layer: above `hab-oci`, below everything that keeps bytes. Synchronous: no runtime and no database. In scope: writing a
//! blob so that it is whole or not there, reading it with a limit and against its digest, uploads in pieces, which files a
//! collection may remove (`loose`), and setting aside what was damaged. Out of scope: what points at a blob; that is the
//! catalog's, in `hab-store`.
//!
//! The order that makes a crash harmless: bytes are hashed while they are written to a temporary name, synced, renamed to
//! their digest, the folder synced. Nothing reads what has no digest for a name.
//!
//! Start reading at [`Blobs`].

mod append;
mod damage;
mod error;
mod files;
mod folder;
mod helpers;
mod id;
mod loose;
mod resume;
mod strays;
mod tally;
mod upload;
mod writer;

pub use damage::{Stripe, Suspect};
pub use error::{Error, Fault, Result};
pub use files::{ensure_folder_of, sync_folder_of};
pub use folder::{Blob, Blobs};
pub use id::{UploadId, UploadIdError, random_hex};
pub use loose::{Alone, Keeping, Pin};
pub use strays::Stray;
pub use upload::{Mark, Upload};
pub use writer::BlobWriter;
