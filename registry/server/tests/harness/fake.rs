//! An upstream registry that answers as a test tells it to. Ends with its value.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Default)]
pub struct Say {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: Option<usize>,
    /// The body goes on for as long as somebody listens.
    pub endless: bool,
    /// A pause before the second half.
    pub pause: Duration,
    /// A pause before each of a hundred parts.
    pub slow: Duration,
    /// No length is said.
    pub lengthless: bool,
}

impl Say {
    pub fn ok(kind: &str, body: &[u8]) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Self { status: 200, headers, body: body.to_vec(), ..Self::default() }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

pub struct Fake {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        Self::serve(move |stream, log| {
            // Whoever hangs up early does so on purpose.
            let _ = talk(stream, log, &answer);
        })
    }

    fn serve(talk: impl Fn(&TcpStream, &Mutex<Vec<Asked>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, talk) = (asked.clone(), stop.clone(), Arc::new(talk));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (log, talk) = (log.clone(), talk.clone());
                std::thread::spawn(move || talk(&stream, &log));
            }
        });
        Self { address, asked, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests whose path ends so.
    pub fn asked(&self, end: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.ends_with(end)).cloned().collect()
    }

    /// Nobody answers any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The request, which is written down.
fn heard(stream: &TcpStream, log: &Mutex<Vec<Asked>>) -> std::io::Result<Asked> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let asked = Asked { method, path, headers };
    log.lock().unwrap().push(asked.clone());
    Ok(asked)
}

fn talk(stream: &TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Say) -> std::io::Result<()> {
    let asked = heard(stream, log)?;
    let method = &asked.method;
    let said = answer(&asked);
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", said.status);
    for (name, value) in &said.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !said.endless && !said.lengthless {
        head.push_str(&format!("Content-Length: {}\r\n", said.body.len()));
    }
    let mut out = stream;
    out.write_all(format!("{head}\r\n").as_bytes())?;
    if method == "HEAD" {
        return Ok(());
    }
    if said.endless {
        loop {
            out.write_all(&[b'x'; 4096])?;
            std::thread::sleep(said.slow);
        }
    }
    let body = &said.body[..said.cut.unwrap_or(said.body.len())];
    if !said.slow.is_zero() {
        for part in body.chunks(body.len().div_ceil(100).max(1)) {
            std::thread::sleep(said.slow);
            out.write_all(part)?;
        }
        return Ok(());
    }
    let (first, second) = body.split_at(body.len() / 2);
    out.write_all(first)?;
    if !said.pause.is_zero() {
        std::thread::sleep(said.pause);
    }
    out.write_all(second)?;
    out.flush()?;
    // So that what was sent is not lost with the connection.
    stream.shutdown(std::net::Shutdown::Write)?;
    let _ = BufReader::new(stream).read(&mut [0]);
    Ok(())
}

impl Fake {
    /// An upstream that answers every GET with these bytes, and sends the second half of them when `wait` returns.
    pub fn gated(sent: Vec<u8>, wait: impl Fn() + Send + Sync + 'static) -> Self {
        Self::serve(move |stream, log| {
            let Ok(asked) = heard(stream, log) else { return };
            let head =
                format!("HTTP/1.1 200 Said\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", sent.len());
            let mut out = stream;
            // Whoever hangs up early does so on purpose.
            let _ = out.write_all(head.as_bytes());
            if asked.method != "HEAD" {
                let (first, second) = sent.split_at(sent.len() / 2);
                let _ = out.write_all(first);
                wait();
                let _ = out.write_all(second);
            }
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = BufReader::new(stream).read(&mut [0]);
        })
    }
}
