//! Decompressors, and packages.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read as _, Write as _};

use hab_archive::{Compression, Decoder, Limits, Measure, Problem, deb, decompress};

const ALL: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];

fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Xz => {
            let mut out = liblzma::write::XzEncoder::new(Vec::new(), 0);
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

#[test]
fn a_document_comes_out_whole_up_to_its_limit_and_not_a_byte_further() {
    for compression in ALL {
        let bytes = packed(compression, &[7; 10_000]);
        assert_eq!(decompress(compression, &bytes, 10_000).unwrap(), [7; 10_000]);
        let error = decompress(compression, &bytes, 9_999).unwrap_err();
        assert_eq!(error.exceeds().map(|e| (e.measure, e.limit)), Some((Measure::Decoded, 9_999)));
    }
}

#[test]
fn several_streams_one_after_the_other_are_one_document() {
    for compression in ALL {
        let bytes = [packed(compression, b"one "), packed(compression, b"two")].concat();
        assert_eq!(decompress(compression, &bytes, 100).unwrap(), b"one two");
    }
}

#[test]
fn a_cut_or_continued_stream_is_refused() {
    for compression in &ALL[1..] {
        let bytes = packed(*compression, &[7; 10_000]);
        for cut in 1..bytes.len() {
            let error = decompress(*compression, &bytes[..cut], 20_000).unwrap_err();
            assert!(
                matches!(error.problem, Problem::Truncated(_)),
                "{compression:?} at {cut}: {}",
                error.words()
            );
        }
        let error = decompress(*compression, &[&bytes, b"GARBAGE".as_slice()].concat(), 20_000).unwrap_err();
        assert!(error.exceeds().is_none(), "{compression:?}: {}", error.words());
    }
}

#[test]
fn a_bomb_stops_at_its_ratio() {
    let zeros = packed(Compression::Zstd, &vec![0; 70 << 20]);
    let limits = Limits { ratio: Some(200), ..Limits::ORDINARY };
    let mut decoder = Decoder::new(Compression::Zstd, zeros.as_slice(), &limits).unwrap();
    let error = std::io::copy(&mut decoder, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "it decompresses to more than 200 times its size");
    // And gives nothing more.
    assert!(decoder.read(&mut [0; 10]).is_err());
    let small = packed(Compression::Zstd, &vec![0; 1 << 20]);
    let mut decoder = Decoder::new(Compression::Zstd, small.as_slice(), &limits).unwrap();
    assert_eq!(std::io::copy(&mut decoder, &mut std::io::sink()).unwrap(), 1 << 20);
}

#[test]
fn a_dictionary_or_a_window_takes_no_more_memory_than_it_may() {
    // Headers as xz --lzma2=dict=1536MiB and zstd --long=31 write them; the content is small.
    let options = |dictionary| {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dictionary);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream =
            liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).unwrap();
        let mut out = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        out.write_all(&[7; 1000]).unwrap();
        out.finish().unwrap()
    };
    let window = |log: u32| {
        let mut out = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        out.window_log(log).unwrap();
        out.include_contentsize(false).unwrap();
        out.write_all(&[7; 1000]).unwrap();
        out.finish().unwrap()
    };
    let read = |compression, bytes: &[u8]| {
        let limits = Limits { memory: 16 << 20, ..Limits::ORDINARY };
        let mut decoder = Decoder::new(compression, bytes, &limits).unwrap();
        std::io::copy(&mut decoder, &mut std::io::sink())
    };
    for (compression, small, large) in
        [(Compression::Xz, options(4 << 20), options(64 << 20)), (Compression::Zstd, window(23), window(27))]
    {
        assert_eq!(read(compression, &small).unwrap(), 1000);
        let error = read(compression, &large).unwrap_err();
        assert_eq!(error.to_string(), "decompressing it takes more than 16777216 bytes of memory");
    }
}

type Member = (&'static str, &'static [u8]);

fn ar(members: &[Member]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

#[test]
fn a_package_has_its_members_in_order_and_nothing_else() {
    let (version, control, data): (Member, Member, Member) =
        (("debian-binary", b"2.0\n"), ("control.tar.xz", b"c"), ("data.tar.xz", b"data"));
    let signature = ("_gpgorigin", b"s".as_slice());
    let find = |bytes: &[u8]| deb::data(&mut &*bytes, bytes.len() as u64);
    for members in [vec![version, control, data], vec![version, control, signature, data, signature]] {
        let bytes = ar(&members);
        let span = find(&bytes).unwrap();
        let start = usize::try_from(span.offset).unwrap();
        assert_eq!(&bytes[start..start + 4], b"data");
    }
    for (members, words) in [
        (vec![], "no debian-binary"),
        (vec![control, data], "no debian-binary"),
        (vec![("debian-binary.gz", b"2.0\n".as_slice()), control, data], "no debian-binary"),
        (vec![("debian-binary", b"3.0\n".as_slice()), control, data], "the format version is not 2"),
        (vec![("debian-binary", [b'2'; 100].as_slice()), control, data], "the format version is too long"),
        (vec![version, data], "no control.tar"),
        (vec![version, signature, control, data], "no control.tar"),
        (vec![version, control], "no data.tar"),
        (vec![version, control, ("x", b"".as_slice()), data], "no data.tar"),
        (vec![version, control, data, data], "follows data.tar"),
        (vec![version, control, data, ("control.tar", b"".as_slice())], "follows data.tar"),
        ([vec![version, control], vec![signature; 40]].concat(), "too many members"),
    ] {
        let error = find(&ar(&members)).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let whole = ar(&[version, control, data]);
    for cut in 0..whole.len() {
        assert!(find(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(find(&[whole, b"!".to_vec()].concat()).is_err());
}
