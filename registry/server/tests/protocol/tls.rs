//! TLS, and clients that are known by their certificates.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hab_oci::Digest;
use hab_registry::{Access, ClientCertificates, ServiceLimits, Tls, TlsConfig};

use crate::harness::secure::{Authority, Client, Files, Stream, basic, der_of, eventually, pem};
use crate::harness::{Reply, Server, Setup};

struct World {
    server: Server,
    files: Files,
    authority: Authority,
}

fn world(limits: ServiceLimits, setup: impl FnOnce(&Files, TlsConfig) -> Setup) -> World {
    let (files, authority) = (Files::new(), Authority::new("authority"));
    let setup = setup(&files, files.tls(&authority));
    World { server: Server::set_up(Access::ReadWrite, limits, setup), files, authority }
}

fn plain() -> World {
    world(ServiceLimits::default(), |_, tls| Setup { tls: Some(tls), ..Setup::default() })
}

impl World {
    fn client(&self) -> Client {
        Client::new(&self.authority.pem(), None)
    }
}

#[test]
fn a_registry_is_served_over_tls_and_who_speaks_http_is_told() {
    let World { server, files, authority } = world(ServiceLimits::default(), |files, tls| Setup {
        tls: Some(tls),
        access: Some(files.access(&["alice"], &[])),
        ..Setup::default()
    });
    let client = Client::new(&authority.pem(), None);
    let reply = client.get(server.address, "/v2/", &[]).unwrap();
    let realm = format!("Bearer realm=\"https://{}/v2/token\",service=\"hab-build\"", server.address);
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(realm.as_str())));
    let shown = basic("alice");
    assert_eq!(client.get(server.address, "/v2/", &[("Authorization", &shown)]).unwrap().status, 200);
    let mut stream = server.connect();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream).unwrap().error(), (400, "UNSUPPORTED".to_owned()));
    let stranger = Client::new(&Authority::new("other").pem(), None);
    assert!(stranger.get(server.address, "/v2/", &[]).is_none());
    assert_eq!(client.certificate_of(server.address), der_of(&files.path("server.pem")));
}

#[test]
fn a_clients_certificate_is_its_account() {
    let clients = Authority::new("of clients");
    let with = |required| {
        let pem = clients.pem();
        world(ServiceLimits::default(), move |files, tls| Setup {
            tls: Some(TlsConfig {
                client_ca: Some(files.write("clients.pem", pem)),
                client: required,
                ..tls
            }),
            access: Some(files.access(&["alice"], &[("node-1", "a", "pull"), ("localhost", "b", "pull")])),
            ..Setup::default()
        })
    };
    let world = with(ClientCertificates::Optional);
    let (address, own) = (world.server.address, world.authority.pem());
    let status = |client: &Client, path: &str| client.get(address, path, &[]).map(|reply| reply.status);
    let node = Client::new(&own, Some(clients.vouch("node-1", None)));
    assert_eq!(status(&node, "/v2/"), Some(200));
    assert_eq!(status(&node, "/v2/a/manifests/v1"), Some(404), "it may look");
    assert_eq!(status(&node, "/v2/b/manifests/v1"), Some(403));
    let token = node.get(address, "/v2/token?scope=repository:a:pull", &[]).unwrap();
    let token = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    let reply = world.client().get(address, "/v2/a/manifests/v1", &[("Authorization", &token)]);
    assert_eq!(reply.unwrap().status, 404);
    // Where the common name is none that an account can have, another one is looked for.
    let by_alternative = Client::new(&own, Some(clients.vouch("Node Number 2", Some("127.0.0.1"))));
    assert_eq!(status(&by_alternative, "/v2/b/manifests/v1"), Some(404));
    let nameless = Client::new(&own, Some(clients.vouch("Node Number 3", None)));
    assert_eq!(status(&nameless, "/v2/a/manifests/v1"), Some(401));
    assert_eq!(status(&world.client(), "/v2/a/manifests/v1"), Some(401));
    let stranger = Client::new(&own, Some(Authority::new("of others").vouch("node-1", None)));
    assert_eq!(status(&stranger, "/v2/"), None, "nobody here vouches for it");
    // What is shown in the request counts for more.
    let alice = node.get(address, "/v2/a/manifests/v1", &[("Authorization", &basic("alice"))]);
    assert_eq!(alice.unwrap().status, 403);

    let world = with(ClientCertificates::Required);
    let node = Client::new(&world.authority.pem(), Some(clients.vouch("node-1", None)));
    assert_eq!(node.get(world.server.address, "/v2/", &[]).map(|reply| reply.status), Some(200));
    assert!(world.client().get(world.server.address, "/v2/", &[]).is_none());
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_broken_one_changes_nothing() {
    let World { server, files, authority } = plain();
    let client = Client::new(&authority.pem(), None);
    let mut open = client.connect(server.address);
    open.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut first = [0; 12];
    open.read_exact(&mut first).unwrap();

    let first = der_of(&files.path("server.pem"));
    files.write("server.pem", "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n");
    // Longer than it takes to notice; whatever is noticed must change nothing.
    for _ in 0..50 {
        assert_eq!(client.certificate_of(server.address), first);
        std::thread::sleep(Duration::from_millis(100));
    }
    // The certificate first, which does not go with the old key; then its key.
    let (certificate, key) = authority.vouch("127.0.0.1", Some("127.0.0.1"));
    files.write("server.pem", certificate);
    assert_eq!(client.certificate_of(server.address), first);
    files.write("server.key", key);
    let second = der_of(&files.path("server.pem"));
    assert_ne!(first, second);
    eventually("the new certificate", || client.certificate_of(server.address) == second);

    open.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest);
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 1, "a connection outlives its certificate: {rest}");
}

fn impatient() -> World {
    let short = Duration::from_millis(300);
    let limits = ServiceLimits {
        head: short,
        keep: short,
        idle: short,
        taking: short,
        drain: short,
        connections: 2,
        ..ServiceLimits::default()
    };
    world(limits, |_, tls| Setup { tls: Some(tls), ..Setup::default() })
}

#[test]
fn a_client_that_never_ends_its_handshake_is_cut_off() {
    let world = impatient();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let stalled: Vec<TcpStream> = [b"".as_slice(), hello]
        .into_iter()
        .map(|said| {
            let mut stream = world.server.connect();
            stream.write_all(said).unwrap();
            stream
        })
        .collect();
    // Both slots are taken; this answer comes when one of them is given up.
    assert_eq!(world.client().get(world.server.address, "/v2/", &[]).unwrap().status, 200);
    for mut stream in stalled {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    for junk in [b"\x16\x03\x01\x00\x05junk!".as_slice(), &[0; 3000], b"\x80\x2e\x01\x00\x02"] {
        let mut stream = world.server.connect();
        let _ = stream.write_all(junk);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(world.client().get(world.server.address, "/v2/", &[]).unwrap().status, 200);
}

#[test]
fn a_client_that_does_not_read_loses_its_slot_over_tls_too() {
    let world = impatient();
    let (address, client) = (world.server.address, world.client());
    let bytes = vec![1; 32 << 20];
    let digest = Digest::of(&bytes);
    let mut stream = client.connect(address);
    let head = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    assert_eq!(Reply::read(&mut stream).unwrap().status, 201);
    let stalled: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = client.connect(address);
            write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            stream.flush().unwrap();
            stream
        })
        .collect();
    assert_eq!(client.get(address, "/v2/", &[]).unwrap().status, 200);
    drop(stalled);
    // And one that does gets all of it.
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(Digest::of(&client.get(address, &path, &[]).unwrap().body), digest);
}

/// Until a time that no test lives to see.
const LATE: &str = "491231000000Z";

/// Clients of two authorities, the first of which has a list of what it revoked; node-1 and node-2 may pull.
fn revocable(first: &Authority, second: &Authority, lists: &[&[u8]]) -> World {
    let authorities = [first.pem(), second.pem()].concat();
    world(ServiceLimits::default(), |files, tls| Setup {
        tls: Some(TlsConfig {
            client_ca: Some(files.write("clients.pem", authorities)),
            client_crl: lists
                .iter()
                .enumerate()
                .map(|(n, list)| files.write(&format!("{n}.crl"), list))
                .collect(),
            ..tls
        }),
        access: Some(files.access(&[], &[("node-1 node-2", "a", "pull")])),
        ..Setup::default()
    })
}

const PATH: &str = "/v2/a/manifests/v1";

/// One more request on a connection that is open.
fn ask(stream: &mut Stream) -> Option<(u16, String)> {
    write!(stream, "GET {PATH} HTTP/1.1\r\nHost: h\r\n\r\n").ok()?;
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head[9..12].parse().unwrap(), head))
}

#[test]
fn a_revoked_certificate_opens_no_connection_and_its_open_connections_and_tokens_end() {
    let (clients, other) = (Authority::new("of clients"), Authority::new("of others"));
    let none = pem("X509 CRL", &clients.revocations(&[], LATE));
    let world = revocable(&clients, &other, &[&none]);
    let (address, own) = (world.server.address, world.authority.pem());
    let (one, two) = (clients.vouch("node-1", None), clients.vouch("node-2", None));
    let revoked = one.0.clone();
    let nodes = [Client::new(&own, Some(one)), Client::new(&own, Some(two))];
    let tokens = nodes.each_ref().map(|node| {
        let reply = node.get(address, "/v2/token?scope=repository:a:pull", &[]).unwrap();
        format!("Bearer {}", reply.json()["token"].as_str().unwrap())
    });
    let by_token =
        |token: &str| world.client().get(address, PATH, &[("Authorization", token)]).unwrap().status;
    let mut open = nodes.each_ref().map(|node| node.connect(address));
    for n in [0, 1] {
        assert_eq!(ask(&mut open[n]).unwrap().0, 404, "it may, and there is none");
        assert_eq!(by_token(&tokens[n]), 404);
    }
    // Nobody else's authority can take a certificate away: its list is no list of this one.
    world
        .files
        .write("0.crl", [none.clone(), pem("X509 CRL", &other.revocations(&[&revoked], LATE))].concat());
    // By then the files were looked at: what another authority issued is believed since it has a list.
    let foreign = Client::new(&own, Some(other.vouch("node-2", None)));
    eventually("the second list", || foreign.get(address, PATH, &[]).is_some());
    assert_eq!(ask(&mut open[0]).unwrap().0, 404);
    assert_eq!(by_token(&tokens[0]), 404);

    world.files.write("0.crl", pem("X509 CRL", &clients.revocations(&[&revoked], LATE)));
    eventually("the end of node-1", || nodes[0].get(address, PATH, &[]).is_none());
    let (status, head) = ask(&mut open[0]).unwrap();
    assert!(status == 401 && head.contains("connection: close"), "{head}");
    assert_eq!(ask(&mut open[0]), None);
    assert_eq!(by_token(&tokens[0]), 401);
    // Nothing of that is about anybody else.
    assert_eq!(ask(&mut open[1]).unwrap().0, 404);
    assert_eq!(by_token(&tokens[1]), 404);
    assert_eq!(nodes[1].get(address, PATH, &[]).unwrap().status, 404);
}

#[test]
fn an_authority_that_is_not_believed_any_more_takes_its_connections_and_tokens_with_it() {
    let (clients, other) = (Authority::new("of clients"), Authority::new("of others"));
    let world = revocable(&clients, &other, &[]);
    let (address, own) = (world.server.address, world.authority.pem());
    let node = Client::new(&own, Some(clients.vouch("node-1", None)));
    let token = node.get(address, "/v2/token?scope=repository:a:pull", &[]).unwrap();
    let token = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    let mut open = node.connect(address);
    assert_eq!(ask(&mut open).unwrap().0, 404);
    world.files.write("clients.pem", other.pem());
    eventually("the end of the authority", || node.get(address, PATH, &[]).is_none());
    assert_eq!(ask(&mut open).unwrap().0, 401);
    assert_eq!(world.client().get(address, PATH, &[("Authorization", &token)]).unwrap().status, 401);
}

#[test]
fn with_lists_an_authority_without_one_is_not_believed_and_one_that_is_over_still_counts() {
    let (clients, other) = (Authority::new("of clients"), Authority::new("of others"));
    let (one, two) = (clients.vouch("node-1", None), clients.vouch("node-2", None));
    // In DER, and over since 2021.
    let over = clients.revocations(&[&one.0], "210101000000Z");
    let world = revocable(&clients, &other, &[&over]);
    let (address, own) = (world.server.address, world.authority.pem());
    let node = |shown| Client::new(&own, Some(shown)).get(address, PATH, &[]).map(|reply| reply.status);
    assert_eq!(node(one), None);
    assert_eq!(node(two), Some(404));
    assert_eq!(node(other.vouch("node-1", None)), None);
}

#[test]
fn a_broken_or_forged_list_changes_nothing_or_believes_nobody_and_is_refused_at_start() {
    let (clients, other) = (Authority::new("of clients"), Authority::new("of others"));
    let shown = clients.vouch("node-1", None);
    let files = Files::new();
    let open = |list: &[u8]| {
        let tls = files.tls(&clients);
        let client_ca = Some(files.write("clients.pem", clients.pem()));
        let client_crl = vec![files.write("clients.crl", list)];
        Tls::open(TlsConfig { client_ca, client_crl, ..tls }).map(|_| ()).map_err(|error| error.to_string())
    };
    for bad in [b"".as_slice(), b"junk", b"\x30junk", &pem("CERTIFICATE", b"x"), &pem("X509 CRL", b"x")] {
        assert!(open(bad).unwrap_err().contains("clients.crl"), "{bad:?}");
    }
    let good = pem("X509 CRL", &clients.revocations(&[&shown.0], LATE));
    let world = revocable(&clients, &other, &[&good]);
    let (address, own) = (world.server.address, world.authority.pem());
    let node = Client::new(&own, Some(shown));
    assert!(node.get(address, PATH, &[]).is_none());
    // A list that somebody else signed revokes nobody, and lets nobody in either.
    let stranger = Authority::new("of clients").revocations(&[], LATE);
    world.files.write("0.crl", pem("X509 CRL", &stranger));
    // Another certificate of the server's own shows that the list was read.
    let (certificate, key) = world.authority.vouch("127.0.0.1", Some("127.0.0.1"));
    world.files.write("server.pem", certificate);
    world.files.write("server.key", key);
    let new = der_of(&world.files.path("server.pem"));
    eventually("the new list", || world.client().certificate_of(address) == new);
    assert!(node.get(address, PATH, &[]).is_none());
    let unlisted = Client::new(&own, Some(other.vouch("node-2", None)));
    assert!(unlisted.get(address, PATH, &[]).is_none());
}
