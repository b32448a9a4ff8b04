//! A mirror, a good upstream made by git itself, and a server that answers as a test tells it to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hab_mirror::git::{Allow, Bounds, GitMirror, RefPattern, SyncRequest, Synced};
use hab_mirror::{MirrorError, Observer};

/// Remembers what it is told.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<String>>);

impl Observer for Told {
    fn fetching(&self, _: &str, _: u64, _: Option<u64>) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn cancelled(&self) -> bool {
        false
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub told: Told,
    pub bounds: Bounds,
}

impl World {
    pub fn new() -> Self {
        let bounds = Bounds {
            answer: Duration::from_secs(5),
            fetch: Duration::from_secs(20),
            memory: 1 << 30,
            ..Bounds::default()
        };
        Self { folder: tempfile::tempdir().unwrap(), told: Told::default(), bounds }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn mirror(&self) -> GitMirror {
        std::fs::create_dir_all(self.path("git")).unwrap();
        GitMirror::open(&self.path("git"), "p").unwrap()
    }

    pub fn sync(&self, urls: &[&str]) -> Result<Synced, MirrorError> {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let wish = SyncRequest {
            urls: &urls,
            refs: &RefPattern::usual(),
            allow: Allow { file: true, http: true },
            tolerate: &[],
            bounds: self.bounds,
            password_file: None,
        };
        self.mirror().sync(&wish, &self.told)
    }

    /// A sync that fails with `words`; what was mirrored before is as it was, and nothing lies in quarantine.
    #[track_caller]
    pub fn refused(&self, url: &str, words: &[&str]) {
        let before = self.mirror().refs().unwrap();
        let said = self.sync(&[url]).unwrap_err().to_string();
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
        assert_eq!(self.mirror().refs().unwrap(), before);
        self.whole();
    }

    /// Every ref's objects are here, by git's own judgement.
    #[track_caller]
    pub fn whole(&self) {
        let path = self.mirror().path().to_owned();
        git(&path, &["fsck", "--full", "--no-dangling", "--connectivity-only"]);
        // What was refused is no part of it.
        assert!(!self.path("git/p.incoming").exists());
    }

    /// What was told, in one text.
    pub fn notes(&self) -> String {
        self.told.0.lock().unwrap().join("\n")
    }

    /// A bare repository with one commit on main and the tag v1.
    pub fn upstream(&self) -> Upstream {
        let path = self.path("upstream.git");
        git(self.folder.path(), &["init", "-q", "--bare", "-b", "main", "upstream.git"]);
        let upstream = Upstream { path };
        upstream.commit("one");
        upstream.git(&["tag", "v1", "main"]);
        upstream
    }
}

pub struct Upstream {
    pub path: PathBuf,
}

impl Upstream {
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    pub fn git(&self, words: &[&str]) -> String {
        git(&self.path, words)
    }

    /// Commits a file of this name and content to main.
    pub fn commit(&self, text: &str) -> String {
        self.commit_file("message", text.as_bytes(), "100644")
    }

    pub fn commit_file(&self, name: &str, content: &[u8], mode: &str) -> String {
        let blob = git_in(&self.path, &["hash-object", "-w", "--stdin"], content);
        let tree = git_in(&self.path, &["mktree"], format!("{mode} blob {blob}\t{name}\n").as_bytes());
        self.commit_tree(&tree)
    }

    pub fn commit_tree(&self, tree: &str) -> String {
        let parent = Command::new("git")
            .args(["rev-parse", "-q", "--verify", "refs/heads/main"])
            .current_dir(&self.path)
            .output()
            .unwrap();
        let parent = String::from_utf8(parent.stdout).unwrap().trim().to_owned();
        let mut words = vec!["commit-tree", "-m", "a message", tree];
        if !parent.is_empty() {
            words.extend(["-p", &parent]);
        }
        let commit = self.git(&words);
        self.git(&["update-ref", "refs/heads/main", &commit]);
        commit
    }

    /// A pack of exactly these objects.
    pub fn pack(&self, ids: &[&str]) -> Vec<u8> {
        let mut child = command(&self.path, &["pack-objects", "--stdout", "-q"]).spawn().unwrap();
        child.stdin.take().unwrap().write_all((ids.join("\n") + "\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=n", "-c", "user.email=e@x.invalid", "-c", "safe.directory=*"])
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[track_caller]
pub fn git(folder: &Path, words: &[&str]) -> String {
    git_in(folder, words, b"")
}

#[track_caller]
pub fn git_in(folder: &Path, words: &[&str], stdin: &[u8]) -> String {
    let mut child = command(folder, words).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// One line of git's wire format (gitprotocol-common(5)).
pub fn pkt(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// The advertisement of refs in protocol version 0, where the first line has the capabilities.
pub fn advertise(refs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = pkt("# service=git-upload-pack\n") + "0000";
    for (at, (id, name)) in refs.iter().enumerate() {
        let capabilities = if at == 0 { "\0ofs-delta agent=test" } else { "" };
        text += &pkt(&format!("{id} {name}{capabilities}\n"));
    }
    (text + "0000").into_bytes()
}

/// What the server says to a request.
pub enum Say {
    /// An answer with this body.
    Body(Vec<u8>),
    /// Half of this body, and then nothing more; the connection stays open, or is reset.
    Half(Vec<u8>, bool),
    /// Another address.
    Redirect(String),
    /// This body, and then this again and again for as long as somebody listens.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing.
    Silence,
}

/// A server on loopback that is asked for refs and packs. Ends with its value.
pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// `answer` is given the request's path.
    pub fn start(answer: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped, answer) = (requests.clone(), stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (count, stopped, answer) = (count.clone(), stopped.clone(), answer.clone());
                std::thread::spawn(move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    // Whoever hangs up early does so on purpose.
                    let _ = talk(&stream, &*answer, &stopped);
                });
            }
        });
        Self { address, requests, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}/p.git", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends and closes its socket.
        let _ = TcpStream::connect(self.address);
    }
}

fn talk(stream: &TcpStream, answer: &dyn Fn(&str) -> Say, stopped: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let kind = if path.contains("info/refs") { "advertisement" } else { "result" };
    let head = |length: Option<usize>| {
        let length = length.map_or_else(String::new, |n| format!("Content-Length: {n}\r\n"));
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n{length}Connection: close\r\n\r\n"
        )
    };
    let mut out = stream;
    match answer(&path) {
        Say::Body(body) => {
            out.write_all(head(Some(body.len())).as_bytes())?;
            out.write_all(&body)
        }
        Say::Half(body, stays) => {
            out.write_all(head(Some(body.len())).as_bytes())?;
            out.write_all(&body[..body.len() / 2])?;
            if stays {
                wait(stopped);
            }
            Ok(())
        }
        Say::Redirect(to) => out.write_all(
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        ),
        Say::Endless(first, again) => {
            out.write_all(head(None).as_bytes())?;
            out.write_all(&first)?;
            loop {
                out.write_all(&again)?;
            }
        }
        Say::Silence => {
            wait(stopped);
            Ok(())
        }
    }
}

fn wait(stopped: &AtomicBool) {
    let start = Instant::now();
    while !stopped.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
}
