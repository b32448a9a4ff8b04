//! An upstream: a static HTTP server on loopback whose files a test can change. Dropping it stops it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Paths whose next answers are cut after half the body, and how many.
    cut: Mutex<BTreeMap<String, usize>>,
    /// Paths whose answers stop after half the body and leave the connection open.
    stalled: Mutex<BTreeSet<String>>,
    requests: AtomicUsize,
    ranges: AtomicUsize,
    stop: AtomicBool,
}

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if seen.stop.load(Ordering::Relaxed) {
                    break;
                }
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(&stream, &seen));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), bytes);
    }

    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.shared.files.lock().unwrap().get(path).cloned()
    }

    /// Changes one byte in the middle of a file.
    pub fn tamper(&self, path: &str) {
        let mut files = self.shared.files.lock().unwrap();
        let bytes = files.get_mut(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }

    /// Cuts the next `times` answers for `path` after half the body.
    pub fn cut(&self, path: &str, times: usize) {
        self.shared.cut.lock().unwrap().insert(path.to_owned(), times);
    }

    /// Sets whether answers for `path` stop after half the body and leave the client waiting.
    pub fn stall(&self, path: &str, stalls: bool) {
        let mut stalled = self.shared.stalled.lock().unwrap();
        if stalls {
            stalled.insert(path.to_owned())
        } else {
            stalled.remove(path)
        };
    }

    /// The number of requests, and how many of them asked for a range.
    pub fn requests(&self) -> (usize, usize) {
        (self.shared.requests.load(Ordering::Relaxed), self.shared.ranges.load(Ordering::Relaxed))
    }

    /// Stops the server.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wake the listener, so that it ends and closes its socket.
        let _ = TcpStream::connect(self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream);
    // Answer one request for each connection, which is simple; clients reconnect.
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut from = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
            break;
        }
        let lower = header.to_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap_or(0);
            shared.ranges.fetch_add(1, Ordering::Relaxed);
        }
    }
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let found = shared.files.lock().unwrap().get(&path).cloned();
    let mut out = stream;
    let Some(bytes) = found else {
        let _ = write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let total = bytes.len();
    let body = &bytes[from.min(total)..];
    let head = if from > 0 {
        format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n", total - 1)
    } else {
        "HTTP/1.1 200 OK\r\n".to_owned()
    };
    let _ = write!(out, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let cut = shared.cut.lock().unwrap().get_mut(&path).is_some_and(|left| {
        let now = *left > 0;
        *left = left.saturating_sub(1);
        now
    });
    let stalls = || shared.stalled.lock().unwrap().contains(&path) && !shared.stop.load(Ordering::Relaxed);
    let _ = out.write_all(if cut || stalls() { &body[..body.len() / 2] } else { body });
    let start = Instant::now();
    while stalls() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
}
