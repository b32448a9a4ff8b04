//! Walk, measure, copy, give away and remove folders that a stranger filled, perhaps while the stranger still writes.
//!
//! **In scope**: what a build, a peer or an archive left on disk. **Out of scope**: what the files mean.
//!
//! Every function here goes from descriptor to descriptor, by one name at a time. So none of them
//! - follows a symbolic link, also not one that takes a folder's place in the middle of the work,
//! - leaves the file system it started on,
//! - uses recursion, a path longer than one name, or more than some 40 descriptors, however deep the folders are,
//! - stops at a folder that its owner made unreadable, where this process may change that.
//!
//! Start reading at [`walk()`]; removal has a plan of its own in `remove.rs`.

mod copy;
mod open;
mod remove;
mod walk;

pub use copy::copy;
pub use remove::remove;
pub use walk::{Entry, Measure, Walked, give_away, measure, walk};
