//! Which bytes of a blob: a pull's `Range` (RFC 9110, section 14) and a push's `Content-Range` (distribution
//! specification, "Pushing a blob in chunks").

/// What a pull asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no range was given, or one that may be ignored.
    All,
    /// From `first` to `last`, both within the blob.
    Part { first: u64, last: u64 },
    /// A range without a byte of the blob.
    Nothing,
}

impl Wanted {
    /// Reads a `Range` header. What is not one range of bytes is ignored, as RFC 9110 allows.
    pub(crate) fn of(header: Option<&str>, size: u64) -> Self {
        header.and_then(|text| Self::of_bytes(text.strip_prefix("bytes=")?.trim(), size)).unwrap_or(Self::All)
    }

    fn of_bytes(spec: &str, size: u64) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        if first.is_empty() {
            let suffix = number(last)?.min(size);
            return Some(match suffix {
                0 => Self::Nothing,
                _ => Self::Part { first: size - suffix, last: size - 1 },
            });
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if last < first {
            return None;
        }
        Some(if first >= size { Self::Nothing } else { Self::Part { first, last: last.min(size - 1) } })
    }
}

/// `first-last` of a piece that is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) first: u64,
    pub(crate) length: u64,
}

impl Piece {
    pub(crate) fn of(header: &str) -> Option<Self> {
        let (first, last) = header.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        Some(Self { first, length: last.checked_sub(first)?.checked_add(1)? })
    }
}

/// The `Range` of an upload: what it holds. An empty one says `0-0`, for lack of a way to say nothing.
pub(crate) fn held(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_range_is_cut_to_the_blob() {
        for (text, wanted) in [
            ("bytes=0-0", Wanted::Part { first: 0, last: 0 }),
            ("bytes=2-", Wanted::Part { first: 2, last: 9 }),
            ("bytes=2-99", Wanted::Part { first: 2, last: 9 }),
            ("bytes=-3", Wanted::Part { first: 7, last: 9 }),
            ("bytes=-99", Wanted::Part { first: 0, last: 9 }),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            assert_eq!(Wanted::of(Some(text), 10), wanted, "{text}");
        }
        assert_eq!(Wanted::of(None, 10), Wanted::All);
        assert_eq!(Wanted::of(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    #[test]
    fn a_piece_has_a_first_and_a_last_byte() {
        assert_eq!(Piece::of("0-0"), Some(Piece { first: 0, length: 1 }));
        assert_eq!(Piece::of("5-9"), Some(Piece { first: 5, length: 5 }));
        for bad in ["", "5", "5-", "-5", "9-5", "a-b", "bytes 0-1/2", "0-18446744073709551615"] {
            assert_eq!(Piece::of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_always_within(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in 0u64..1000) {
            if let Wanted::Part { first, last } = Wanted::of(Some(&text), size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn headers_from_outside_never_panic(text in ".{0,40}") {
            let _ = (Wanted::of(Some(&text), 5), Piece::of(&text));
        }
    }
}
