//! The one way in which a command opens a farm: with progress on this terminal, Ctrl-C as a request to stop, and a
//! runtime for the store's calls.

use std::ops::Deref;
use std::sync::Arc;

use hab_config::Config;
use hab_farm::{Bridge, Farm, Options, Progress};
use tokio::runtime::{Builder, Runtime};

use super::terminal::Terminal;
use super::{Global, reserved, usage};

/// A farm, opened for one command. Dropping it removes the progress display, and then waits for the work that the
/// runtime is doing.
pub struct Session {
    farm: Farm,
    terminal: Option<Arc<Terminal>>,
    runtime: Runtime,
}

impl Deref for Session {
    type Target = Farm;

    fn deref(&self) -> &Farm {
        &self.farm
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.finish(());
    }
}

impl Session {
    /// Returns the result of the work, after removing the progress display.
    pub fn finish<T>(&self, done: T) -> T {
        if let Some(terminal) = &self.terminal {
            terminal.finish();
        }
        done
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Global {
    /// Opens the farm for a command that a person watches.
    pub fn farm(&self) -> anyhow::Result<Session> {
        let terminal = Terminal::start()?;
        let session = self.farm_telling(terminal.clone() as Arc<dyn Progress>);
        if session.is_err() {
            terminal.finish();
        }
        let mut session = session?;
        session.terminal = Some(terminal);
        Ok(session)
    }

    /// Opens the farm for a service, which reports to `progress`.
    pub fn farm_telling(&self, progress: Arc<dyn Progress>) -> anyhow::Result<Session> {
        let runtime = Builder::new_multi_thread().worker_threads(workers()).enable_all().build()?;
        let (data, config) = (self.data()?, self.configuration()?);
        let over = |named: &[_], last: &Option<_>| named.iter().chain(last).cloned().collect();
        let (recipes, trust) = (over(&config.recipes, &self.recipes), over(&config.trust, &self.trust));
        let options = Options { data, recipes, trust, offline: self.offline, config };
        let farm = Farm::open(options, Bridge::new(runtime.handle()), progress)?;
        reserved(&farm)?;
        Ok(Session { farm, terminal: None, runtime })
    }

    /// The operator's configuration.
    pub fn configuration(&self) -> anyhow::Result<Config> {
        Config::load(self.config.as_deref(), &self.data()?).map_err(usage)
    }
}

/// How many threads answer requests: one for each core that this process may use, and at least two, so that one long
/// task does not hold up all others.
fn workers() -> usize {
    // Somebody who knows better, such as a container's owner, can set the number.
    let said = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|said| said.parse().ok());
    said.filter(|said| *said > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
        .max(2)
}

#[cfg(test)]
mod tests {
    #[test]
    fn requests_are_answered_by_as_many_threads_as_there_are_cores_and_two_at_least() {
        if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
            let cores = std::thread::available_parallelism().map_or(2, usize::from);
            assert_eq!(super::workers(), cores.max(2));
        }
    }
}
