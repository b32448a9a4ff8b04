//! Files whose size nobody told, from upstreams that misbehave.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hab_mirror::{FetchLimits, Fetcher, FileToFetch, Keep as _, MirrorError, Observer, Size};
use hab_oci::Digest;
use support::Memory;

struct Quiet;

impl Observer for Quiet {
    fn fetching(&self, _: &str, _: u64, _: Option<u64>) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// An upstream whose answers `answer` writes: to the how manieth request, from which byte on, into what.
fn upstream(answer: impl Fn(usize, usize, &mut dyn std::io::Write) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let requests = AtomicUsize::new(0);
        for stream in listener.incoming().flatten() {
            let mut from = 0;
            for line in
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty())
            {
                if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().unwrap();
                }
            }
            answer(requests.fetch_add(1, Ordering::Relaxed), from, &mut &stream);
        }
    });
    address
}

const BYTES: &[u8] = b"a source of which only the digest is known";

/// Fetches `BYTES` from `url`, of which at most `limit` bytes are accepted.
fn fetch(keep: &Memory, url: &str, limit: u64) -> Result<(), MirrorError> {
    let digest = Digest::of(BYTES);
    let wanted = FileToFetch {
        what: "x.tar".to_owned(),
        urls: vec![url.to_owned().into()],
        digest,
        size: Size::AtMost(limit),
    };
    Fetcher::new(keep, &Quiet, FetchLimits::default(), false).fetch(&wanted)
}

fn refused(url: &str, limit: u64, words: &str) {
    let keep = Memory::new();
    let error = fetch(&keep, url, limit).unwrap_err();
    let chain = format!(
        "{error}: {}",
        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
    );
    assert!(chain.contains(words), "no {words:?} in {chain:?}");
    assert!(keep.open(&Digest::of(BYTES)).unwrap().is_none());
}

#[test]
fn a_file_of_unknown_size_is_kept_by_its_digest() {
    let url = upstream(|_, _, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let _ = out.write_all(BYTES);
    });
    let keep = Memory::new();
    fetch(&keep, &url, 1000).unwrap();
    assert!(keep.open(&Digest::of(BYTES)).unwrap().is_some());
}

#[test]
fn a_file_of_unknown_size_is_resumed_where_it_broke_off() {
    let url = upstream(|request, from, out| {
        let rest = &BYTES[from..];
        let head = match from {
            0 => "200 OK".to_owned(),
            _ => format!(
                "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                BYTES.len() - 1,
                BYTES.len()
            ),
        };
        assert_eq!(request > 0, from > 0, "the second request asks for the rest");
        let _ = write!(out, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len());
        let _ = out.write_all(if from == 0 { &rest[..10] } else { rest });
    });
    let keep = Memory::new();
    fetch(&keep, &url, 1000).unwrap();
    assert!(keep.open(&Digest::of(BYTES)).unwrap().is_some());
}

#[test]
fn a_body_without_end_ends_at_the_limit() {
    let url = upstream(|_, _, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while out.write_all(&[0; 1024]).is_ok() {}
    });
    refused(&url, 100_000, "more than the 100000 bytes");
}

#[test]
fn a_body_that_announces_too_much_is_not_read() {
    let url = upstream(|_, _, out| {
        let _ =
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\nConnection: close\r\n\r\n");
    });
    refused(&url, 100_000, "more than the 100000 bytes");
}

#[test]
fn an_answer_that_comes_byte_by_byte_ends_with_its_time() {
    let dripping = |head: &'static [u8]| {
        upstream(move |_, _, out| {
            let _ = out.write_all(head);
            while out.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let keep = Memory::new();
    let fetcher = Fetcher::new(&keep, &Quiet, FetchLimits { attempts: 1, ..FetchLimits::default() }, false);
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n".as_slice();
    for head in [body, b"HTTP/1.1 200 OK\r\nX-Long: "] {
        let begun = Instant::now();
        let looked = fetcher.peek("x", &dripping(head).into(), 200_000, Duration::from_secs(1));
        let error = looked.unwrap_err();
        let why = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(why.as_deref(), Some("it took longer than 1 s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(error.is_silence());
    }
}

#[test]
fn other_bytes_are_not_kept() {
    let url = upstream(|_, _, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nother");
    });
    refused(&url, 1000, "expected sha256:");
}

#[test]
fn a_redirect_is_followed_and_a_circle_is_not() {
    let url = upstream(|request, _, out| {
        let _ = match request {
            0 => write!(
                out,
                "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
            _ => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", BYTES.len())
            }
        };
        let _ = out.write_all(BYTES);
    });
    fetch(&Memory::new(), &url, 1000).unwrap();
    let circle = upstream(|_, _, out| {
        let _ = write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    });
    refused(&circle, 1000, "6th redirect");
}

#[test]
fn a_redirect_to_a_file_or_to_nowhere_is_refused() {
    for (location, words) in [
        ("Location: file:///etc/hostname\r\n", "not followed"),
        ("Location: ftp://127.0.0.1/x\r\n", "neither http nor https"),
        ("Location: http://\r\n", "not followed"),
        ("", "no Location header"),
    ] {
        let url = upstream(move |_, _, out| {
            let _ =
                write!(out, "HTTP/1.1 301 Moved\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n");
        });
        refused(&url, 1000, words);
    }
}
