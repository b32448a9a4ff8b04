//! An error and its causes in one sentence: what a log line says.
//!
//! In scope: [`chain`]. Out of scope: hints, exit codes and statuses; who prints an error knows those.

use std::error::Error;

/// An error and its causes, joined by colons. A cause whose words were said already is left out: many errors repeat
/// their source in their own text.
pub fn chain(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    for cause in causes(error) {
        let words = cause.to_string();
        if !sentence.contains(&words) {
            sentence.push_str(": ");
            sentence.push_str(&words);
        }
    }
    sentence
}

/// The causes of an error, the nearest first, without the error itself.
pub fn causes<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn causes_follow_and_none_is_said_twice() {
        let disk = || Some(Box::new(Failed("the disk is full", None)));
        assert_eq!(chain(&Failed("cannot write", None)), "cannot write");
        assert_eq!(chain(&Failed("cannot write", disk())), "cannot write: the disk is full");
        let repeats = Failed("cannot write: the disk is full", disk());
        assert_eq!(chain(&repeats), "cannot write: the disk is full");
        let deep = Failed("cannot publish", Some(Box::new(Failed("cannot write", disk()))));
        assert_eq!(chain(&deep), "cannot publish: cannot write: the disk is full");
        assert_eq!(causes(&deep).count(), 2);
    }
}
