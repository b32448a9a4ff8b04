use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;
use crate::{Blocking, story};

/// A host on loopback that gives its n-th request the answer `answer(n, head)`, and records the requests.
struct Host {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn start(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().flatten().enumerate() {
                let _ = talk(&stream, &log, &|head| answer(n, head));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }
}

fn talk(
    stream: &TcpStream,
    log: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str) -> String,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let head = lines.collect::<Vec<_>>().join("\n").to_lowercase();
    log.lock().unwrap().push(head.clone());
    let mut out = stream;
    out.write_all(answer(&head).as_bytes())
}

fn ok(headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\nhi")
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A client with short time limits, which resolves every name below `example` to this machine.
fn client(inner: &[&str]) -> Client {
    let settings = Settings {
        connect: Duration::from_secs(2),
        silence: Duration::from_secs(2),
        inner: inner.iter().map(|text| text.parse().unwrap()).collect(),
        ..Settings::default()
    };
    let table: LookUp = Arc::new(|name| {
        let here = || Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
        match name {
            "two.example" => Some(Ok(vec![([1, 1, 1, 1], 0).into(), ([127, 0, 0, 1], 0).into()])),
            "unknown.example" => Some(Err(std::io::Error::other("no such name"))),
            _ => name.ends_with(".example").then(here),
        }
    });
    Client::with_table(&settings, Some(&table)).unwrap()
}

fn send(client: &Client, request: &Request) -> Result<Answer, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.send(request))
}

fn get(client: &Client, url: &str) -> Result<u16, Cause> {
    let answer = send(client, &Request::get(url.parse().unwrap()));
    answer.map(|answer| answer.status().as_u16()).map_err(Problem::into_cause)
}

fn leads_in<T>(result: &Result<T, Cause>) -> bool {
    matches!(result, Err(Cause::Inner | Cause::Redirect { why: NotFollowed::Inner, .. }))
}

#[test]
fn a_host_leads_to_no_inner_address_by_literal_by_name_by_number_or_mapped() {
    for location in [
        "http://127.0.0.1:PORT/x",
        "http://localhost:PORT/x",
        "http://[::1]:PORT/x",
        "http://2130706433:PORT/x",
        "http://0x7f.1:PORT/x",
        "http://127.1:PORT/x",
        "http://[::ffff:127.0.0.1]:PORT/x",
        "http://[::ffff:7f00:1]:PORT/x",
        "http://127.0.0.2:PORT/x",
        "http://storage.example:PORT/x",
        "//storage.example:PORT/x",
        "http://two.example:PORT/x",
        "http://registry:PORT/x",
    ] {
        let host = Arc::new(std::sync::OnceLock::<String>::new());
        let led = Arc::clone(&host);
        let server = Host::start(move |n, _| if n == 0 { to(led.get().unwrap()) } else { ok("") });
        host.set(location.replace("PORT", &server.address.port().to_string())).unwrap();
        let result = get(&client(&[]), &server.url("registry.example", "/"));
        assert!(leads_in(&result), "{location}");
        assert_eq!(server.asked().len(), 1, "{location}");
    }
}

#[test]
fn an_inner_host_may_lead_to_its_own_origin_and_to_those_that_the_operator_named() {
    let server = Host::start(|n, _| if n % 2 == 0 { to("/there") } else { ok("") });
    assert_eq!(get(&client(&[]), &server.url("registry.example", "/")).unwrap(), 200);
    // A host that was outside before may not redirect to its own origin once its name resolves to an inner address.
    let suspicious = client(&[]);
    suspicious.hosts.saw("registry.example", false);
    assert!(leads_in(&get(&suspicious, &server.url("registry.example", "/"))));
    // Another port of the same machine is another origin.
    let other = Host::start(|_, _| ok(""));
    let storage = other.url("storage.example", "/x");
    let location = storage.clone();
    let leading = Host::start(move |_, _| to(&location));
    assert!(leads_in(&get(&client(&[]), &leading.url("storage.example", "/"))));
    assert_eq!(get(&client(&[&storage]), &leading.url("registry.example", "/")).unwrap(), 200);
}

#[test]
fn an_address_from_outside_leads_to_no_inner_host_unless_that_is_named() {
    let server = Host::start(|_, _| ok(""));
    let url = server.url("registry.example", "/");
    let asked = |client: &Client, url: &str| {
        let request = Request { named_by: NamedBy::Outside, ..Request::get(url.parse().unwrap()) };
        send(client, &request).map(drop).map_err(Problem::into_cause)
    };
    assert!(leads_in(&asked(&client(&[]), &url)));
    assert!(leads_in(&asked(&client(&[]), &server.url("127.0.0.1", "/"))));
    assert!(server.asked().is_empty());
    assert!(asked(&client(&[&url]), &url).is_ok());
}

#[test]
fn redirects_end_and_are_not_followed_where_nobody_else_may_answer() {
    let server = Host::start(|_, _| to("/again"));
    let url = server.url("127.0.0.1", "/");
    let said = get(&client(&[]), &url).unwrap_err().to_string();
    assert!(said.contains("6th redirect in a row"), "{said}");
    assert_eq!(server.asked().len(), 6);
    let request = Request { follow: false, ..Request::get(url.parse().unwrap()) };
    assert!(send(&client(&[]), &request).unwrap_err().to_string().contains("may not be redirected"));
    assert_eq!(server.asked().len(), 7);
}

#[test]
fn credentials_go_to_the_origin_that_they_are_for_and_never_after_a_redirect() {
    let server = Host::start(|n, _| if n % 2 == 0 { to("/there") } else { ok("") });
    let url = server.url("127.0.0.1", "/");
    let origin: Origin = url.parse().unwrap();
    let mut request = Request::get(url.parse().unwrap());
    request.authorization = Some(Authorization::basic(origin, "user", "pass").unwrap());
    send(&client(&[]), &request).unwrap();
    let other = Authorization::basic("http://127.0.0.1:1".parse().unwrap(), "user", "pass").unwrap();
    request.authorization = Some(other);
    send(&client(&[]), &request).unwrap();
    // The same for a user in the address, and for an `Authorization` header that the caller sets.
    request.authorization = None;
    request.headers.insert(AUTHORIZATION, "Basic x".parse().unwrap());
    send(&client(&[]), &request).unwrap();
    request.url.set_username("user").unwrap();
    request.url.set_password(Some("pass")).unwrap();
    send(&client(&[]), &request).unwrap();
    let sent: Vec<bool> = server.asked().iter().map(|head| head.contains("authorization:")).collect();
    assert_eq!(sent, [true, false, false, false, false, false, true, false]);
}

#[test]
fn an_encoded_answer_is_refused_by_name_unless_a_digest_tells() {
    let server = Host::start(|_, _| ok("Content-Encoding: gzip\r\n"));
    let url = server.url("127.0.0.1", "/");
    let said = get(&client(&[]), &url).unwrap_err().to_string();
    assert!(said.contains("encoded as \"gzip\""), "{said}");
    assert!(server.asked()[0].contains("accept-encoding: identity"), "{:?}", server.asked());
    let request = Request { any_encoding: true, ..Request::get(url.parse().unwrap()) };
    assert!(send(&client(&[]), &request).is_ok());
    let plain = Host::start(|_, _| ok("Content-Encoding: identity\r\n"));
    assert_eq!(get(&client(&[]), &plain.url("127.0.0.1", "/")).unwrap(), 200);
}

#[test]
fn an_answer_with_a_huge_head_many_headers_or_a_long_body_is_refused() {
    let heads = [
        format!("X-A: {}\r\n", "a".repeat(100_000)),
        format!("X-A: {}\r\n", "a".repeat(3_000_000)),
        "X-A: a\r\n".repeat(5000),
    ];
    for head in heads {
        let server = Host::start(move |_, _| ok(&head));
        let cause = get(&client(&[]), &server.url("127.0.0.1", "/")).unwrap_err();
        assert!(matches!(cause, Cause::Head { .. } | Cause::Other(_) | Cause::NoConnection(_)), "{cause:?}");
    }
    let server = Host::start(|_, _| ok(""));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let whole = runtime.block_on(async {
        let request = Request::get(server.url("127.0.0.1", "/").parse().unwrap());
        client(&[]).send(&request).await.unwrap().whole(1, Duration::from_secs(5)).await
    });
    assert!(whole.unwrap_err().to_string().contains("more than 1 bytes"));
}

#[test]
fn an_error_names_the_address_and_the_cause_and_no_secret() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let garbage = Host::start(|_, _| "no HTTP at all\r\n\r\n".to_owned());
    for (url, words) in [
        (format!("http://me:secret@{nobody}/a?token=secret"), "it refuses connections"),
        (format!("http://{}/a?token=secret", silent.local_addr().unwrap()), "did not answer within"),
        ("http://unknown.example/a?token=secret".to_owned(), "its host name is not known: no such name"),
        (garbage.url("me:secret@127.0.0.1", "/a?token=secret"), "not understood"),
        (garbage.url("127.0.0.1", "/a").replace("http:", "https:"), "TLS"),
    ] {
        let problem = send(&client(&[]), &Request::get(url.parse().unwrap())).unwrap_err();
        let said = story(&problem);
        assert!(said.contains(words) && said.contains("/a: ") && !said.contains("secret"), "{url}: {said}");
    }
}

/// A host on loopback that keeps connections open: it answers `answers` requests on each, and closes it at the next
/// one. Returns its address, and a count of requests and connections.
fn ends_after(answers: usize) -> (String, Arc<Mutex<(usize, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new((0, 0)));
    let count = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.lock().unwrap().1 += 1;
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                for n in 0.. {
                    if !lines.by_ref().any(|line| line.is_empty()) {
                        return;
                    }
                    count.lock().unwrap().0 += 1;
                    if n == answers {
                        return;
                    }
                    let mut out = &stream;
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
                }
            });
        }
    });
    (url, seen)
}

#[test]
fn a_request_that_meets_the_end_of_a_kept_connection_is_asked_again_on_a_new_one() {
    let (url, seen) = ends_after(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = client(&[]);
    let ask = async || client.send(&Request::get(url.parse().unwrap())).await.unwrap();
    let read = async |answer: Answer| {
        assert_eq!(answer.whole(10, Duration::from_secs(5)).await.unwrap(), b"hi");
    };
    runtime.block_on(async {
        // The client keeps three connections, and the host closes each at its next request.
        for answer in [ask().await, ask().await, ask().await] {
            read(answer).await;
        }
        for _ in 0..5 {
            read(ask().await).await;
        }
    });
    let (asked, connections) = *seen.lock().unwrap();
    assert!(asked > 8 && asked <= 16 && connections >= 8, "{asked} requests, {connections} connections");
}

#[test]
fn a_host_that_never_answers_is_asked_twice_and_no_more() {
    let (url, seen) = ends_after(0);
    let cause = get(&client(&[]), &url).unwrap_err();
    assert!(matches!(cause, Cause::Closed(_)) && cause.is_away(), "{cause:?}");
    assert_eq!(cause.to_string(), "it closed the connection before it answered");
    assert_eq!(*seen.lock().unwrap(), (2, 2));
}

#[test]
fn a_proxy_of_another_kind_or_without_an_address_is_refused_and_its_password_not_repeated() {
    for bad in ["socks5://u:secret@p.example", "p.example:80", "http://", ""] {
        let settings = Settings { proxies: Proxies::At(bad.to_owned()), ..Settings::default() };
        let said = Client::new(&settings).unwrap_err().to_string();
        assert!(said.contains("not like http://") && !said.contains("secret"), "{said}");
        assert!(!format!("{settings:?}").contains("secret"));
    }
    let settings = Settings { authorities: Some(b"no certificate".to_vec()), ..Settings::default() };
    assert!(matches!(Client::new(&settings), Err(BadSettings::Authorities)));
}

#[test]
fn who_waits_for_an_answer_may_stop_to_wait() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let blocking = Blocking::new(&Settings::default()).unwrap();
    let request = Request::get(format!("http://{}/", silent.local_addr().unwrap()).parse().unwrap());
    let problem = blocking.send(&request, &|| true).unwrap_err();
    assert!(matches!(problem.cause(), Cause::Cancelled));
    let server = Host::start(|_, _| ok(""));
    let request = Request::get(server.url("127.0.0.1", "/").parse().unwrap());
    let mut answer = blocking.send(&request, &|| false).unwrap();
    assert_eq!(answer.chunk(&|| false).unwrap().unwrap(), "hi");
    assert_eq!(answer.chunk(&|| false).unwrap(), None);
}
