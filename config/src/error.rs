//! Why a configuration cannot be used.

use hab_registry::{AccessError, NetworkError};

/// A configuration cannot be used. The error repeats no value, because a value may be a password.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or somebody else could have written it.
    #[error(transparent)]
    File(#[from] hab_trusted_file::Error),
    /// The file is not TOML, or has a field or a value that is unknown: path, line, column and what is wrong.
    #[error("{0}")]
    Malformed(String),
    /// Fields that contradict each other, or a number out of its range.
    #[error("[{table}] {problem}")]
    Setting {
        /// The table in hab.toml.
        table: &'static str,
        /// What is wrong in it.
        problem: String,
    },
    /// Accounts, TLS or the service's own address cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The name of a network cannot be read.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There is no known place for the data folder.
    #[error("neither XDG_DATA_HOME nor HOME is set; say where with --data DIR")]
    NoDataFolder,
}

impl ConfigError {
    pub(crate) fn setting(table: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { table, problem: problem.into() }
    }
}
