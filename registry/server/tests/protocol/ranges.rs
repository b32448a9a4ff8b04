//! Many ranges of one blob, as clients ask for them that pull only what they lack.

use crate::harness::{Reply, Server};

/// The parts of an answer: where each says that it is from, and its bytes.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let kind = reply.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{kind}"));
    let divider = format!("\r\n--{boundary}");
    let mut all = Vec::new();
    let mut rest = reply.body.as_slice();
    let find = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|found| found == wanted);
    while let Some(at) = find(rest, divider.as_bytes()) {
        rest = &rest[at + divider.len()..];
        if rest.starts_with(b"--") {
            break;
        }
        let head = find(rest, b"\r\n\r\n").unwrap();
        let text = String::from_utf8(rest[..head].to_vec()).unwrap();
        let range = text.split("Content-Range: ").nth(1).unwrap().to_owned();
        rest = &rest[head + 4..];
        let end = find(rest, divider.as_bytes()).unwrap();
        all.push((range, rest[..end].to_vec()));
    }
    all
}

#[test]
fn a_thousand_ranges_come_as_a_thousand_parts_in_their_order_and_cost_no_more_than_their_bytes() {
    let server = Server::writable();
    let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let (size, count) = (bytes.len(), 1024);
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
    let ranges: Vec<_> = (0..count).map(|n| (n * 3500, n * 3500 + 700)).collect();
    let text: Vec<_> = ranges.iter().map(|(first, end)| format!("{first}-{}", end - 1)).collect();
    let reply = server.send("GET", &path, &[("Range", &format!("bytes={}", text.join(",")))], b"");
    assert_eq!(reply.status, 206);
    let expected: Vec<_> = ranges
        .iter()
        .map(|(first, end)| (format!("bytes {first}-{}/{size}", end - 1), bytes[*first..*end].to_vec()))
        .collect();
    assert!(parts(&reply) == expected);
    assert!(reply.body.len() < 700 * count + 200 * count, "{}", reply.body.len());
}

#[test]
fn adjacent_ranges_are_parts_of_their_own_because_clients_count_them() {
    let server = Server::writable();
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", b"0123456789"));
    let reply = server.send("GET", &path, &[("Range", "bytes=0-1,2-3,6-7")], b"");
    let found: Vec<_> = parts(&reply).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(found, [b"01", b"23", b"67"]);
}

#[test]
fn ranges_that_ask_for_more_than_there_is_are_merged_so_that_no_byte_comes_twice() {
    let server = Server::writable();
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let path = format!("/v2/a/blobs/{}", server.push_blob("a", &bytes));
    let greedy = vec!["1-300000"; 4000].join(",");
    let reply = server.send("GET", &path, &[("Range", &format!("bytes={greedy},399990-"))], b"");
    assert_eq!(reply.status, 206);
    let found: Vec<_> = parts(&reply).into_iter().map(|(range, bytes)| (range, bytes.len())).collect();
    assert_eq!(found, [("bytes 1-300000/400000".into(), 300_000), ("bytes 399990-399999/400000".into(), 10)]);
    let all = vec!["0-"; 4000].join(",");
    let whole = server.send("GET", &path, &[("Range", &format!("bytes={all}"))], b"");
    assert_eq!((whole.status, whole.body.len()), (200, bytes.len()));
}

#[test]
fn a_boundary_cannot_be_written_into_the_bytes_that_it_divides() {
    let server = Server::writable();
    let ask = |bytes: &[u8]| {
        let path = format!("/v2/a/blobs/{}", server.push_blob("a", bytes));
        let reply = server.send("GET", &path, &[("Range", "bytes=0-9,20-29")], b"");
        reply.header("content-type").unwrap().split("boundary=").nth(1).unwrap().to_owned()
    };
    let one = ask(&[b'x'; 200]);
    // Whoever knows the boundary of other bytes, and writes it into these, has made others of them, with another one.
    let two = ask(format!("\r\n--{one}\r\n{}", "x".repeat(200)).as_bytes());
    assert_ne!(one, two);
    assert!(one.len() <= 70 && one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{one}");
}
