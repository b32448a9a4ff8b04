//! `git http-backend` (git-http-backend(1)) behind a small server on loopback that asks for a password.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the server answers.
pub enum Manner {
    /// Serves the repositories below a folder to clients that send this `Authorization`, and answers 401 to others.
    Serves { root: PathBuf, authorization: String },
    /// Redirects every request to this address.
    Redirects(String),
    /// Asks for a password, and never accepts one.
    Asks,
    /// Asks for a password, and repeats the received one in the error.
    Repeats,
}

/// The server; dropping it stops it.
pub struct GitServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Manner,
    /// Every `Authorization` that clients sent.
    told: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl GitServer {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { manner, told: Mutex::default(), stop: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.stop.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&theirs);
                // Ignore errors: a client may go away early.
                std::thread::spawn(move || answer(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Every `Authorization` that clients sent.
    pub fn told(&self) -> Vec<String> {
        self.shared.told.lock().unwrap().clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wake the listener, so that it ends and closes its socket.
        let _ = TcpStream::connect(self.address);
    }
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, target, headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_end(&mut request.body).ok()?;
        Some(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn answer(stream: &TcpStream, shared: &Shared) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(20))).ok()?;
    let request = Request::read(stream)?;
    let told = request.header("authorization").unwrap_or_default().to_owned();
    if !told.is_empty() {
        shared.told.lock().unwrap().push(told.clone());
    }
    let asks = || {
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
            .as_bytes()
            .to_vec()
    };
    let answer = match &shared.manner {
        Manner::Redirects(to) => format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            request.target
        )
        .into_bytes(),
        Manner::Repeats if !told.is_empty() => {
            let text = format!("you said {told}, and {}\u{202e}\u{1b}[2J\n", decoded(&told));
            format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            )
            .into_bytes()
        }
        Manner::Serves { root, authorization } if *authorization == told => backend(root, &request)?,
        Manner::Asks | Manner::Repeats | Manner::Serves { .. } => asks(),
    };
    let mut out = stream;
    out.write_all(&answer).ok()
}

/// The `user:password` of a Basic authorization.
fn decoded(authorization: &str) -> String {
    use base64::Engine as _;
    let text = authorization.strip_prefix("Basic ").unwrap_or_default();
    String::from_utf8(base64::prelude::BASE64_STANDARD.decode(text).unwrap()).unwrap()
}

/// Runs `git http-backend` and returns its answer.
fn backend(root: &Path, request: &Request) -> Option<Vec<u8>> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let body = request.body.clone();
    let writes = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output().ok()?;
    let _ = writes.join();
    let end = output.stdout.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let head: Vec<_> = head.lines().filter(|line| !line.starts_with("Status: ")).collect();
    let head = head.join("\r\n");
    let body = &output.stdout[end + 4..];
    let length = body.len();
    let start =
        format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    Some([start.as_bytes(), body].concat())
}
