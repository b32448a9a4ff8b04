//! The farm: everything that one run needs, opened; and the flow through the rooms.
//!
//! Start reading at [`pipeline`].

pub mod decide;
mod depends;
mod error;
mod keep;
pub mod keyring;
mod lock;
mod memory;
mod mirrors;
mod open;
mod order;
pub mod pipeline;
mod progress;
mod report;
mod sources;

pub use error::{ExitStatus, FarmError};
pub use open::{Farm, Options};
pub use progress::{Progress, Quiet};
pub use report::{BuildReport, PlatformReport};
