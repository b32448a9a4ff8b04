//! Tags that are being looked up.

use std::collections::HashMap;
use std::sync::Mutex;

use hab_oci::{RepositoryName, Tag};
use tokio::sync::watch;

/// A running look-up: whether it ended well, once it has ended.
pub(crate) type Looking = watch::Receiver<Option<bool>>;

/// Tags that are being looked up.
#[derive(Debug, Default)]
pub(crate) struct LookUps {
    /// Held for a map operation only.
    pub(crate) running: Mutex<HashMap<(RepositoryName, Tag), Looking>>,
}
