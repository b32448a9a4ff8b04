//! Tags that are being looked up.

use std::collections::HashMap;
use std::sync::Mutex;

use hab_oci::{RepositoryName, Tag};
use tokio::sync::watch;

/// A look-up that is under way: whether it ended well, when it has ended.
pub(crate) type Looking = watch::Receiver<Option<bool>>;

/// Tags that are being looked up.
#[derive(Debug, Default)]
pub(crate) struct LookUps {
    /// Held for a map operation only.
    pub(crate) running: Mutex<HashMap<(RepositoryName, Tag), Looking>>,
}
