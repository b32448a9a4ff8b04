//! The headers of `ar` archives, as far as `.deb` files (deb(5)) and static libraries need them.

/// What every `ar` archive begins with.
pub const MAGIC: &[u8; 8] = b"!<arch>\n";
/// The length of a member's header.
pub const HEADER: usize = 60;

/// A member's header.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// The name as written, without its padding; GNU's trailing `/` stays.
    pub name: String,
    /// The length of the content, without the byte that pads it to an even offset.
    pub size: u64,
}

impl Member {
    /// Parses a header, or says what is wrong with it.
    pub fn parse(header: &[u8; HEADER]) -> Result<Self, &'static str> {
        if header[58..] != *b"`\n" {
            return Err("a member's header does not end with a backquote and a newline");
        }
        let text = |range: std::ops::Range<usize>| str::from_utf8(&header[range]).map(str::trim_end);
        let name = text(0..16).map_err(|_| "a member's name is not text")?;
        let size = text(48..58).map_err(|_| "a member's size is not a number")?;
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
            return Err("a member's size is not a number");
        }
        let size = size.parse().map_err(|_| "a member's size is not a number")?;
        Ok(Self { name: name.to_owned(), size })
    }

    /// The offset of the next header, if this member's content begins at `content`.
    pub fn next(&self, content: u64) -> u64 {
        content + self.size + self.size % 2
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_is_read_as_ar_writes_it() {
        let header = b"data.tar.xz     1700000000  0     0     100644  12345     `\n";
        let member = Member::parse(header).unwrap();
        assert_eq!(member, Member { name: "data.tar.xz".into(), size: 12345 });
        assert_eq!(member.next(60), 60 + 12346);
    }

    #[test]
    fn a_bad_header_is_refused() {
        assert!(Member::parse(b"data.tar.xz     1700000000  0     0     100644  12345     \n\n").is_err());
        assert!(Member::parse(b"data.tar.xz     1700000000  0     0     100644  -1        `\n").is_err());
        assert!(Member::parse(b"data.tar.xz     1700000000  0     0     100644            `\n").is_err());
    }
}
