//! Leaves out a test that needs something this machine lacks: a program, root, a mount, the network. Left out silently,
//! the test would look like one that passed. So it says what is lacking, as one of the words below, and
//!
//! - if `HAB_MAY_LACK` is set, the test fails unless that variable contains the word: whoever runs the tests says what
//!   this machine may lack (`HAB_MAY_LACK="network corpus"`; empty: nothing). Unset, as on a developer's machine,
//!   everything may be lacking;
//! - if `HAB_LEFT_OUT` names a file, a line is appended to it, because test runners hide the output of tests that
//!   passed.
//!
//! `ci/check` sets both. Only tests use this crate.

use std::fmt::{self, Display};
use std::io::Write as _;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A program that `ci/deps --clients` installs.
    Program,
    /// The tests do not run as root.
    Root,
    /// A user that may mount a file system.
    Mount,
    /// A package archive that can be reached.
    Network,
    /// The real signatures and keys that some checkouts have beside them.
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

/// Reports that the running test is left out, and why. The caller then returns.
///
/// # Panics
/// If `HAB_MAY_LACK` is set and does not name `what`: that makes the test fail. If the file that `HAB_LEFT_OUT` names
/// cannot be written.
pub fn skip(what: Lack, why: impl Display) {
    println!("left out ({what}): {why}");
    let may = std::env::var("HAB_MAY_LACK").ok();
    assert!(may_lack(may.as_deref(), what), "{why}; HAB_MAY_LACK does not let this machine lack \"{what}\"");
    if let Some(file) = std::env::var_os("HAB_LEFT_OUT") {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("{name} ({what}): {why}\n");
        // One write for the whole line, so that lines of concurrent tests do not mix.
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
