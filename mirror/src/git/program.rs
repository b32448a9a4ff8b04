//! Running `git fetch`, bounded in time, without the host's hooks and prompts.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{MirrorError, Observer};

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
        // ext:: would run a command from the address; everything else that git itself speaks is allowed.
        .args(["-c", "protocol.ext.allow=never"])
        .args(["fetch", "--no-auto-maintenance", "--no-tags", "--no-write-fetch-head", "--progress", "--"])
        .arg(url)
        .args(["+refs/heads/*:refs/incoming/heads/*", "+refs/tags/*:refs/incoming/tags/*"])
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
        let status = wait(&mut child, project, observer);
        let words = reader.join().unwrap_or_default();
        status.map(|ok| (ok, words))
    })?;
    match words {
        (true, _) => Ok(()),
        (false, stderr) => Err(MirrorError::Git { action: "fetch", url: url.to_owned(), stderr }),
    }
}

fn wait(child: &mut Child, project: &str, observer: &dyn Observer) -> Result<bool, MirrorError> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(MirrorError::io("git"))? {
            return Ok(status.success());
        }
        let cancelled = observer.cancelled();
        if cancelled || start.elapsed() > WALL {
            // A child that has just ended cannot be killed, which is as good.
            let _ = child.kill();
            let _ = child.wait();
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
    let mut kept: Vec<String> = Vec::new();
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
                    let text = String::from_utf8_lossy(&line).trim().to_owned();
                    line.clear();
                    if let Some((done, total)) = progress(&text) {
                        observer.fetching(&format!("{project} (objects)"), done, Some(total));
                    } else if !text.is_empty() && kept.len() < 20 {
                        kept.push(text);
                    }
                }
                b if line.len() < 1000 => line.push(*b),
                _ => {}
            }
        }
    }
    kept.join("; ")
}

/// `Receiving objects:  42% (420/1000), 1.2 MiB | …`
fn progress(line: &str) -> Option<(u64, u64)> {
    let counts = line.split_once("% (")?.1.split(')').next()?;
    let (done, total) = counts.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}
