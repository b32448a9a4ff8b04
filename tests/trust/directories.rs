//! Key directories of the web, and hosts that do not answer for a key.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::certificates::{asked_for, configure, run, verify, world};
use crate::harness::{Server, World, cert, export};
use hab_keys::KeyDirectory;
use sequoia_openpgp::Cert;

#[test]
fn a_certificate_is_found_in_the_key_directory_of_an_address_that_the_policy_names() {
    let key = cert("signer");
    let world = world(&key);
    let policy = std::fs::read_to_string(world.path("trust/p/policy.toml")).unwrap();
    let policy = policy.replace("reason", "addresses = [\"Signer@keys.example\"]\nreason");
    world.file("trust/p/policy.toml", policy);
    let path = KeyDirectory::of("Signer@keys.example").unwrap().direct;
    world.server.put(path.trim_start_matches('/'), export(&key));
    configure(
        &world,
        &format!("servers = []\ndomains = {{ \"keys.example\" = {:?} }}", world.server.address()),
    );
    let found = verify(&world, &[]).good();
    assert!(found.stderr.contains("were found at the key directory of keys.example"), "{}", found.stderr);
}

/// A world in which policy `p` pins a key whose owner has the address `signer@keys.example`.
fn world_of_directory(key: &Cert) -> World {
    let world = world(key);
    let policy = std::fs::read_to_string(world.path("trust/p/policy.toml")).unwrap();
    world.file(
        "trust/p/policy.toml",
        policy.replace("reason", "addresses = [\"signer@keys.example\"]\nreason"),
    );
    world
}

fn directory_at(address: &str) -> String {
    format!("domains = {{ \"keys.example\" = {address:?} }}")
}

#[test]
fn who_does_not_answer_is_named_with_the_cause_and_where_nobody_does_it_is_exit_code_4() {
    let key = cert("signer");
    let world = world_of_directory(&key);
    let away = Server::start();
    away.stop();
    let place = "the key directory of keys.example";
    let said = format!("cannot get certificates from {place}: it refuses connections");
    configure(&world, &format!("servers = []\n{}", directory_at(&away.address())));
    let refreshed = run(&world, &["keys", "refresh", "p"]);
    assert_eq!(refreshed.code, Some(4), "{}", refreshed.stderr);
    assert!(refreshed.stderr.contains(&said), "{}", refreshed.stderr);
    let sentence = "error: no key server or key directory answered for 1 of 1 certificates";
    assert!(refreshed.stderr.contains(sentence), "{}", refreshed.stderr);
    assert!(refreshed.json["silent"][place].as_str().unwrap().starts_with("it refuses connections"));
    assert_eq!(refreshed.json["keys"][0]["unanswered"], true);
    // An answer without a certificate is no failure, and the silent place is still named.
    let server = world.server.address();
    configure(&world, &format!("servers = [{server:?}]\n{}", directory_at(&away.address())));
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    assert!(refreshed.stderr.contains(&said), "{}", refreshed.stderr);
    assert!(refreshed.json["silent"][place].as_str().unwrap().starts_with("it refuses connections"));
    assert_eq!(refreshed.json["keys"][0]["unanswered"], false);
    // `verify` names the silent place too.
    let refused = verify(&world, &[]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    run(&world, &["keys", "refresh", "p", "--offline"]).good();
}

#[test]
fn who_answers_something_else_is_in_the_document_too() {
    let (key, other) = (cert("signer"), cert("signer"));
    let world = world(&key);
    let server = world.server.address();
    configure(&world, &format!("servers = [{server:?}]\ndirectories = false"));
    world.server.put(&asked_for(&key), export(&other));
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    assert_eq!(refreshed.json["strange"][&server], 1);
}

/// A server that sends one byte now and then.
fn dripping() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let asked = BufReader::new(&stream).lines().map_while(Result::ok);
                asked.take_while(|line| !line.is_empty()).for_each(drop);
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                    sent = stream.write_all(b"x");
                }
            });
        }
    });
    address
}

#[test]
fn a_key_directory_that_sends_a_byte_now_and_then_is_given_up_and_the_others_are_asked() {
    let key = cert("signer");
    let world = world_of_directory(&key);
    let server = world.server.address();
    configure(&world, &format!("servers = [{server:?}]\n{}", directory_at(&dripping())));
    world.server.put(&asked_for(&key), export(&key));
    let begun = Instant::now();
    let refreshed = run(&world, &["keys", "refresh", "p"]).good();
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!(refreshed.json["silent"]["the key directory of keys.example"], "it took longer than 30 s");
    assert_eq!(refreshed.json["keys"][0]["found"][0], server);
}

#[test]
fn an_address_in_the_configuration_that_cannot_be_asked_is_refused_before_anything_is_done() {
    let world = world(&cert("signer"));
    for (keys, sentence) in [
        (
            directory_at("file:///etc"),
            "[keys] domains: `file:///etc`, for `keys.example`, is not like https://",
        ),
        (
            "domains = { \"file:///etc\" = \"https://k.example\" }".to_owned(),
            "[keys] domains: `file:///etc` is not the name of a domain",
        ),
        ("servers = [\"file:///etc\"]".to_owned(), "[keys] servers: `file:///etc` is not like https://"),
    ] {
        configure(&world, &keys);
        run(&world, &["keys", "refresh", "p"]).refused(2, &["hab.toml, line", sentence]);
    }
}
