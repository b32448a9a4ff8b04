//! HTTP/2: several requests over one connection, and what one connection may cost.

use std::io::Write as _;
use std::time::Duration;

use axum::http::{HeaderName, Method, Request, Response, StatusCode};
use bytes::Bytes;
use h2::Reason;
use h2::client::{self, SendRequest};
use hab_oci::Digest;
use hab_registry::{Access, ServiceLimits};

use crate::harness::secure::{Authority, Client, Files, basic};
use crate::harness::{Server, Setup};

const LONG: Duration = Duration::from_secs(20);

/// Runs a client, for no longer than a test may take.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, work).await.expect("it takes too long") })
}

type Ended = tokio::task::JoinHandle<Result<(), h2::Error>>;

async fn connect(server: &Server, builder: &client::Builder) -> (SendRequest<Bytes>, Ended) {
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(server: &Server, method: Method, path: &str) -> Request<()> {
    let uri = format!("http://{}{path}", server.address);
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

async fn whole(mut response: Response<h2::RecvStream>) -> (StatusCode, Vec<u8>) {
    let (status, mut bytes) = (response.status(), Vec::new());
    while let Some(part) = response.body_mut().data().await {
        let part = part.unwrap();
        response.body_mut().flow_control().release_capacity(part.len()).unwrap();
        bytes.extend_from_slice(&part);
    }
    (status, bytes)
}

async fn get(sender: &SendRequest<Bytes>, server: &Server, path: &str) -> (StatusCode, Vec<u8>) {
    loop {
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request(server, Method::GET, path), true).unwrap();
        match response.await {
            // Sent before the server had said how many it answers at a time: nothing of it was done, so clients ask
            // again (RFC 9113, section 8.7).
            Err(error) if error.reason() == Some(Reason::REFUSED_STREAM) => {}
            response => return whole(response.unwrap()).await,
        }
    }
}

#[test]
fn many_requests_go_over_one_connection_and_each_gets_its_own_answer() {
    let server = Server::writable();
    let blobs: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 100_000 + usize::from(n)]).collect();
    let paths: Vec<_> = blobs.iter().map(|b| format!("/v2/a/blobs/{}", server.push_blob("a", b))).collect();
    run(async {
        let (sender, _) = connect(&server, &client::Builder::new()).await;
        let all = paths.iter().map(|path| get(&sender, &server, path));
        for ((status, bytes), expected) in futures_util::future::join_all(all).await.into_iter().zip(&blobs) {
            assert!(status == 200 && bytes == *expected);
        }
        // A push, by the same connection.
        let bytes = vec![7; 3 << 20];
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&bytes));
        let mut ready = sender.clone().ready().await.unwrap();
        let (response, mut body) = ready.send_request(request(&server, Method::POST, &path), false).unwrap();
        body.send_data(Bytes::from(bytes.clone()), true).unwrap();
        let response = response.await.unwrap();
        let path = format!("/v2/a/blobs/{}", Digest::of(&bytes));
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()["location"].to_str().unwrap(), path);
        let pushed = get(&sender, &server, &path).await;
        assert!(pushed.1 == bytes);
        assert_eq!(get(&sender, &server, "/v2/a/manifests/none").await.0, StatusCode::NOT_FOUND);
    });
}

#[test]
fn http2_is_agreed_upon_over_tls_and_http1_is_spoken_to_who_knows_nothing_else() {
    let (files, authority) = (Files::new(), Authority::new("authority"));
    let setup = Setup {
        tls: Some(files.tls(&authority)),
        access: Some(files.access(&["alice"], &[])),
        ..Setup::default()
    };
    let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
    let offered = |protocols: &[&str]| {
        let client = Client::new(&authority.pem(), None).offering(protocols);
        let mut stream = client.connect(server.address);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap())
    };
    assert_eq!(offered(&["h2", "http/1.1"]).as_deref(), Some("h2"));
    assert_eq!(offered(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(offered(&[]), None);
    let shown = basic("alice");
    let old = Client::new(&authority.pem(), None);
    assert_eq!(old.get(server.address, "/v2/", &[("Authorization", &shown)]).unwrap().status, 200);
    // The address that a client is told comes from what HTTP/2 has instead of a Host.
    let mut stream = Client::new(&authority.pem(), None).offering(&["h2"]).connect(server.address);
    let mut wanted = PREFACE.to_vec();
    wanted.extend(frame(4, 0, 0, &[]));
    wanted.extend(frame(1, 5, 1, &head("/v2/")));
    stream.write_all(&wanted).unwrap();
    let frames = frames(&mut stream, |frames| {
        frames.iter().any(|(kind, flags, id, _)| (*kind, flags & 1, *id) == (0, 1, 1))
    });
    let body = frames.iter().find(|(kind, .., body)| *kind == 0 && !body.is_empty()).unwrap();
    assert!(String::from_utf8_lossy(&body.3).contains("UNAUTHORIZED"));
}

#[test]
fn an_early_answer_ends_its_own_request_and_not_the_connection() {
    let server = Server::writable();
    run(async {
        let (sender, _) = connect(&server, &client::Builder::new()).await;
        let mut ready = sender.clone().ready().await.unwrap();
        let post = request(&server, Method::POST, "/v2/A/blobs/uploads/?digest=none");
        let (response, mut body) = ready.send_request(post, false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::BAD_REQUEST);
        // What is still sent of it is thrown away.
        let _ = body.send_data(Bytes::from(vec![0; 100_000]), false);
        assert_eq!(get(&sender, &server, "/v2/").await.0, StatusCode::OK);
    });
}

#[test]
fn a_client_that_opens_no_window_for_its_answer_is_sent_away() {
    let limits = ServiceLimits { taking: Duration::from_millis(500), ..ServiceLimits::default() };
    let server = Server::with(Access::ReadWrite, limits);
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &vec![1; 1 << 20]));
    run(async {
        let (sender, ended) = connect(&server, client::Builder::new().initial_window_size(0)).await;
        let mut ready = sender.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(request(&server, Method::GET, &path), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        // Pings are answered, and are no progress. It ends by itself.
        let _ = ended.await;
        drop(response);
    });
    // Who takes what it is sent, however slowly the server has it, stays.
    run(async {
        let (sender, _) = connect(&server, &client::Builder::new()).await;
        assert_eq!(get(&sender, &server, &path).await.1.len(), 1 << 20);
    });
}

#[test]
fn a_connection_on_which_nothing_is_asked_is_closed_and_one_that_waits_for_its_answer_is_not() {
    let limits = ServiceLimits {
        keep: Duration::from_millis(300),
        head: Duration::from_millis(300),
        ..ServiceLimits::default()
    };
    let server = Server::with(Access::ReadWrite, limits);
    run(async {
        let (sender, ended) = connect(&server, &client::Builder::new()).await;
        assert_eq!(get(&sender, &server, "/v2/").await.0, StatusCode::OK);
        // Its last answer is over, so its time runs.
        let _ = ended.await;
        let (_sender, ended) = connect(&server, &client::Builder::new()).await;
        let _ = ended.await;
    });
}

#[test]
fn who_asks_and_takes_it_back_again_and_again_is_sent_away_and_nobody_else_is() {
    let server = Server::writable();
    let mut stream = server.connect();
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for n in 0..2000_u32 {
        bytes.extend(frame(1, 5, 2 * n + 1, &head("/v2/")));
        bytes.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    // It may be closed before all of this is sent.
    let _ = stream.write_all(&bytes);
    let frames = frames(&mut stream, |frames| frames.iter().any(|(kind, ..)| *kind == 7));
    let (.., body) = frames.iter().find(|(kind, ..)| *kind == 7).expect("it is told to go away");
    assert_eq!(body[4..8], 11_u32.to_be_bytes(), "to calm down");
    assert_eq!(server.get("/v2/").status, 200);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let server = Server::writable();
    run(async {
        let (sender, _) = connect(&server, &client::Builder::new()).await;
        let mut large = request(&server, Method::GET, "/v2/");
        for n in 0..20 {
            let name = HeaderName::try_from(format!("x-large-{n}")).unwrap();
            large.headers_mut().insert(name, "x".repeat(10_000).parse().unwrap());
        }
        let mut ready = sender.clone().ready().await.unwrap();
        let answered = match ready.send_request(large, true) {
            Ok((response, _)) => response.await.map(|response| response.status()),
            Err(error) => Err(error),
        };
        assert!(answered.is_err() || answered.is_ok_and(|status| status.is_client_error()));
    });
    assert_eq!(server.get("/v2/").status, 200);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a GET, without any compression (RFC 7541, sections 6.1 and 6.2.2).
fn head(path: &str) -> Vec<u8> {
    let text = |name: u8, text: &str| [&[name, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0x82, 0x86], text(4, path), text(1, "here")].concat()
}

type Frame = (u8, u8, u32, Vec<u8>);

/// What comes until it is enough, or to its end.
fn frames(stream: &mut impl std::io::Read, enough: impl Fn(&[Frame]) -> bool) -> Vec<Frame> {
    let mut all = Vec::new();
    let mut start = [0; 9];
    while !enough(&all) && stream.read_exact(&mut start).is_ok() {
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut body = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut body).is_err() {
            break;
        }
        let id = u32::from_be_bytes([start[5], start[6], start[7], start[8]]);
        all.push((start[3], start[4], id, body));
    }
    all
}
