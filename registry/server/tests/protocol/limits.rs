//! How often one client may ask.

use hab_registry::{Access, Rate, ServiceLimits};

use crate::access::guarded;
use crate::harness::secure::{Files, basic, basic_with};
use crate::harness::{Server, Setup};

#[test]
fn a_client_that_asks_too_often_is_told_when_to_ask_again_and_others_are_not() {
    let files = Files::new();
    let setup = Setup {
        access: Some(files.access(&["alice"], &[])),
        rate: Some(Rate { requests: 1, burst: 200 }),
        ..Setup::default()
    };
    let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
    let shown = basic("alice");
    let alice = || server.send("GET", "/v2/", &[("Authorization", &shown)], b"");
    assert_eq!(alice().status, 200);
    let refused = (0..1000).map(|_| server.get("/v2/a/tags/list")).find(|reply| reply.status == 429).unwrap();
    assert_eq!(refused.error(), (429, "TOOMANYREQUESTS".to_owned()));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(server.get("/v2/token").status, 429);
    assert_eq!(alice().status, 200, "an account is counted by its name");
}

#[test]
fn a_head_that_is_larger_than_any_token_is_refused() {
    let server = Server::writable();
    let shown = "x".repeat(200_000);
    let head = format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {shown}\r\n\r\n");
    assert_eq!(server.raw(head.as_bytes()).status, 431);
}

#[test]
fn guesses_are_counted_and_a_password_that_was_right_is_no_guess() {
    let files = Files::new();
    let server = guarded(files.access(&["alice"], &[]));
    assert_eq!(server.by("alice", "GET", "/v2/", b"").status, 200);
    let guess = |n: usize| {
        let shown = basic_with("alice", &n.to_string());
        server.send("GET", "/v2/", &[("Authorization", &shown)], b"").status
    };
    let said: Vec<_> = (0..500).map(guess).take_while(|status| *status != 429).collect();
    assert!((20..500).contains(&said.len()), "{}", said.len());
    assert!(said.iter().all(|status| *status == 401));
    assert_eq!(server.by("alice", "GET", "/v2/", b"").status, 200);
}
