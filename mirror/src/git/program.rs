//! Running `git fetch`, bounded in time, without the host's hooks and prompts.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{MirrorError, Observer};

/// The most that a project's packs may hold, in bytes; Bitcoin Core's are 0.4 GB.
const PACKS: u64 = 16 << 30;
/// The longest a fetch may take altogether.
const WALL: Duration = Duration::from_secs(3600);

pub(super) fn fetch(
    repository: &Path,
    url: &str,
    project: &str,
    observer: &dyn Observer,
) -> Result<(), MirrorError> {
    // `--` keeps an address that begins with a dash from being read as an option.
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(repository)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "fetch.fsckObjects=true"])
        .args(["-c", "http.lowSpeedLimit=1024", "-c", "http.lowSpeedTime=60"])
        // ext:: would run a command from the address; everything else that git itself speaks is allowed.
        .args(["-c", "protocol.ext.allow=never"])
        .args(["fetch", "--no-auto-maintenance", "--no-tags", "--no-write-fetch-head", "--progress", "--"])
        .arg(url)
        .arg("+refs/tags/*:refs/incoming/tags/*")
        .process_group(0)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MirrorError::NoGit)?;
    let stderr = child.stderr.take();
    let words = thread::scope(|scope| {
        let reader =
            scope.spawn(move || stderr.map(|s| last_words(s, project, observer)).unwrap_or_default());
        let status = wait(&mut child, &repository.join("objects/pack"), project, observer);
        let words = reader.join().unwrap_or_default();
        status.map(|ok| (ok, words))
    })?;
    match words {
        (true, _) => Ok(()),
        (false, stderr) => Err(MirrorError::Git { action: "fetch", url: url.to_owned(), stderr }),
    }
}

/// Removes what a fetch that was killed left behind.
pub(super) fn clean(repository: &Path) -> Result<(), MirrorError> {
    let packs = repository.join("objects/pack");
    for entry in fs::read_dir(&packs).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp_") {
            fs::remove_file(entry.path()).map_err(MirrorError::io(entry.path()))?;
        }
    }
    Ok(())
}

fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

/// git's transport is a child of its own, which would hold on to our end of the pipe.
fn kill_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // A group that has just ended cannot be killed, which is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

fn wait(
    child: &mut Child,
    packs: &Path,
    project: &str,
    observer: &dyn Observer,
) -> Result<bool, MirrorError> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(MirrorError::io("git"))? {
            return Ok(status.success());
        }
        let cancelled = observer.cancelled();
        if cancelled || start.elapsed() > WALL || folder_size(packs) > PACKS {
            kill_group(child);
            if cancelled {
                return Err(MirrorError::Cancelled { what: project.to_owned() });
            }
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Shows git's progress lines as they come, and returns the others: what it says when it fails.
fn last_words(mut stderr: impl Read, project: &str, observer: &dyn Observer) -> String {
    let mut line = Vec::new();
    let mut kept: VecDeque<String> = VecDeque::new();
    let mut buffer = [0; 4096];
    loop {
        let n = match stderr.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for byte in &buffer[..n] {
            match byte {
                b'\r' | b'\n' => {
                    let text = String::from_utf8_lossy(&line);
                    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
                    line.clear();
                    if let Some((done, total)) = progress(&text) {
                        observer.fetching(&format!("{project} (objects)"), done, Some(total));
                    } else if !text.is_empty() {
                        kept.push_back(text);
                        if kept.len() > 10 {
                            kept.pop_front();
                        }
                    }
                }
                b if line.len() < 1000 => line.push(*b),
                _ => {}
            }
        }
    }
    Vec::from(kept).join("; ")
}

/// `Receiving objects:  42% (420/1000), 1.2 MiB | …`
fn progress(line: &str) -> Option<(u64, u64)> {
    let counts = line.split_once("% (")?.1.split(')').next()?;
    let (done, total) = counts.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}
