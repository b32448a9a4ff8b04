//! Why an upstream did not give what it was asked for: in full for the log and the operator, without addresses for
//! clients.

use std::fmt;

use hab_outbound::{Problem, story};

/// A sentence that may be said outside, and all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    outside: String,
    detail: String,
}

/// Why an upstream did not give what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// It says that there is no such thing, or, to somebody without an account, that it is not for everybody.
    #[error("it has none")]
    Absent,
    /// It did not answer, or said it cannot.
    #[error("{0}")]
    Away(Why),
    /// It does not let us in: a password that is wrong or missing, or one that may not have this.
    #[error("{0}")]
    Denied(Why),
    /// What it sent is not what it should be.
    #[error("what it sent is refused: {0}")]
    Wrong(String),
}

impl Why {
    pub(crate) fn new(outside: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { outside: outside.into(), detail: detail.into() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Failure {
    /// It did not answer, for a reason that anybody may hear.
    pub(crate) fn away(sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self::Away(Why::new(sentence.clone(), sentence))
    }

    /// It does not let us in.
    pub(crate) fn denied(outside: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Denied(Why::new(outside, detail))
    }

    /// The transport's own: with the address and all causes for the log, with the cause alone for clients, who need not
    /// know where an operator's hosts are.
    pub(crate) fn of(problem: &Problem) -> Self {
        let outside = problem.cause().to_string();
        if problem.cause().is_away() {
            Self::Away(Why::new(outside, story(problem)))
        } else {
            Self::Wrong(outside)
        }
    }

    /// What a client is told.
    pub fn outside(&self) -> String {
        match self {
            Self::Away(why) | Self::Denied(why) => why.outside.clone(),
            Self::Absent | Self::Wrong(_) => self.to_string(),
        }
    }
}
