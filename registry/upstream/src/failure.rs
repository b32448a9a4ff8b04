//! Why an upstream did not give what it was asked for: in full for the log and the operator, and without addresses for
//! clients.

use std::fmt;

use hab_outbound::{Problem, story};

/// A reason: a sentence for clients, and the details for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    outside: String,
    detail: String,
}

/// Why an upstream did not give what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The upstream says that it has no such content. To a client without an account, it may mean that the content is
    /// not public.
    #[error("it has no such content")]
    Absent,
    /// The upstream did not answer, or said that it cannot.
    #[error("{0}")]
    Away(Why),
    /// The upstream refuses our credentials: the password is wrong or missing, or its account may not have this.
    #[error("{0}")]
    Denied(Why),
    /// The upstream's answer is not what it should be.
    #[error("its answer is refused: {0}")]
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
    /// The upstream did not answer, for a reason that clients may see.
    pub(crate) fn away(sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self::Away(Why::new(sentence.clone(), sentence))
    }

    /// The upstream refuses our credentials.
    pub(crate) fn denied(outside: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Denied(Why::new(outside, detail))
    }

    /// Makes a failure of a transport error. The log gets the address and all causes. Clients get the cause alone,
    /// because they need not know where an operator's hosts are.
    pub(crate) fn of(problem: &Problem) -> Self {
        let outside = problem.cause().to_string();
        if problem.cause().is_away() {
            Self::Away(Why::new(outside, story(problem)))
        } else {
            Self::Wrong(outside)
        }
    }

    /// The sentence for clients.
    pub fn outside(&self) -> String {
        match self {
            Self::Away(why) | Self::Denied(why) => why.outside.clone(),
            Self::Absent | Self::Wrong(_) => self.to_string(),
        }
    }
}
