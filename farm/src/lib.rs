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
mod room;
mod schedule;
mod sources;
mod sync;
mod upstreams;
mod view;

pub use airgap::{Taken, Wanted as ImportWanted};
pub use error::{FarmError, Fault, chain, near};
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

/// A number of things, for people: `1 tag`, `2 tags`.
pub fn counted(number: u64, thing: &str) -> String {
    let many = match (number, thing.strip_suffix('y')) {
        (1, _) => thing.to_owned(),
        // `repositories`, but `days`.
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{thing}s"),
    };
    format!("{number} {many}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_thing_is_one_thing() {
        let said = [(1, "tag"), (0, "tag"), (2, "repository"), (1, "repository"), (3, "day")];
        let said = said.map(|(number, thing)| counted(number, thing));
        assert_eq!(said, ["1 tag", "0 tags", "2 repositories", "1 repository", "3 days"]);
    }
}
