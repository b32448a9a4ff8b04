//! Runs git with limits of time, memory and disk, without the host's hooks and prompts.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hab_oci::shown;
use rustix::process::{Pid, Signal, kill_process_group};

use super::blame::{Cause, failed, stopped};
use super::program::Git;
use super::remote::Remote;
use super::url::without_users;
use crate::MirrorError;

/// Settings for every git command; they override the host's own configuration.
const SETTINGS: [&str; 15] = [
    "safe.directory=*",
    "core.hooksPath=/dev/null",
    "init.defaultBranch=main",
    "gc.auto=0",
    "maintenance.auto=false",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
    // A history that is cut off cannot be checked, and would be served as if it were complete.
    "clone.rejectShallow=true",
    "fetch.unpackLimit=1",
    "transfer.unpackLimit=1",
    "transfer.bundleURI=false",
    "http.sslVerify=true",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1024",
    "http.lowSpeedTime=60",
];

/// Environment variables that git must not see: other paths, and logs that would contain passwords.
const UNWANTED: [&str; 11] = [
    "GIT_SSL_NO_VERIFY",
    "GIT_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_TRACE_PACKET",
    "GIT_TRACE_REDACT",
    "GIT_TRACE2",
    "GIT_TRACE2_EVENT",
    "GIT_CURL_VERBOSE",
];

/// How far a file may grow beyond a fetch's limit, in bytes, so that the limit with the better message applies first.
const SLACK: u64 = 64 << 20;

/// The most bytes of a line of git's or an upstream's output that are read.
const LINE: usize = 1000;

/// What a run of git gets, besides its arguments.
#[derive(Default)]
pub(super) struct Run<'a> {
    pub stdin: Option<String>,
    /// An object folder to read from, besides the repository's own.
    pub alternates: Option<&'a Path>,
    /// The folder whose size is limited.
    pub grows: Option<PathBuf>,
    pub wall: Duration,
    /// The run is not cancelled on request: it is short, and holds locks.
    pub steady: bool,
}

/// How git ended: successfully, with its stdout and stderr, or not.
pub(super) enum Ended {
    Well(Vec<u8>, String),
    Badly(Cause),
}

impl Git<'_> {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("sh");
        // Limits on the memory and disk that an upstream's data may take, however it is packed; a lower limit that is
        // already set stays. And git must not outlive this program, which enforces all other limits.
        command
            .arg("-c")
            .arg(
                "ulimit -d \"$0\" 2>/dev/null; ulimit -f \"$1\" 2>/dev/null; shift; \
                 exec setpriv --pdeathsig KILL git \"$@\"",
            )
            .arg((self.bounds.memory / 1024).to_string())
            .arg(((self.bounds.packs + SLACK) / 512).to_string());
        self.configure(&mut command);
        command
    }

    /// For short commands that write nothing. Such a command ends when our end of its pipe closes, so setpriv is not
    /// needed, which would take as long as everything else.
    pub(super) fn brief(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -d \"$0\" 2>/dev/null; exec git \"$@\""])
            .arg((self.bounds.memory / 1024).to_string());
        self.configure(&mut command);
        command
    }

    fn configure(&self, command: &mut Command) {
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for check in self.tolerate {
            for section in ["fetch.fsck", "fsck"] {
                command.arg("-c").arg(format!("{section}.{check}=ignore"));
            }
        }
        command
            .process_group(0)
            .env("GIT_ALLOW_PROTOCOL", self.allow.words())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env(
                "GIT_SSH_COMMAND",
                "ssh -oBatchMode=yes -oConnectTimeout=20 -oControlMaster=no -oControlPath=none",
            )
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("LC_ALL", "C")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in UNWANTED {
            command.env_remove(name);
        }
    }

    /// Runs git on a repository here, so a failure is no upstream's fault.
    pub(super) fn done_here(
        &self,
        action: &'static str,
        repository: &Path,
        command: Command,
        run: &Run<'_>,
    ) -> Result<(), MirrorError> {
        match self.run(command, run)? {
            Ended::Well(..) => Ok(()),
            Ended::Badly(cause) => {
                let (path, stderr) = (repository.to_owned(), cause.words().to_owned());
                Err(MirrorError::GitHere { action, path, stderr })
            }
        }
    }

    pub(super) fn done(
        &self,
        action: &'static str,
        remote: &Remote,
        command: Command,
        run: &Run<'_>,
    ) -> Result<(Vec<u8>, String), MirrorError> {
        match self.run(command, run)? {
            Ended::Well(stdout, said) => Ok((stdout, said)),
            Ended::Badly(cause) => Err(failed(action, remote, &cause)),
        }
    }

    pub(super) fn run(&self, mut command: Command, run: &Run<'_>) -> Result<Ended, MirrorError> {
        if let Some(folder) = run.alternates {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", folder);
        }
        command.stdin(if run.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(MirrorError::NoGit)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (ended, stdout, words) = thread::scope(|scope| {
            let text = run.stdin.clone().unwrap_or_default();
            // git may end without reading everything; its exit status says more than the broken pipe.
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(text.as_bytes())));
            let limit = self.bounds.output;
            let stdout = scope.spawn(move || stdout.map(|pipe| bounded(pipe, limit)).unwrap_or_default());
            let words = scope.spawn(|| stderr.map(|pipe| self.last_words(pipe)).unwrap_or_default());
            let ended = self.wait(&mut child, run);
            // Processes that git left behind would keep our pipes open.
            kill_group(&mut child);
            (ended, stdout.join().unwrap_or_default(), words.join().unwrap_or_default())
        });
        let (ended, (stdout, over)) = (ended?, stdout);
        if words.contains("No space left on device") || words.contains("Disk quota exceeded") {
            let source = io::ErrorKind::StorageFull.into();
            return Err(MirrorError::Io { path: format!("the mirror of {}", self.project).into(), source });
        }
        Ok(match ended {
            _ if over => {
                Ended::Badly(Cause::NotTaken(format!("it said more than {} bytes", self.bounds.output)))
            }
            Ok(()) => Ended::Well(stdout, words),
            Err(None) => Ended::Badly(Cause::Git(words)),
            Err(Some(cause)) => Ended::Badly(cause),
        })
    }

    /// Waits until git ends. The inner error is the reason for ending it, or `None` if git failed by itself.
    fn wait(&self, child: &mut Child, run: &Run<'_>) -> Result<Result<(), Option<Cause>>, MirrorError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(MirrorError::io("git"))? {
                return match status.code() {
                    Some(0) => Ok(Ok(())),
                    // The shell's status for a program that does not exist.
                    Some(127) => Err(MirrorError::NoGit(io::ErrorKind::NotFound.into())),
                    _ => Ok(Err(None)),
                };
            }
            let why = if self.observer.cancelled() && !run.steady {
                Some(None)
            } else if start.elapsed() > run.wall {
                Some(Some(Cause::Slow(format!("it took longer than {} s", run.wall.as_secs()))))
            } else if run.grows.as_deref().is_some_and(|folder| folder_size(folder) > self.bounds.packs) {
                Some(Some(Cause::NotTaken(format!("it sent more than {} bytes", self.bounds.packs))))
            } else {
                None
            };
            if let Some(why) = why {
                kill_group(child);
                return match why {
                    Some(cause) => Ok(Err(Some(cause))),
                    None => Err(stopped(self.project)),
                };
            }
            // Most runs are short, so a long pause would be noticed.
            thread::sleep(pause);
            if start.elapsed() > Duration::from_millis(200) {
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }

    /// Reports git's progress lines as they arrive, and returns the last of the other lines, which explain a failure.
    fn last_words(&self, mut stderr: impl Read) -> String {
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
                        let text = without_users(&shown(text.trim()).at_most(LINE).to_string());
                        line.clear();
                        if let Some((done, total, bytes)) = progress(&text) {
                            let bytes = bytes.map_or_else(String::new, |bytes| format!(" ({bytes})"));
                            let what = format!("{}{bytes}", self.project);
                            self.observer.counting(&what, done, total, "objects");
                        } else if !text.is_empty() && !is_chatter(&text) {
                            kept.push_back(text);
                            if kept.len() > 10 {
                                kept.pop_front();
                            }
                        }
                    }
                    b if line.len() < LINE => line.push(*b),
                    _ => {}
                }
            }
        }
        Vec::from(kept).join("; ")
    }
}

/// Reads up to `limit` bytes, and says whether there were more. Closing the pipe then ends the writer.
pub(super) fn bounded(pipe: impl Read, limit: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let _ = pipe.take(limit + 1).read_to_end(&mut bytes);
    let over = bytes.len() as u64 > limit;
    (bytes, over)
}

fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

/// Kills git with its children: git's transport is a child process that would keep our pipes open.
fn kill_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Killing fails if the group has just ended, which is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Whether a line is an upstream's report on its own progress.
fn is_chatter(line: &str) -> bool {
    ["remote: Enumerating", "remote: Counting", "remote: Compressing", "remote: Total", "Cloning into"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Parses `Receiving objects:  42% (420/1000), 1.20 MiB | 2.00 MiB/s` into the count, the total, and the bytes so far.
fn progress(line: &str) -> Option<(u64, u64, Option<&str>)> {
    let (counts, rest) = line.split_once("% (")?.1.split_once(')')?;
    let (done, total) = counts.split_once('/')?;
    let bytes = rest.strip_prefix(", ").and_then(|rest| rest.split(" |").next()).filter(|b| b.ends_with('B'));
    // Take the bytes only from our own git: an upstream could claim anything.
    let bytes = bytes.filter(|_| !line.starts_with("remote:"));
    Some((done.parse().ok()?, total.parse().ok()?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_s_progress_is_read_with_and_without_bytes() {
        for (line, read) in [
            (
                "Receiving objects:  42% (420/1000), 1.20 MiB | 2.00 MiB/s",
                Some((420, 1000, Some("1.20 MiB"))),
            ),
            ("Resolving deltas: 100% (7/7), done.", Some((7, 7, None))),
            ("Receiving objects:   0% (1/9)", Some((1, 9, None))),
            ("remote: Counting objects:  10% (1/9), all of it is verified B", Some((1, 9, None))),
            ("fatal: no such thing", None),
        ] {
            assert_eq!(progress(line), read, "{line}");
        }
    }
}
