//! Finds where signatures begin and end in bytes from outside (RFC 9580, sections 6.2 and 7; PROTOCOL.sshsig).
//!
//! Parsers skip text around armor. A judge must not: text that nobody reads is a place to hide something.

/// The most bytes of all signatures of one file or object; those of 30 builders over one file have 25,000.
const LIMIT: usize = 1 << 20;

/// The most signature blocks; the signed bytes are hashed once for each.
const COUNT: usize = 128;

const PGP: (&str, &str) = ("-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----");
const SSH: (&str, &str) = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----");
/// What opentimestamps-client adds below a git signature: a proof of time, which is not used here.
const TIMESTAMP: (&str, &str) =
    ("-----BEGIN OPENTIMESTAMPS GIT TIMESTAMP-----", "-----END OPENTIMESTAMPS GIT TIMESTAMP-----");
const CLEARSIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// One signature block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block<'a> {
    /// OpenPGP, armored or binary; may hold several signatures.
    OpenPgp(&'a [u8]),
    /// SSH.
    Ssh(&'a [u8]),
}

impl<'a> Block<'a> {
    /// The block's bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::OpenPgp(bytes) | Self::Ssh(bytes) => bytes,
        }
    }
}

/// Splits bytes into signature blocks. Only white space may stand between them. A timestamp may follow a signature and
/// is left out.
pub(crate) fn split(bytes: &[u8]) -> Result<Vec<Block<'_>>, String> {
    if bytes.len() > LIMIT {
        return Err(format!("its signatures have {} bytes, more than {LIMIT}", bytes.len()));
    }
    // Every binary OpenPGP packet begins with a byte whose highest bit is set, and no text does.
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(vec![Block::OpenPgp(bytes)]);
    }
    let mut found = Vec::new();
    let mut rest = bytes.trim_ascii_start();
    while !rest.is_empty() {
        let (block, after) = if rest.starts_with(PGP.0.as_bytes()) {
            let (block, after) = armored(rest, PGP)?;
            (Block::OpenPgp(block), after)
        } else if rest.starts_with(SSH.0.as_bytes()) {
            let (block, after) = armored(rest, SSH)?;
            (Block::Ssh(block), after)
        } else if rest.starts_with(TIMESTAMP.0.as_bytes()) && !found.is_empty() {
            rest = armored(rest, TIMESTAMP)?.1.trim_ascii_start();
            continue;
        } else {
            return Err(format!("{} stands beside a signature", excerpt(rest)));
        };
        if found.len() == COUNT {
            return Err(format!("there are more than {COUNT} signatures"));
        }
        found.push(block);
        rest = after.trim_ascii_start();
    }
    Ok(found)
}

/// The clearsigned message that `bytes` consist of; `None` if they do not begin as one. Anything after it is an error.
pub(crate) fn clearsigned(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    if !bytes.starts_with(CLEARSIGNED) {
        return Ok(None);
    }
    let (message, after) = first_clearsigned(bytes)?;
    if !after.trim_ascii().is_empty() {
        return Err(format!("{} stands after the signature", excerpt(after.trim_ascii())));
    }
    Ok(Some(message))
}

/// The clearsigned messages that `bytes` consist of, one after the other; empty if they do not begin with one. Anything
/// else after them is an error.
pub(crate) fn clearsigned_each(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while rest.starts_with(CLEARSIGNED) {
        if found.len() == COUNT {
            return Err(format!("there are more than {COUNT} signed texts"));
        }
        let (message, after) = first_clearsigned(rest)?;
        found.push(message);
        rest = after.trim_ascii_start();
    }
    if found.is_empty() || rest.is_empty() {
        return Ok(found);
    }
    Err(format!("{} stands after the signature", excerpt(rest)))
}

/// The clearsigned message at the beginning of `bytes`, and the bytes after it.
fn first_clearsigned(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    // A line of signed text that begins with a dash is escaped, so the first such line belongs to the signature.
    let at = line(bytes, PGP.0.as_bytes()).ok_or("its signature is missing")?;
    let (block, after) = armored(&bytes[at..], PGP)?;
    if block.len() > LIMIT {
        return Err(format!("its signatures have {} bytes, more than {LIMIT}", block.len()));
    }
    // Some parsers would take a second beginning as text, and others as another message.
    let begins = line(&bytes[CLEARSIGNED.len()..at], CLEARSIGNED);
    if begins.is_some() {
        return Err("a signed text begins within another".to_owned());
    }
    Ok((&bytes[..at + block.len()], after))
}

/// The offset of a git object's signature: the last line that is a signature's first line, as in git.
pub(crate) fn last(object: &[u8]) -> Option<usize> {
    [PGP.0, SSH.0].into_iter().filter_map(|first| last_line(object, first.as_bytes())).max()
}

/// The block at the beginning of `bytes`, and the bytes after it.
fn armored<'a>(bytes: &'a [u8], (first, last): (&str, &str)) -> Result<(&'a [u8], &'a [u8]), String> {
    let end = line(bytes, last.as_bytes()).ok_or_else(|| format!("a signature does not end with {last}"))?;
    let (block, after) = bytes.split_at(end + last.len());
    if !after.is_empty() && !after.starts_with(b"\n") && !after.starts_with(b"\r\n") {
        return Err(format!("{} stands after {last}", excerpt(after)));
    }
    if line(&block[first.len()..], first.as_bytes()).is_some() {
        return Err("a signature begins within another".to_owned());
    }
    Ok((block, after))
}

/// The offset of the first line that begins with `words`.
fn line(bytes: &[u8], words: &[u8]) -> Option<usize> {
    if bytes.starts_with(words) {
        return Some(0);
    }
    let mut at = 0;
    while let Some(next) = memchr(&bytes[at..]) {
        at += next + 1;
        if bytes[at..].starts_with(words) {
            return Some(at);
        }
    }
    None
}

fn last_line(bytes: &[u8], words: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    while let Some(before) = bytes[..end].iter().rposition(|b| *b == b'\n') {
        if bytes[before + 1..].starts_with(words) {
            return Some(before + 1);
        }
        end = before;
    }
    bytes.starts_with(words).then_some(0)
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

fn excerpt(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(30)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN PGP SIGNATURE-----\n\nabcd\n-----END PGP SIGNATURE-----";

    #[test]
    fn blocks_are_split_and_nothing_may_stand_beside_them() {
        let two = format!("{ONE}\n\n{}\n", ONE.replace("PGP", "SSH"));
        let blocks = split(two.as_bytes()).unwrap();
        assert!(matches!(blocks[..], [Block::OpenPgp(a), Block::Ssh(_)] if a == ONE.as_bytes()));
        let stamp =
            "-----BEGIN OPENTIMESTAMPS GIT TIMESTAMP-----\nx\n-----END OPENTIMESTAMPS GIT TIMESTAMP-----\n";
        assert_eq!(split(format!("{ONE}\n{stamp}").as_bytes()).unwrap(), [Block::OpenPgp(ONE.as_bytes())]);
        for bad in [
            stamp.to_owned(),
            format!("{ONE}\n{}", stamp.replace("-----END", "")),
            format!("{ONE}\nmore"),
            format!("more\n{ONE}"),
            format!("{ONE} more"),
            ONE.replace("abcd", ONE),
            ONE.replace("-----END PGP SIGNATURE-----", ""),
            "x".repeat(LIMIT + 1),
        ] {
            assert!(split(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(90)]);
        }
        assert!(split(b"").unwrap().is_empty());
    }

    #[test]
    fn a_clearsigned_message_ends_with_its_signature() {
        let text = format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n{ONE}\n");
        assert_eq!(clearsigned(text.as_bytes()).unwrap().unwrap(), text.trim_end().as_bytes());
        assert!(clearsigned(format!("{text}more\n").as_bytes()).is_err());
        assert!(clearsigned(text.replace(ONE, "").as_bytes()).is_err());
        assert_eq!(clearsigned(b"plain").unwrap(), None);
    }
}
