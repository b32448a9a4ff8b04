//! What runs by itself while the farm serves.

mod figures;
mod schedule;

pub use figures::watch;
pub use schedule::follow;
