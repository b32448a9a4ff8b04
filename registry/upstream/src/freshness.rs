//! Where an answer came from.

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The content was here.
    Hit,
    /// It came from the upstream just now.
    Miss,
    /// It was here, and the upstream may have newer content by now.
    Stale,
}

impl Freshness {
    /// One word for clients and metrics: `hit`, `miss` or `stale`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}
