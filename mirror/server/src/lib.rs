//! What the mirror keeps, served: git repositories over smart HTTP, and kept files by the names their clients know, among
//! them a Debian archive for apt and a sparse index for cargo.
//!
//! Layer: above `hab-mirror`; the program listens and this crate answers, read-only. It holds no state of its own: a
//! repository is served by git's own upload-pack, and a file is whatever the [`Keep`] has under its name.
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

/// What is served.
#[derive(Clone)]
pub struct Mirror {
    pub(crate) keep: Arc<dyn Keep>,
    pub(crate) git: PathBuf,
    pub(crate) limits: Limits,
    /// For upload-packs.
    pub(crate) packs: Turns,
    /// For gits that only list refs.
    pub(crate) light: Turns,
    /// For requests that are coming in.
    pub(crate) receiving: Turns,
    /// For what slow clients have not taken yet.
    pub(crate) spool: pump::Budget,
}

/// What one client, and all of them together, may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many upload-packs run at a time, a quarter of them for one client; who comes later waits.
    pub packs: usize,
    /// How many gits list refs at a time, a quarter of them for one client.
    pub lists: usize,
    /// Bytes on disk of answers that git has given and clients have not taken yet, a quarter of them for one client. Whoever
    /// needs more keeps a git waiting.
    pub spool: u64,
    /// How long a client waits for its turn before it is sent away.
    pub turn: Duration,
    /// The longest that one upload-pack may take.
    pub wall: Duration,
    /// How long a client may take to send its request. That it takes what it is sent is for the listener to see to.
    pub idle: Duration,
    /// The largest request of a git client, in bytes after decompression: 50 for every ref that it has or wants.
    pub request: u64,
}

impl Default for Limits {
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
    pub fn new(keep: Arc<dyn Keep>, git: PathBuf, limits: Limits) -> Self {
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

/// Everything that is served, to be merged with other routes.
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
