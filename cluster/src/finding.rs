//! Findings that contradict "it pulls from here alone".

/// What a file lets happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A way past the farm.
    Way,
    /// The files do not say whether there is a way past the farm.
    Unknown,
}

/// Something that contradicts "it pulls from here alone".
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Whether it is a way past the farm.
    pub kind: Kind,
    /// The file, as the host names it.
    pub path: String,
    /// What is wrong with it, and what follows from that.
    pub words: String,
}
