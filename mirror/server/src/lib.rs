//! Serves what the mirror keeps: git repositories over smart HTTP, and files under the names that their clients know,
//! among them a Debian archive for apt and a sparse index for cargo.
//!
//! Layer: above `hab-mirror`; the program listens and this crate answers, read-only. It holds no state of its own:
//! git's upload-pack serves repositories, and the [`Keep`] has the bytes under each file name.
//!
//! Start reading at [`router`].

mod crates;
mod error;
mod files;
mod git;
mod projects;
mod pump;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hab_mirror::{Keep, KeepError};
use hab_turns::Turns;

/// What to serve, and the limits that clients share.
#[derive(Clone)]
pub struct Mirror {
    pub(crate) keep: Arc<dyn Keep>,
    pub(crate) git: PathBuf,
    pub(crate) limits: GitLimits,
    /// Turns for upload-packs.
    pub(crate) packs: Turns,
    /// Turns for git processes that only list refs.
    pub(crate) light: Turns,
    /// Turns for receiving requests.
    pub(crate) receiving: Turns,
    /// The disk space for answers that slow clients have not read yet.
    pub(crate) spool: pump::Budget,
}

/// The most that one client, and all clients together, may use.
#[derive(Clone, Copy, Debug)]
pub struct GitLimits {
    /// Upload-packs that run at a time, a quarter of them for one client; further clients wait.
    pub packs: usize,
    /// Processes that list refs at a time, a quarter of them for one client.
    pub lists: usize,
    /// Bytes on disk of git's answers that clients have not read yet, a quarter of them for one client. Beyond that,
    /// git has to wait for its client.
    pub spool: u64,
    /// How long a client waits for its turn before it gets an error.
    pub turn: Duration,
    /// The longest time that one upload-pack may take.
    pub wall: Duration,
    /// How long a client may take to send its request. The listener limits how long it may take to read the answer.
    pub idle: Duration,
    /// The largest request of a git client, in bytes after decompression: 50 for each ref that it has or wants.
    pub request: u64,
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            packs: 8,
            lists: 32,
            spool: 4 << 30,
            turn: Duration::from_secs(60),
            wall: Duration::from_secs(3600),
            idle: Duration::from_secs(60),
            request: 16 << 20,
        }
    }
}

impl Mirror {
    /// Serves the repositories below the folder `git` and the files that `keep` has.
    pub fn new(keep: Arc<dyn Keep>, git: PathBuf, limits: GitLimits) -> Self {
        let few = |count: usize| Turns::new(count, (count / 4).max(1));
        Self {
            keep,
            git,
            limits,
            packs: few(limits.packs),
            light: few(limits.lists),
            receiving: few(limits.lists),
            spool: pump::Budget::new(limits.spool, limits.spool / 4),
        }
    }

    /// The suites of the Debian archive that is served, by name.
    pub fn suites(&self) -> Result<Vec<String>, KeepError> {
        files::suites(self.keep.as_ref())
    }
}

/// Routes for everything that is served, to be merged with other routes.
pub fn router(mirror: Mirror) -> Router {
    Router::new()
        .route("/git", get(projects::redirect))
        .route("/git/", get(projects::list))
        .route("/git/{*path}", get(git::get).post(git::post))
        .route("/depends-sources/{file}", get(files::depends_source))
        .route("/releases/{project}/{version}/{file}", get(files::release))
        .route("/files/{name}", get(files::plain))
        .route("/debian/{*path}", get(files::debian))
        .route("/crates/{*path}", get(crates::get))
        .with_state(mirror)
}
