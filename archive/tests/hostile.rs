//! What attackers send, one line each: the archive, and the words that refuse it.
#![allow(clippy::unwrap_used, missing_docs)]

mod hand;

use hab_archive::{Error, Kind, Limits, Tar};
use hand::{END, archive, entry, file, global, header, long, pax};

/// Everything an archive says, or why it does not.
fn read(bytes: &[u8], limits: &Limits) -> Result<Vec<(String, Kind, Vec<u8>)>, Error> {
    let mut tar = Tar::new(bytes, limits);
    let mut found = Vec::new();
    while let Some(entry) = tar.next_entry()? {
        let content = tar.whole(limits.entry)?;
        assert_eq!(entry.size, content.len() as u64);
        let start = usize::try_from(entry.offset).unwrap();
        assert_eq!(bytes[start..start + content.len()], content);
        found.push((String::from_utf8_lossy(&entry.path).into_owned(), entry.kind, content));
    }
    tar.finish()?;
    Ok(found)
}

const SMALL: Limits = Limits {
    name: 500,
    link: 300,
    depth: 10,
    extension: 2000,
    entries: 5,
    entry: 10_000,
    total: 15_000,
    decoded: 1 << 20,
    ratio: None,
    memory: 8 << 20,
};

#[track_caller]
fn refused(what: &str, bytes: &[u8], words: &[&str]) {
    let said = match read(bytes, &SMALL) {
        Err(error) => error.words(),
        Ok(found) => panic!("{what} was read: {found:?}"),
    };
    for word in words {
        assert!(said.contains(word), "{what}: no {word:?} in {said:?}");
    }
}

#[test]
fn a_number_that_lies_is_refused() {
    let sized = |size: &[u8]| archive(&[header("a", b'0', 0).size(size).bytes()]);
    let absurd = [&[0x80][..], &[0xff; 11]].concat();
    let exabyte = [&[0x80, 0, 0, 0][..], &(1_u64 << 60).to_be_bytes()].concat();
    for (what, size, words) in [
        ("base 256, huge", absurd.as_slice(), "the size is more than 2^60 bytes"),
        ("base 256, negative", &[0xff; 12], "the size is negative"),
        ("2^60", &exabyte, "larger than 10000 bytes"),
        ("8 GiB that are not there", b"77777777777\0", "larger than 10000 bytes"),
        ("letters", b"abcdefghijk\0", "the size is not a number"),
        ("a minus", b"-0000000001\0", "the size is not a number"),
        ("a plus", b"+0000000001\0", "the size is not a number"),
        ("nothing", b"\0\0\0\0\0\0\0\0\0\0\0\0", "the size is not a number"),
        ("digits after its end", b"0000001\x00001\0", "the size is not a number"),
        ("more than there is", b"00000005000\0", "ends in the middle of an entry's content"),
    ] {
        refused(what, &sized(size), &["at byte ", words]);
    }
    for (what, change) in [
        ("the mode is not a number", (|h| h.mode = b"rw-r--r-".to_vec()) as fn(&mut hand::Header)),
        ("the time is not a number", |h| h.mtime = b"yesterday\0\0\0".to_vec()),
        ("no known tar format", |h| h.magic = b"rats!\x0000".to_vec()),
    ] {
        let mut odd = header("a", b'0', 0);
        change(&mut odd);
        refused(what, &archive(&[odd.bytes()]), &[what]);
    }
    let mut flipped = archive(&[file("a", "x")]);
    flipped[0] ^= 1;
    refused("a flipped byte", &flipped, &["at byte 0: the header's checksum does not match"]);
}

#[test]
fn a_pax_header_that_can_be_read_in_two_ways_is_refused() {
    let with = |records: &[(&str, &[u8])]| archive(&[pax(records), file("a", "x")]);
    for (what, bytes, words) in [
        ("another size", with(&[("size", b"5")]), "two different sizes"),
        ("a negative size", with(&[("size", b"-1")]), "a pax size is not a number"),
        ("a size with a plus", with(&[("size", b"+1")]), "a pax size is not a number"),
        ("an empty size", with(&[("size", b"")]), "a pax size is not a number"),
        ("a huge size", with(&[("size", b"9999999999999")]), "larger than 10000 bytes"),
        ("a time out of range", with(&[("mtime", b"99999999999999999999")]), "a pax time is not a number"),
        ("a NUL", with(&[("path", b"a\0/../../x")]), "has a NUL byte"),
        ("an empty path", with(&[("path", b"")]), "is empty"),
        ("an empty link", with(&[("linkpath", b"")]), "is empty"),
        ("twice", with(&[("path", b"b"), ("path", b"c")]), "has the same key twice"),
        ("two sizes", with(&[("size", b"1"), ("size", b"1")]), "has the same key twice"),
        ("sparse", with(&[("GNU.sparse.major", b"1")]), "sparse"),
        ("star's sparse", with(&[("SCHILY.realsize", b"100")]), "sparse"),
        ("volumes", with(&[("GNU.volume.filename", b"x")]), "several volumes"),
        ("a character set", with(&[("hdrcharset", b"EBCDIC")]), "character set"),
        (
            "two headers",
            archive(&[pax(&[("path", b"b")]), pax(&[("path", b"c")]), file("a", "x")]),
            "two pax headers",
        ),
        (
            "a global path",
            archive(&[global(&[("path", b"../x")]), file("a", "x")]),
            "a global header names a path",
        ),
        (
            "a global time",
            archive(&[global(&[("mtime", b"1")]), file("a", "x")]),
            "a global header names a path",
        ),
        (
            "a global header between",
            archive(&[pax(&[("path", b"b")]), global(&[("comment", b"c")]), file("a", "x")]),
            "stands between",
        ),
        ("nothing after it", archive(&[pax(&[("path", b"b")])]), "no entry follows"),
        ("too long", with(&[("comment", &[b'c'; 3000])]), "the pax header is larger than 2000 bytes"),
        ("a long path", with(&[("path", &[b'c'; 600])]), "the name is longer than 500 bytes"),
        ("a long link", with(&[("linkpath", &[b'c'; 400])]), "target is longer than 300 bytes"),
    ] {
        refused(what, &bytes, &["at byte ", words]);
    }
    for record in [
        "99999999999 path=a\n",
        "0 path=a\n",
        "9 path=aa\n",
        "09 path=a\n",
        "+9 path=a\n",
        " path=a\n",
        "9 path=a",
        "x",
        "9 patha \n",
        "5 =a\n",
        "99999999999999999999999 path=a\n",
        "9 path=a\n\0\0\0",
    ] {
        refused(
            record,
            &archive(&[entry("pax", b'x', record), file("a", "x")]),
            &["a pax record is malformed"],
        );
    }
}

#[test]
fn a_long_name_is_never_longer_than_its_limit_and_never_read_in_two_ways() {
    let huge = [&[0x80, 0, 0, 0][..], &(1_u64 << 34).to_be_bytes()].concat();
    let claims = |kind| archive(&[header("././@LongLink", kind, 0).size(&huge).bytes(), file("a", "x")]);
    for (what, bytes, words) in [
        (
            "100 kB",
            archive(&[long(b'L', vec![b'a'; 100_000]), file("a", "x")]),
            "the name is longer than 500 bytes",
        ),
        (
            "one too many",
            archive(&[long(b'L', [b'a'; 501]), file("a", "x")]),
            "the name is longer than 500 bytes",
        ),
        ("16 GiB that are not there", claims(b'L'), "the name is longer than 500 bytes"),
        ("a link of 16 GiB", claims(b'K'), "target is longer than 300 bytes"),
        ("a pax header of 16 GiB", claims(b'x'), "the pax header is larger than 2000 bytes"),
        ("a global one", claims(b'g'), "the pax header is larger than 2000 bytes"),
        ("no end", archive(&[entry("l", b'L', "abc"), file("a", "x")]), "does not end with a NUL byte"),
        ("no bytes", archive(&[entry("l", b'L', ""), file("a", "x")]), "does not end with a NUL byte"),
        ("empty", archive(&[long(b'L', ""), file("a", "x")]), "it has no name"),
        (
            "something behind its end",
            archive(&[entry("l", b'L', "a\0/../x\0"), file("a", "x")]),
            "bytes follow the end",
        ),
        ("two of them", archive(&[long(b'L', "b"), long(b'L', "b"), file("a", "x")]), "two long names"),
        ("two links", archive(&[long(b'K', "b"), long(b'K', "b"), file("a", "x")]), "two long links"),
        (
            "pax says another",
            archive(&[long(b'L', "b"), pax(&[("path", b"c")]), file("a", "x")]),
            "two different names",
        ),
        (
            "pax says another target",
            archive(&[long(b'K', "b"), pax(&[("linkpath", b"c")]), header("a", b'2', 0).link("d").bytes()]),
            "two different link targets",
        ),
        ("nothing after it", archive(&[long(b'L', "b")]), "no entry follows"),
        ("the stream's end after it", long(b'L', "b"), "before its end marker"),
        (
            "many folders",
            archive(&[long(b'L', "d/".repeat(11)), header("a", b'5', 0).bytes()]),
            "more than 10 folders deep",
        ),
    ] {
        refused(what, &bytes, &["at byte ", words]);
    }
}

#[test]
fn an_entry_of_a_kind_that_others_read_otherwise_is_refused() {
    for (kind, words) in [
        (b'S', "sparse"),
        (b'M', "several volumes"),
        (b'V', "volume's label"),
        (b'D', "incremental backup"),
        (b'N', "old kind"),
        (b'X', "old kind"),
        (b'A', "unknown type"),
        (b'Z', "unknown type"),
        (0xff, "unknown type"),
    ] {
        let solaris = entry("m", kind, "30 path=evil-0.1.0/../../x\n");
        refused(words, &archive(&[solaris, file("a", "x")]), &["entry \"m\": it is", words]);
    }
    for kind in [b'1', b'2', b'5', b'3', b'4', b'6'] {
        let full = [header("d", kind, 600).link("t").bytes(), vec![b'x'; 1024]].concat();
        refused("content", &archive(&[full]), &["entry \"d\": it has content but is not a file"]);
    }
    refused("a folder's name", &archive(&[file("d/", "x")]), &["it has content but is not a file"]);
    refused("no target", &archive(&[header("l", b'2', 0).bytes()]), &["a link without a target"]);
    refused("no target", &archive(&[header("l", b'1', 0).bytes()]), &["a link without a target"]);
    refused("no name", &archive(&[file("", "x")]), &["it has no name"]);
}

#[test]
fn an_archive_without_an_end_or_with_something_behind_it_is_refused() {
    let whole = file("a", [b'x'; 5000]);
    refused("empty", b"", &["ends in the middle of a header"]);
    refused("no end marker", &whole, &["before its end marker"]);
    refused("cut in the content", &whole[..2000], &["entry \"a\"", "an entry's content"]);
    refused("cut in a header", &whole[..100], &["a header"]);
    refused("cut in the padding", &whole[..whole.len() - 1], &["an entry's padding"]);
    for behind in [b"GARBAGE".to_vec(), file("b", "y"), [END.to_vec(), file("b", "y")].concat()] {
        let bytes = [archive(&[file("a", "x")]), behind].concat();
        refused("behind the end", &bytes, &["bytes follow the archive's end"]);
    }
    let lone = [file("a", "x"), vec![0; 512], file("b", "y")].concat();
    refused("a lone block of zeros", &lone, &["bytes follow the archive's end"]);
    // One block of zeros at the end of the stream is enough, and so are many.
    for zeros in [512, 1024, 10_240] {
        assert_eq!(read(&[file("a", "x"), vec![0; zeros]].concat(), &SMALL).unwrap().len(), 1);
    }
}

#[test]
fn counts_and_sums_have_limits() {
    let many: Vec<_> = (0..6).map(|n| file(n.to_string(), "")).collect();
    refused("six entries", &archive(&many), &["there are more than 5 entries"]);
    let globals = vec![global(&[("comment", b"c")]); 6];
    refused("six global headers", &archive(&globals), &["there are more than 5 entries"]);
    refused("a large one", &archive(&[file("a", [0; 10_001])]), &["entry \"a\"", "larger than 10000 bytes"]);
    refused(
        "large together",
        &archive(&[file("a", [0; 8000]), file("b", [0; 8000])]),
        &["at byte 8704, entry \"b\"", "all entries together are larger than 15000 bytes"],
    );
    assert_eq!(read(&archive(&[file("a", [0; 10_000]), file("b", [0; 5000])]), &SMALL).unwrap().len(), 2);
}

#[test]
fn a_name_in_an_error_does_nothing_to_a_terminal() {
    let name = b"a\n[ 0:00] ok\x1b[31m\xe2\x80\xae";
    let said =
        read(&archive(&[pax(&[("path", name)]), entry("a", b'S', "")]), &SMALL).unwrap_err().to_string();
    assert_eq!(
        said,
        "at byte 0, entry \"a\\n[ 0:00] ok\\u{1b}[31m\\u{202e}\": it is a sparse file, which is not supported"
    );
}

#[test]
fn what_all_programs_read_alike_is_read() {
    let mut prefixed = header("f", b'0', 1);
    prefixed.prefix = b"p/q".to_vec();
    let mut old = header("old", 0, 0);
    old.magic = vec![0; 8];
    let mut gnu = header("gnu", b'0', 0);
    (gnu.magic, gnu.prefix) = (b"ustar  \0".to_vec(), b"00000000000\0".to_vec());
    let mut early = header("early", b'7', 0);
    early.mtime = vec![0xff; 12];
    let bytes = archive(&[
        [prefixed.bytes(), hand::padded(b"x".to_vec())].concat(),
        old.bytes(),
        gnu.bytes(),
        early.bytes(),
    ]);
    let names: Vec<_> = read(&bytes, &SMALL).unwrap().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["p/q/f", "old", "gnu", "early"]);
    let target = "t".repeat(200);
    let bytes = archive(&[
        global(&[("comment", b"a commit")]),
        [long(b'K', &target), long(b'L', "long"), header("cut", b'2', 0).link("cut").bytes()].concat(),
        [pax(&[("path", b"pax"), ("mtime", b"-5.25"), ("size", b"1")]), file("cut", "y")].concat(),
        entry("d/", b'0', ""),
    ]);
    let found = read(&bytes, &SMALL).unwrap();
    assert_eq!(found[0].1, Kind::Link(target.into_bytes()));
    assert_eq!((found[1].0.as_str(), found[1].2.as_slice()), ("pax", b"y".as_slice()));
    assert_eq!(found[2].1, Kind::Directory);
}

#[test]
fn what_octal_digits_cannot_say_a_pax_record_says_alone() {
    let limits = Limits { entry: 1 << 40, total: 1 << 40, ..SMALL };
    let size = (9_u64 << 30).to_string();
    let bytes = [pax(&[("size", size.as_bytes())]), header("a", b'0', 0).bytes()].concat();
    let mut tar = Tar::new(bytes.as_slice(), &limits);
    assert_eq!(tar.next_entry().unwrap().unwrap().size, 9 << 30);
    assert!(tar.next_entry().unwrap_err().to_string().contains("an entry's content"));
}
