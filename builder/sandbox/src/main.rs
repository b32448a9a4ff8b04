//! `hab-sandbox SPEC.json [--report FILE] [--cancel-on-eof] [--repeat N] [--volume KIND] [--keep FOLDER]`: runs one
//! spec from the command line.
//!
//! For tests, measurements and a look around. The command's output is this program's output. `--report` writes the
//! report as JSON, `--cancel-on-eof` cancels when standard input ends, `--repeat` runs N times and prints how long a
//! run and its set-up take. `--volume image|memory|counted` makes a volume of that kind in the folder that is bound at
//! `/build`, and shows it there instead; `--keep` copies it out after the run. Exit status: the command's; 128 + N for
//! signal N; 124 for a limit; 130 when cancelled; 125 when the sandbox could not run it.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hab_sandbox::{
    DiskLimiter, Launcher, Outcome, Report, Spec, Stream, Volume, init_if_requested_with, owner, run_on,
};

fn main() -> ExitCode {
    init_if_requested_with(look);
    match Options::parse().and_then(|options| options.execute()) {
        Ok(report) => ExitCode::from(status(report.outcome)),
        Err(error) => {
            eprintln!("hab-sandbox: {}", hab_chain::chain(error.as_ref()));
            ExitCode::from(125)
        }
    }
}

/// A worker for tests: prints what it can see and reach, which is its words, descriptors, processes and folders.
fn look(words: &[String]) -> i32 {
    let list = |path: &str| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    match words.first().map(String::as_str) {
        Some("panic") => std::panic::panic_any("a worker that panics"),
        Some("hang") => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Some("write") if std::fs::write("/build/written", "x").is_err() => return 1,
        _ => {}
    }
    println!("words {words:?}");
    println!("descriptors {}", list("/proc/self/fd").len());
    println!("processes {}", list("/proc").iter().filter(|name| name.parse::<u32>().is_ok()).count());
    let mut top = list("/");
    top.sort();
    println!("top {}", top.join(" "));
    // A thread's number is no process's number.
    let listed = std::thread::scope(|scope| scope.spawn(|| list("/dev")).join().unwrap_or_default());
    println!("in a thread {}", listed.join(" "));
    println!("uid {}", std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default().trim());
    7
}

#[derive(Default)]
struct Options {
    spec: PathBuf,
    report: Option<PathBuf>,
    cancel_on_eof: bool,
    repeat: u32,
    volume: Option<DiskLimiter>,
    keep: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let usage = "usage: hab-sandbox SPEC.json [--report FILE] [--cancel-on-eof] [--repeat N] \
                     [--volume image|memory|counted] [--keep FOLDER]";
        let mut options = Self { repeat: 1, ..Self::default() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--report" => options.report = Some(words.next().ok_or(usage)?.into()),
                "--cancel-on-eof" => options.cancel_on_eof = true,
                "--repeat" => options.repeat = words.next().ok_or(usage)?.parse::<u32>()?.max(1),
                "--volume" => options.volume = Some(serde_json::from_value(words.next().into())?),
                "--keep" => options.keep = words.next().map(PathBuf::from),
                _ if options.spec.as_os_str().is_empty() => options.spec = word.into(),
                _ => return Err(usage.into()),
            }
        }
        if options.spec.as_os_str().is_empty() { Err(usage.into()) } else { Ok(options) }
    }

    fn execute(&self) -> Result<Report, Box<dyn Error>> {
        let mut spec: Spec = serde_json::from_slice(&std::fs::read(&self.spec)?)?;
        let volume = self.volume.map(|kind| volume(&mut spec, kind)).transpose()?;
        let volumes: Vec<_> = volume.iter().collect();
        let cancel = Arc::new(AtomicBool::new(false));
        if self.cancel_on_eof {
            let cancel = Arc::clone(&cancel);
            std::thread::spawn(move || {
                // An input that cannot be read counts as ended.
                let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
                cancel.store(true, Ordering::Relaxed);
            });
        }
        let mut output = |stream, bytes: &[u8]| {
            // If nobody reads the output, the run still counts.
            let _ = match stream {
                Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(bytes),
            };
        };
        let mut once = || run_on(&Launcher::default(), &spec, &volumes, &mut output, &cancel);
        let mut report = once()?;
        let (mut setup, mut wall) = (report.setup, report.wall);
        for _ in 1..self.repeat {
            report = once()?;
            setup += report.setup;
            wall += report.wall;
        }
        if self.repeat > 1 {
            let mean = |sum: Duration| sum.as_secs_f64() * 1000.0 / f64::from(self.repeat);
            eprintln!("{} runs: set-up {:.2} ms, command {:.2} ms", self.repeat, mean(setup), mean(wall));
        }
        if let (Some(volume), Some(to)) = (&volume, &self.keep) {
            hab_tree::copy(volume, to, 1 << 30)?;
        }
        if let Some(path) = &self.report {
            std::fs::write(path, serde_json::to_vec(&report)?)?;
        }
        if !matches!(report.outcome, Outcome::Exited(_)) {
            eprintln!("hab-sandbox: {}", report.outcome);
        }
        Ok(report)
    }
}

/// Replaces the bind at `/build` with a volume.
fn volume(spec: &mut Spec, kind: DiskLimiter) -> Result<Volume, Box<dyn Error>> {
    let bind = spec.binds.iter_mut().find(|bind| bind.inside == Path::new("/build"));
    let bind = bind.ok_or("--volume: nothing is bound at /build")?;
    let most = spec.limits.disk.ok_or("--volume: the spec has no disk limit")?;
    let volume = Volume::make_as(kind, &Launcher::default(), &bind.host.join("volume"), most)?;
    if let Some((uid, gid)) = owner() {
        hab_tree::give_away(&volume, uid, gid)?;
    }
    volume.path().clone_into(&mut bind.host);
    Ok(volume)
}

fn status(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Exited(code) => u8::try_from(code).unwrap_or(125),
        Outcome::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(125),
        Outcome::LimitExceeded(_) | Outcome::HostDiskFull => 124,
        Outcome::Cancelled => 130,
    }
}
