//! Bytes named by their digest, as files.
//!
//! Layer: above `hab-oci`, below everything that keeps bytes. Synchronous: no runtime and no database. In scope:
//! writing a blob so that it is whole or not there, reading it with a limit and against its digest, uploads in pieces,
//! which files a collection may remove (`loose`), and setting aside what was damaged. Out of scope: what points at a
//! blob; the catalog in `hab-store` knows that.
//!
//! The order of writing makes a crash harmless: a writer hashes the bytes while it writes them under a temporary name,
//! syncs the file, renames it to its digest, and syncs the folder. A file whose name is not a digest is never read as a
//! blob.
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
pub use loose::{ExclusiveLock, Keeping, Pin};
pub use strays::Stray;
pub use upload::{Mark, Upload};
pub use writer::BlobWriter;
