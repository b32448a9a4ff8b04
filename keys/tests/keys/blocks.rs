//! Signatures as bytes: what stands around them, how large they are, and what is packed into them.

use std::time::Duration;

use crate::world::{TEXT, cert, clearsign, court, detached, file, said};
use hab_keys::{Refusal, VerifiedFile};

#[test]
fn line_endings_and_trailing_white_space_in_clearsigned_text() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let signed = String::from_utf8(clearsign(&key, "first\nsecond\n")).unwrap();
    let content = |text: &str| {
        let file = VerifiedFile::clearsigned("file", text.as_bytes(), &court.judge());
        file.map(|f| String::from_utf8(f.content().unwrap().to_vec()).unwrap())
    };
    assert_eq!(content(&signed).unwrap().trim_end(), "first\nsecond");
    // RFC 9580, section 7.2: neither is signed, so neither may reach a reader.
    let spaced = signed.replace("first\n", "first \t\n");
    assert!(!content(&spaced).is_ok_and(|text| text.contains("first \t")));
    let windows = signed.replace("first\n", "first\r\n");
    assert!(!content(&windows).is_ok_and(|text| text.contains("first\r\r")));
    for other in [
        signed.replace("first", "First"),
        signed.replace("first\n", "first\nmore\n"),
        signed.replace("second", ""),
    ] {
        assert!(content(&other).is_err(), "{other}");
    }
}

#[test]
fn one_broken_signature_among_good_ones_neither_sinks_nor_helps_the_count() {
    let (a, b) = (cert("a"), cert("b"));
    let broken = String::from_utf8(detached(&b, TEXT)).unwrap();
    let lines: Vec<_> = broken.lines().collect();
    let middle = lines[lines.len() / 2];
    let broken = broken.replace(middle, &middle.chars().rev().collect::<String>());
    let both = [detached(&a, TEXT), broken.into_bytes()].concat();
    assert!(file(&court("archive-signature", 1, &[&a, &b], &[&a, &b]), &both).is_ok());
    let two = court("archive-signature", 2, &[&a, &b], &[&a, &b]);
    assert!(matches!(file(&two, &both), Err(Refusal::Signatures { good: 1, .. })));
}

#[test]
fn an_armored_block_with_extra_data_is_refused() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let good = String::from_utf8(detached(&key, TEXT)).unwrap();
    assert!(file(&court, good.as_bytes()).is_ok());
    for bad in [format!("{good}more\n"), format!("more\n{good}"), good.replace("-----END", "x\n-----END")] {
        assert!(file(&court, bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_signature_of_100_mb_is_refused_by_its_size() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let good = detached(&key, TEXT);
    let start = std::time::Instant::now();
    for padding in [&b"\n"[..], b"\x99"] {
        let huge = [good.as_slice(), &padding.repeat(100 << 20)].concat();
        let said = said(file(&court, &huge));
        assert!(said.contains("its signatures have"), "{said}");
    }
    // Not a measurement: reading it all as OpenPGP would take minutes.
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_signature_that_is_a_compressed_bomb_is_not_unpacked() {
    use std::io::Write as _;
    // A Compressed Data packet (RFC 9580, section 5.6), old format, of indeterminate length: ZIP of 512 MiB of zeros.
    let mut zip = flate2::write::DeflateEncoder::new(vec![0xa3, 1], flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        zip.write_all(&zeros).unwrap();
    }
    let bomb = zip.finish().unwrap();
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let key = cert("key");
    let before = peak_memory();
    assert!(file(&court("archive-signature", 1, &[&key], &[&key]), &bomb).is_err());
    let grown = peak_memory() - before;
    assert!(grown < 256 << 10, "{grown} KiB more");
}

/// The most memory that this process ever had, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
