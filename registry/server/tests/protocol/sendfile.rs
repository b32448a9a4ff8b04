//! Large blobs, whose bytes may go from a file to the socket without passing through here.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hab_oci::Digest;
use hab_registry::{Access, ServiceLimits};

use crate::harness::secure::{Authority, Client, Files};
use crate::harness::{Reply, Server, Setup};

/// More than a socket takes at once.
fn large(seed: u32) -> Vec<u8> {
    (seed..seed + 3_000_000).flat_map(u32::to_le_bytes).collect()
}

/// One answer off a connection that is kept: its body.
fn next(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}

#[test]
fn answers_that_are_asked_for_at_once_come_in_order_each_with_its_own_bytes() {
    let server = Server::writable();
    let (one, two, small) = (large(0), large(7), b"small".to_vec());
    let asks: Vec<(&[u8], &str, &[u8])> = vec![
        (&one, "bytes=0-", &one),
        (&small, "bytes=0-", &small),
        (&two, "bytes=1-", &two[1..]),
        (&one, "bytes=100001-400000", &one[100_001..400_001]),
        (&one, "bytes=11999990-", &one[11_999_990..]),
        (&two, "bytes=0-65535", &two[..65_536]),
    ];
    for bytes in [&one, &two, &small] {
        server.push_blob("a", bytes);
    }
    let mut stream = server.connect();
    for (blob, range, _) in &asks {
        let path = format!("/v2/a/blobs/{}", Digest::of(blob));
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nRange: {range}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }
    // The socket is full when the first answer is read.
    std::thread::sleep(Duration::from_millis(200));
    for (_, range, wanted) in asks {
        assert!(next(&mut stream) == wanted, "{range}");
    }
}

#[test]
fn several_large_ranges_come_between_their_heads() {
    let server = Server::writable();
    let bytes = large(0);
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
    let reply = server.send("GET", &path, &[("Range", "bytes=5-700004,2000000-2299999")], b"");
    assert_eq!(reply.status, 206);
    for part in [&bytes[5..700_005], &bytes[2_000_000..2_300_000]] {
        let at = reply.body.windows(40).position(|window| window == &part[..40]).unwrap();
        assert!(
            &reply.body[at..at + part.len()] == part && reply.body[at + part.len()..].starts_with(b"\r\n--")
        );
    }
}

#[test]
fn over_tls_the_same_bytes_come() {
    let (files, authority) = (Files::new(), Authority::new("authority"));
    let setup = Setup { tls: Some(files.tls(&authority)), ..Setup::default() };
    let server = Server::set_up(Access::ReadWrite, ServiceLimits::default(), setup);
    let client = Client::new(&authority.pem(), None);
    let bytes = large(0);
    let digest = Digest::of(&bytes);
    let mut stream = client.connect(server.address);
    let head =
        format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", bytes.len()).as_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    assert_eq!(Reply::read(&mut stream).unwrap().status, 201);
    let reply = client.get(server.address, &format!("/v2/a/blobs/{digest}"), &[]).unwrap();
    assert!(reply.body == bytes);
}

#[test]
fn a_blob_that_is_cut_while_it_is_sent_ends_the_connection_early() {
    let server = Server::writable();
    let bytes = large(0);
    let digest = server.push_blob("a", &bytes);
    let mut stream = server.connect();
    let path = format!("/v2/a/blobs/{digest}");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
    let mut first = vec![0; 100_000];
    stream.read_exact(&mut first).unwrap();
    let file = hab_store::Blobs::open(server.folder()).unwrap().path(&digest);
    // What is kept may not be written to, by who is not root.
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(8_000_000).unwrap();
    let mut rest = Vec::new();
    // A reset ends it, too.
    let _ = stream.read_to_end(&mut rest);
    let came = first.len() + rest.len();
    assert!(came < 8_001_000, "{came} bytes, of which none is made up");
}
