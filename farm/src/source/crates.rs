//! The crates index.

use std::path::PathBuf;

use hab_mirror::crates::Index;

use crate::error::FarmError;

/// Where crates come from.
#[derive(Clone, Copy)]
pub struct Crates<'a> {
    /// The operator's sparse index. Without one, the index that the host's cargo is configured to use.
    pub index: Option<&'a str>,
}

impl Crates<'_> {
    /// The index, ready to use.
    pub fn index(&self) -> Result<Index, FarmError> {
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let folder = std::env::current_dir().map_err(FarmError::io("."))?;
        let home = home.unwrap_or_else(|| folder.clone());
        Ok(Index::new(self.index, &folder, &home)?)
    }
}
