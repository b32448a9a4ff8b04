//! Words for people, on stderr: a moving progress display on a terminal, plain lines anywhere else.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_oci::{shown, shown_lines};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

use hab_farm::Progress;

/// How many of the build's last lines a terminal shows.
const TAIL: usize = 6;
/// How often a log gets a line about work in progress.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The most bytes of a printed line, and of an error. Honest text is far shorter.
const LONGEST: usize = 8 << 10;

/// Prints a line for people. It stays one line whatever is in it, so that a name with a line break cannot pretend to be
/// a verdict.
pub fn say(text: &str) {
    write(&one_line(text));
}

/// Prints an error for people. Its lines after the first are indented, and no other printed line begins so.
pub fn error(text: &str) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let label = if colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    write(&format!("{label} {}", below_each_other(text)));
}

/// Prints a text that a person asked for on stdout, with its own line breaks.
pub fn print(text: &str) {
    // A closed stdout must not end the program.
    aside(|| drop(writeln!(std::io::stdout().lock(), "{}", shown_lines(text).at_most(usize::MAX))));
}

/// A sentence for a JSON document: exact, because JSON escapes it, but no longer than a printed line.
pub fn bounded(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… ({} more bytes)", &text[..end], text.len() - end)
}

/// Asks a person for yes or no. The answer is no if nobody can give one.
pub fn agreed(question: &str) -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    let mut answer = String::new();
    aside(|| {
        let _ = write!(std::io::stderr().lock(), "{} [y/N] ", one_line(question));
        std::io::stdin().read_line(&mut answer)
    })?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Prints an error about the command line, with its own label and lines.
pub fn usage(text: &str) {
    write(shown_lines(text.trim_end()).at_most(LONGEST).to_string().as_str());
}

/// Prints what a person can do about an error.
pub fn hint(text: &str) {
    write(&format!("hint: {}", one_line(text)));
}

fn write(line: &str) {
    // A closed stderr must not end a build.
    aside(|| drop(writeln!(std::io::stderr().lock(), "{line}")));
}

/// The progress display, if there is one. Locked only to set it, to take it or to ask for it.
static MOVING: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Does `work` while the progress display is away, so that their output does not mix. Must not be called within `work`.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let bar = MOVING.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// Everything that this program says passes through here or through [`below_each_other`]. So a name that some code
/// forgot to escape cannot move the cursor, turn the direction of writing or forge a verdict.
fn one_line(text: &str) -> String {
    // A tab is harmless, only wide.
    shown(&text.replace('\t', "    ")).at_most(LONGEST).to_string()
}

fn below_each_other(text: &str) -> String {
    let text = shown_lines(text).at_most(LONGEST).to_string();
    text.split('\n').collect::<Vec<_>>().join("\n    ")
}

/// Starts the log, for people who set HAB_LOG, such as HAB_LOG=debug.
pub fn start_log() {
    let filter = EnvFilter::try_from_env("HAB_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(std::io::stderr()))
        // Colours are control characters too, and nobody could tell them from a stranger's.
        .with_ansi(false)
        .init();
}

/// Writes each event of the log as one line.
struct OneLine<W>(W);

impl<W: std::io::Write> std::io::Write for OneLine<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // An event comes in one piece, with the line break at its end.
        let text = String::from_utf8_lossy(bytes);
        let (text, end) = text.strip_suffix('\n').map_or((text.as_ref(), ""), |text| (text, "\n"));
        self.0.write_all(format!("{}{end}", one_line(text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Shows progress on this process's stderr, and takes Ctrl-C as a request to stop.
pub struct Terminal {
    cancel: Arc<AtomicBool>,
    start: Instant,
    /// `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    /// Guards the displayed state; locked for one update.
    shown: Mutex<Displayed>,
}

struct Displayed {
    stage: String,
    tail: VecDeque<String>,
    drawn: Instant,
}

impl Terminal {
    /// Starts to show progress. The first Ctrl-C or SIGTERM asks everything to stop cleanly, a second one ends the
    /// program.
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
        MOVING.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&bar);
        let shown = Displayed { stage: String::new(), tail: VecDeque::new(), drawn: Instant::now() };
        Ok(Arc::new(Self { cancel, start: Instant::now(), bar, shown: Mutex::new(shown) }))
    }

    /// Removes the progress display.
    pub fn finish(&self) {
        *MOVING.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
                let mut text = one_line(&format!("{} {detail}", shown.stage));
                for line in &shown.tail {
                    text.push_str("\n    ");
                    text.extend(one_line(line).chars().take(width));
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

/// How many characters fit beside the indentation. The system is asked each time, because windows change their size.
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
        self.plain(what);
        self.update("");
    }

    fn amount(&self, what: &str, done: u64, total: Option<u64>) {
        let of = total.map_or_else(String::new, |total| format!(" of {}", Amount(total)));
        self.update(&format!("{what} {}{of}", Amount(done)));
    }

    fn count(&self, what: &str, done: u64, total: u64, unit: &str) {
        self.update(&format!("{what} {done} of {total} {unit}"));
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
        self.plain(text);
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_said_is_one_line_whatever_is_in_it() {
        let forged = "x\n  linux/amd64  sha256:00  2 runs identical\r\u{1b}[2K\u{202e}";
        assert_eq!(one_line(forged), r"x\n  linux/amd64  sha256:00  2 runs identical\r\u{1b}[2K\u{202e}");
        assert_eq!(one_line("a\tb"), "a    b");
        assert!(one_line(&"x".repeat(1 << 20)).len() < LONGEST + 40);
    }

    #[test]
    fn no_line_of_an_error_but_the_first_begins_at_the_margin() {
        let text = below_each_other("failed; its last lines:\n    one\nhello 1.0 built\u{9b}31m\nhint");
        assert_eq!(text, "failed; its last lines:\n        one\n    hello 1.0 built\\u{9b}31m\n    hint");
        let long = below_each_other(&"y\n".repeat(1 << 20));
        assert!(long.len() < 5 * LONGEST && long.contains("more bytes"));
        assert_eq!(bounded(&"ä".repeat(5000)).len(), 8192 + "… (1808 more bytes)".len());
    }

    #[test]
    fn an_event_of_the_log_is_one_line() {
        let mut written = Vec::new();
        OneLine(&mut written).write_all("WARN a\u{1b}[31m\nWARN b\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(&written), "WARN a\\u{1b}[31m\\nWARN b\n");
    }
}
