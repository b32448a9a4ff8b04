//! The 512 bytes of a header (POSIX.1-2017, "ustar Interchange Format"; GNU's manual, "Basic Tar Format").

/// The size of a header; content is padded to a multiple of it.
pub(super) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The format before POSIX: no magic and no prefix.
    Old,
    Ustar,
    /// GNU's format; it has times where ustar has its prefix.
    Gnu,
}

impl Header {
    pub(super) fn new(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        let sum = |bytes: &[u8]| bytes.iter().map(|b| i128::from(*b)).sum::<i128>();
        // The sum counts the checksum's own field as spaces.
        let expected = sum(&block[..148]) + 8 * i128::from(b' ') + sum(&block[156..]);
        if octal(&block[148..156]) != Some(expected) {
            return Err("the header's checksum does not match");
        }
        let format = match &block[257..265] {
            b"ustar\x0000" => Format::Ustar,
            b"ustar  \0" => Format::Gnu,
            [0, 0, 0, 0, 0, 0, 0, 0] => Format::Old,
            _ => return Err("the header's magic is of no known tar format"),
        };
        Ok(Self { block: *block, format })
    }

    /// The byte that gives the entry's type.
    pub(super) fn kind(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn size(&self) -> Result<u64, &'static str> {
        let size = number(&self.block[124..136]).ok_or("the size is not a number")?;
        if size < 0 {
            return Err("the size is negative");
        }
        // No real size comes near this, and it keeps sums from overflowing.
        u64::try_from(size).ok().filter(|size| *size <= 1 << 60).ok_or("the size is more than 2^60 bytes")
    }

    /// The largest size that the field's twelve bytes can hold in octal.
    pub(super) const LARGEST: u64 = 0o77_777_777_777;

    pub(super) fn mode(&self) -> Result<u32, &'static str> {
        let mode = blank_or_number(&self.block[100..108]).and_then(|mode| u32::try_from(mode).ok());
        mode.ok_or("the mode is not a number")
    }

    /// Seconds since 1970; negative before.
    pub(super) fn mtime(&self) -> Result<i64, &'static str> {
        let time = blank_or_number(&self.block[136..148]).and_then(|time| i64::try_from(time).ok());
        time.ok_or("the time is not a number")
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = if self.format == Format::Ustar { text(&self.block[345..500]) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.block[157..257])
    }
}

/// The field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

fn blank_or_number(field: &[u8]) -> Option<i128> {
    if field.iter().all(|b| matches!(b, 0 | b' ')) { Some(0) } else { number(field) }
}

/// Octal digits, or GNU's base 256: the first bit set, then two's complement.
fn number(field: &[u8]) -> Option<i128> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let sign = if first & 0x40 == 0 { 0 } else { -1 };
    // A field has at most twelve bytes, so the value at most 95 bits.
    Some(rest.iter().fold(sign << 7 | i128::from(first & 0x7f), |value, b| value << 8 | i128::from(*b)))
}

/// Spaces, octal digits, and then only spaces and NULs.
fn octal(field: &[u8]) -> Option<i128> {
    let start = field.iter().position(|b| *b != b' ')?;
    let digits = field[start..].iter().take_while(|b| matches!(b, b'0'..=b'7')).count();
    let (digits, end) = field[start..].split_at(digits);
    if digits.is_empty() || end.iter().any(|b| !matches!(b, 0 | b' ')) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value << 3 | i128::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_spellings_and_no_third() {
        for (field, expected) in [
            (b"00000000017\0".as_slice(), Some(15)),
            (b"         17 ", Some(15)),
            (b"777777777777", Some((1 << 36) - 1)),
            (b"17\0\0", Some(15)),
            (b"17\0 1", None),
            (b"17x", None),
            (b"-1\0", None),
            (b"+1\0", None),
            (b"8\0", None),
            (b"   ", None),
            (b"\0\0", None),
            (b"\x80\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\x01", Some(1)),
            (b"\xc0\0", Some(-(1 << 14))),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
        assert_eq!(blank_or_number(b" \0\0"), Some(0));
    }
}
