//! Walks, measures, copies, gives away and removes folders that a stranger filled, perhaps while the stranger still
//! writes.
//!
//! **In scope**: files that a build, a peer or an archive left on disk. **Out of scope**: what the files mean.
//!
//! Every function here goes from descriptor to descriptor, one name at a time. So none of them
//! - follows a symbolic link, not even one that takes a folder's place in the middle of the work,
//! - leaves the file system that it started on,
//! - uses recursion, a path longer than one name, or more than some 40 descriptors, however deep the folders are,
//! - stops at a folder that its owner made unreadable, where this process may make it readable.
//!
//! Start reading at [`walk()`]; `remove.rs` explains how removal works.

mod copy;
mod open;
mod remove;
mod walk;

pub use copy::copy;
pub use remove::remove;
pub use walk::{Measure, WalkEntry, Walked, give_away, measure, walk};
