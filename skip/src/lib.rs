//! A test that needs more than a compiler (a program, root, a mount, the network) is left out where that cannot be
//! had. Left out in silence, it would look as good as passed. So it says what it lacks, in one of the words below,
//! and
//!
//! - where `HAB_MAY_LACK` is set, it fails unless the word stands there: who runs the tests says what this machine
//!   may lack (`HAB_MAY_LACK="network corpus"`; empty: nothing). Unset, at a desk, everything may be lacking;
//! - where `HAB_LEFT_OUT` names a file, a line is added to it, because runners hide what a test that passed has
//!   printed.
//!
//! `ci/check` sets both. This crate is for tests alone.

use std::fmt::{self, Display};
use std::io::Write as _;

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A program that `ci/deps --clients` installs.
    Program,
    /// To be root.
    Root,
    /// That this user may mount a file system.
    Mount,
    /// A package archive that answers.
    Network,
    /// The real signatures and keys that lie beside some checkouts.
    Corpus,
}

impl Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Program => "program",
            Self::Root => "root",
            Self::Mount => "mount",
            Self::Network => "network",
            Self::Corpus => "corpus",
        })
    }
}

/// Says that the running test is left out, and why. The caller returns.
///
/// # Panics
/// Where `HAB_MAY_LACK` is set and does not name `what`; that is the test's failure. Where the file of `HAB_LEFT_OUT`
/// cannot be written.
pub fn skip(what: Lack, why: impl Display) {
    println!("left out ({what}): {why}");
    let may = std::env::var("HAB_MAY_LACK").ok();
    assert!(may_lack(may.as_deref(), what), "{why}; HAB_MAY_LACK does not let this machine lack \"{what}\"");
    if let Some(file) = std::env::var_os("HAB_LEFT_OUT") {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("{name} ({what}): {why}\n");
        // One write of one line: lines of tests that run at once do not mix.
        let file = std::fs::File::options().create(true).append(true).open(file);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("HAB_LEFT_OUT names a file that can be written");
    }
}

fn may_lack(words: Option<&str>, what: Lack) -> bool {
    words.is_none_or(|words| words.split_whitespace().any(|word| word == what.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_lacks_only_what_it_may() {
        for (words, may) in
            [(None, true), (Some("network root"), true), (Some("network"), false), (Some(""), false)]
        {
            assert_eq!(may_lack(words, Lack::Root), may, "{words:?}");
        }
        assert!(!may_lack(Some("roots"), Lack::Root));
    }
}
