//! Words for people, on stderr: progress that moves on a terminal, plain lines anywhere else.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

use crate::farm::Progress;

/// How many of the build's last lines a terminal shows.
const TAIL: usize = 6;
/// How often a log gets a line about something that goes on.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A line for people.
pub fn say(text: &str) {
    write(&plain(text));
}

/// An error for people.
pub fn error(text: &str) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let label = if colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    write(&format!("{label} {}", plain(text)));
}

fn write(line: &str) {
    // A closed stderr must not end a build.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Names and words from outside must not move the cursor, or paint another verdict over the real one.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if hab_oci::deceives(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c })
        .collect()
}

/// Details for whoever sets HAB_LOG, such as HAB_LOG=debug.
pub fn start_log() {
    let filter = EnvFilter::try_from_env("HAB_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}

/// Progress on this process's stderr, and Ctrl-C as a request to stop.
pub struct Terminal {
    cancel: Arc<AtomicBool>,
    start: Instant,
    /// `None` where stderr is not a terminal.
    bar: Option<ProgressBar>,
    /// Guards what is shown now; held for one update.
    shown: Mutex<Shown>,
}

struct Shown {
    stage: String,
    tail: VecDeque<String>,
    drawn: Instant,
}

impl Terminal {
    /// Starts to show progress. The first Ctrl-C or SIGTERM asks everything to stop cleanly, a second ends the program.
    pub fn start() -> anyhow::Result<Arc<Self>> {
        let cancel = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: on the second signal the flag is already set, so the first handler ends the program.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&cancel))?;
            signal_hook::flag::register(signal, Arc::clone(&cancel))?;
        }
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            let template =
                if colour { "{spinner:.cyan} [{elapsed}] {msg}" } else { "{spinner} [{elapsed}] {msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let shown = Shown { stage: String::new(), tail: VecDeque::new(), drawn: Instant::now() };
        Ok(Arc::new(Self { cancel, start: Instant::now(), bar, shown: Mutex::new(shown) }))
    }

    /// Removes what moves.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn plain(&self, text: &str) {
        let elapsed = self.start.elapsed().as_secs();
        say(&format!("[{:>2}:{:02}] {text}", elapsed / 60, elapsed % 60));
    }

    /// Shows the newest state: always on a terminal, now and then in a log.
    fn update(&self, detail: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.bar {
            Some(bar) => {
                let width = room();
                let mut text = plain(&format!("{} {detail}", shown.stage));
                for line in &shown.tail {
                    text.push_str("\n    ");
                    text.extend(line.chars().filter(|c| !hab_oci::deceives(*c)).take(width));
                }
                bar.set_message(text);
            }
            None if shown.drawn.elapsed() > HEARTBEAT => {
                shown.drawn = Instant::now();
                self.plain(&format!("{} {detail}", shown.stage));
            }
            None => {}
        }
    }
}

/// How many characters fit beside the indentation; they are asked for anew, because windows change their size.
fn room() -> usize {
    let columns =
        rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col));
    columns.saturating_sub(6).max(20)
}

impl Progress for Terminal {
    fn stage(&self, what: &str) {
        {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            what.clone_into(&mut shown.stage);
            shown.tail.clear();
            shown.drawn = Instant::now();
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| self.plain(what)),
            None => self.plain(what),
        }
        self.update("");
    }

    fn amount(&self, what: &str, done: u64, total: Option<u64>) {
        let of = total.map_or_else(String::new, |total| format!(" of {}", Amount(total)));
        self.update(&format!("{what} {}{of}", Amount(done)));
    }

    fn line(&self, text: &str) {
        {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.tail.push_back(text.to_owned());
            if shown.tail.len() > TAIL {
                shown.tail.pop_front();
            }
        }
        self.update(if self.bar.is_some() { "" } else { text });
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.plain(text)),
            None => self.plain(text),
        }
    }

    fn cancel(&self) -> &AtomicBool {
        &self.cancel
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finish();
        self.cancel.store(true, Ordering::Relaxed);
    }
}

struct Amount(u64);

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n >= 10 << 20 => write!(f, "{} MiB", n >> 20),
            n if n >= 10 << 10 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}
