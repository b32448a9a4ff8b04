//! The farm: everything that one run needs, opened; and the flow through the rooms.
//!
//! Start reading at [`pipeline`].

mod airgap;
mod archives;
mod aside;
mod cargo_lock;
pub mod decide;
mod depends;
mod error;
mod figures;
mod images;
mod keep;
pub mod keyring;
mod layout;
mod lock;
mod memory;
mod mirrors;
mod open;
mod order;
mod packages;
pub mod pipeline;
mod progress;
mod projects;
mod registry;
mod remove;
mod report;
mod schedule;
mod sources;
mod sync;
mod upstreams;
mod view;

pub use airgap::{Taken, Wanted as ImportWanted};
pub use error::{ExitStatus, FarmError};
pub use figures::watch;
pub use images::ImageSync;
pub use layout::Wanted;
pub use mirrors::{MirrorRow, Waiting};
pub use open::{Farm, Options};
pub use packages::Packages;
pub use progress::{Notes, Progress, Quiet};
pub use registry::{held_back, words};
pub use report::{BuildReport, PlatformReport};
pub use schedule::follow;
