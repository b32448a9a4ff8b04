//! [`Serving`]: `hab-build serve` for stock clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::World;

/// A running `hab-build serve` over a world's data folder. Dropping it stops it.
pub struct Serving {
    child: Child,
    pub address: String,
}

impl Serving {
    pub fn start(world: &World) -> Self {
        Self::start_with(world, "data", &[])
    }

    /// Serves the data folder `data`, with more arguments.
    pub fn start_with(world: &World, data: &str, words: &[&str]) -> Self {
        Self::start_saying(world, data, words, Stdio::null())
    }

    /// As [`Serving::start_with`], with its messages sent to `said`.
    pub fn start_saying(world: &World, data: &str, words: &[&str], said: Stdio) -> Self {
        let all = [&["serve", "--listen", "127.0.0.1:0", "--json"], words].concat();
        Self::run(world.command(data, &all), said)
    }

    /// Serves the data folder `data` under a limit of the shell's ulimit, such as `-n 300`.
    pub fn start_limited(world: &World, limit: &str, said: Stdio) -> Self {
        let inner = world.command("data", &["serve", "--listen", "127.0.0.1:0", "--json"]);
        let mut outer = Command::new("sh");
        outer.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args()).env("NO_COLOR", "1").stdin(Stdio::null());
        Self::run(outer, said)
    }

    fn run(mut command: Command, said: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(said).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains('}') {
            assert!(reader.read_line(&mut text).unwrap() > 0, "serve ended: {text}");
        }
        let address =
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["listen"].as_str().unwrap().to_owned();
        Self { child, address }
    }

    /// Sends SIGHUP, so that the service reads its files again.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap();
        assert!(status.success());
    }

    /// How many bytes the service has read so far, from files and connections.
    pub fn has_read(&self) -> u64 {
        let counts = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// The URL of a path of the service.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a GET; returns (status, body).
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let (status, _, body) = self.ask(path, "Host: x\r\n");
        (status, body)
    }

    /// Sends a GET with these header lines; returns (status, head, body).
    pub fn ask(&self, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        self.send("GET", path, headers, b"")
    }

    /// Puts bytes somewhere: (status, head, body).
    pub fn put(&self, path: &str, media_type: &str, bytes: &[u8]) -> (u16, String, Vec<u8>) {
        let headers = format!("Host: x\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n", bytes.len());
        self.send("PUT", path, &headers, bytes)
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let at = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
        (head[9..12].parse().unwrap(), head, answer[at + 4..].to_vec())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
