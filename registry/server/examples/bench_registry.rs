//! A client that measures a registry, any registry: what `ci/bench registry` runs.
//!
//! It knows no more of HTTP than it needs, so that the server's time shows and not the client's. Every figure goes to
//! stdout as numbers apart by spaces; what they are is said at each command.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hab_oci::Digest;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const USAGE: &str = "\
bench image ADDRESS REPOSITORY                   pushes a small image as v1; its manifest's digest
bench blob ADDRESS REPOSITORY MIB                pushes a blob; its digest
bench pull ADDRESS PATH CLIENTS SECONDS PID      GB a second, and CPU seconds of the process for each GB
bench push ADDRESS REPOSITORY MIB ROUNDS         the shortest time of a push, in seconds
bench pushes ADDRESS REPOSITORY COUNT CLIENTS    pushes of 10 KB a second
bench memory ADDRESS PATH PULLS PUSHES PID       the most resident memory of the process meanwhile, in MB
bench many ADDRESS REPOSITORY COUNT              pushes so many manifests with a blob each; their paths, a line each
bench first ADDRESS FILE                         p50 and p99 of the first byte of each path in a file, in milliseconds";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["image", address, repository] => {
            println!("{}", image(&mut Client::new(address)?, repository, "v1", 0)?.1);
        }
        ["blob", address, repository, mib] => {
            let bytes = noise(mib.parse::<usize>()? << 20, 1);
            println!("{}", push(&mut Client::new(address)?, repository, &bytes, &Digest::of(&bytes))?);
        }
        ["pull", address, path, clients, seconds, pid] => {
            pull(address, path, clients.parse()?, Duration::from_secs(seconds.parse()?), pid)?;
        }
        ["push", address, repository, mib, rounds] => {
            let mut best = f64::MAX;
            for round in 0..rounds.parse::<u64>()? {
                let bytes = noise(mib.parse::<usize>()? << 20, 1000 + round);
                let digest = Digest::of(&bytes);
                let mut client = Client::new(address)?;
                let start = Instant::now();
                push(&mut client, repository, &bytes, &digest)?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!("{best:.3}");
        }
        ["pushes", address, repository, count, clients] => {
            println!("{:.0}", pushes(address, repository, count.parse()?, clients.parse()?)?);
        }
        ["memory", address, path, pulls, pushes, pid] => {
            println!("{}", memory(address, path, pulls.parse()?, pushes.parse()?, pid)?);
        }
        ["many", address, repository, count] => many(address, repository, count.parse()?)?,
        ["first", address, file] => first(address, &fs::read_to_string(file)?)?,
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

/// One connection.
struct Client {
    address: String,
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer.
struct Head {
    status: u16,
    length: usize,
    location: Option<String>,
    /// How much of the body came with the head.
    came: usize,
}

impl Client {
    fn new(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { address: address.to_owned(), stream, buffer: vec![0; 256 << 10] })
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Head> {
        // Some say where to go on with their whole address.
        let path = path.strip_prefix("http://").map_or(path, |rest| &rest[rest.find('/').unwrap_or(0)..]);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.head()
    }

    fn head(&mut self) -> Result<Head> {
        let mut held = 0;
        loop {
            let n = self.stream.read(&mut self.buffer[held..])?;
            if n == 0 {
                return Err("the connection ended within a head".into());
            }
            held += n;
            let Some(end) = self.buffer[..held].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..end])?;
            let mut head =
                Head { status: text[9..12].parse()?, length: 0, location: None, came: held - end - 4 };
            for line in text.lines().skip(1) {
                let Some((name, value)) = line.split_once(':') else { continue };
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => head.length = value.trim().parse()?,
                    "location" => head.location = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            return Ok(head);
        }
    }

    /// Reads a body and forgets it, counting.
    fn drain(&mut self, head: &Head, counted: &AtomicU64) -> Result<()> {
        let mut left = head.length - head.came;
        counted.fetch_add(head.came as u64, Ordering::Relaxed);
        while left > 0 {
            let room = left.min(self.buffer.len());
            let n = self.stream.read(&mut self.buffer[..room])?;
            if n == 0 {
                return Err("the connection ended within a body".into());
            }
            left -= n;
            counted.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn expect(&mut self, method: &str, path: &str, headers: &str, body: &[u8], status: u16) -> Result<Head> {
        let head = self.ask(method, path, headers, body)?;
        self.drain(&head, &AtomicU64::new(0))?;
        if head.status == status { Ok(head) } else { Err(format!("{method} {path}: {}", head.status).into()) }
    }
}

/// Bytes that nothing compresses, others for each seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// As skopeo and podman push: a session, then all of it.
fn push(client: &mut Client, repository: &str, bytes: &[u8], digest: &Digest) -> Result<Digest> {
    let started = client.expect("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"", 202)?;
    let location = started.location.ok_or("no Location")?;
    let join = if location.contains('?') { '&' } else { '?' };
    let kind = "Content-Type: application/octet-stream\r\n";
    client.expect("PUT", &format!("{location}{join}digest={digest}"), kind, bytes, 201)?;
    Ok(digest.clone())
}

/// A manifest with one layer; the layer's digest and the manifest's.
fn image(client: &mut Client, repository: &str, tag: &str, seed: u64) -> Result<(Digest, Digest)> {
    let (config, layer) = (b"{}".to_vec(), noise(1024, seed + 1));
    let (config_digest, layer_digest) = (Digest::of(&config), Digest::of(&layer));
    push(client, repository, &config, &config_digest)?;
    push(client, repository, &layer, &layer_digest)?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer_digest}","size":1024}}]}}"#
    );
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    client.expect("PUT", &format!("/v2/{repository}/manifests/{tag}"), kind, manifest.as_bytes(), 201)?;
    Ok((layer_digest, Digest::of(manifest.as_bytes())))
}

/// Seconds of CPU that a process has used.
fn cpu(pid: &str) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in pid.split(',') {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit_once(')').ok_or("no stat")?.1;
        ticks +=
            fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(ticks / 100.0)
}

#[allow(clippy::cast_precision_loss)] // a figure for people
fn pull(address: &str, path: &str, clients: usize, time: Duration, pid: &str) -> Result<()> {
    let (counted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (before, start) = (cpu(pid)?, Instant::now());
    thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut client = Client::new(address)?;
            while !over.load(Ordering::Relaxed) {
                let head = client.ask("GET", path, "", b"")?;
                client.drain(&head, &counted)?;
                if head.status != 200 {
                    return Err(format!("GET {path}: {}", head.status).into());
                }
            }
            Ok(())
        };
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked")?)
    })?;
    let gb = counted.load(Ordering::Relaxed) as f64 / 1e9;
    println!("{:.2} {:.3}", gb / start.elapsed().as_secs_f64(), (cpu(pid)? - before) / gb);
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn pushes(address: &str, repository: &str, count: u64, clients: u64) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let blobs: Vec<(Vec<u8>, Digest)> = (0..count)
        .map(|n| {
            let bytes = noise(10_000, 5_000_000 + n);
            let digest = Digest::of(&bytes);
            (bytes, digest)
        })
        .collect();
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut client = Client::new(address)?;
            while let Some((bytes, digest)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                push(&mut client, repository, bytes, digest)?;
            }
            Ok(())
        };
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked")?)
    })?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn resident(pid: &str) -> Result<u64> {
    let mut sum = 0;
    for pid in pid.split(',') {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        sum += line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? * 1024;
    }
    Ok(sum)
}

/// Pulls go on until all pushes, of 64 MiB each, are through.
fn memory(address: &str, path: &str, pulls: usize, pushes: u64, pid: &str) -> Result<u64> {
    let (over, counted) = (AtomicBool::new(false), AtomicU64::new(0));
    let most = thread::scope(|scope| -> Result<u64> {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(resident(pid).unwrap_or(0));
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let pull = || -> Result<()> {
            let mut client = Client::new(address)?;
            while !over.load(Ordering::Relaxed) {
                let head = client.ask("GET", path, "", b"")?;
                client.drain(&head, &counted)?;
            }
            Ok(())
        };
        let readers: Vec<_> = (0..pulls).map(|_| scope.spawn(pull)).collect();
        let writers: Vec<_> = (0..pushes)
            .map(|n| {
                scope.spawn(move || -> Result<()> {
                    let bytes = noise(64 << 20, 9_000_000 + n);
                    push(&mut Client::new(address)?, "bench/memory", &bytes, &Digest::of(&bytes))?;
                    Ok(())
                })
            })
            .collect();
        let pushed = writers.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked")?);
        over.store(true, Ordering::Relaxed);
        readers.into_iter().try_for_each(|one| one.join().map_err(|_| "a client panicked")?)?;
        pushed?;
        Ok(watch.join().map_err(|_| "the watch panicked")?)
    })?;
    Ok(most / 1_000_000)
}

fn many(address: &str, repository: &str, count: u64) -> Result<()> {
    let mut client = Client::new(address)?;
    for n in 0..count {
        let (layer, manifest) = image(&mut client, repository, &format!("t{n}"), 7_000_000 + n)?;
        println!("/v2/{repository}/manifests/t{n}");
        println!("/v2/{repository}/manifests/{manifest}");
        println!("/v2/{repository}/blobs/{layer}");
    }
    Ok(())
}

fn first(address: &str, paths: &str) -> Result<()> {
    let mut client = Client::new(address)?;
    let mut times = Vec::new();
    for path in paths.lines() {
        let start = Instant::now();
        let head = client.ask("GET", path, "", b"")?;
        times.push(start.elapsed());
        client.drain(&head, &AtomicU64::new(0))?;
        if head.status != 200 {
            return Err(format!("GET {path}: {}", head.status).into());
        }
    }
    times.sort();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |t| t.as_secs_f64() * 1000.0);
    println!("{:.2} {:.2}", at(50), at(99));
    Ok(())
}
