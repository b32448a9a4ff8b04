//! Byte ranges of a blob: the `Range` of a pull (RFC 9110, section 14) and the `Content-Range` of a push (distribution
//! specification, "Pushing a blob in chunks").

/// The most ranges in one request; a request for more gets the whole blob. Clients that pull only the missing parts of
/// a layer ask for up to a thousand.
const MOST: usize = 4096;

/// A range of bytes: both ends are included, and both are within the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Part {
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }

    /// The `Content-Range` header of this part of a blob of `size` bytes.
    pub(crate) fn said(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.last)
    }
}

/// The bytes that a pull asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The whole blob: the request has no range, or one that may be ignored.
    All,
    /// One part.
    One(Part),
    /// Several parts. As long as they have together no more bytes than the blob, they stay in the order of the request
    /// and unmerged, because some clients match them one by one with their ranges. Otherwise they are merged, in the
    /// blob's order.
    Several(Vec<Part>),
    /// The range has no byte of the blob.
    Nothing,
}

impl Wanted {
    /// Parses a `Range` header. Ignores a header that is not a set of byte ranges, as RFC 9110 allows. An answer never
    /// has more bytes than the blob: ranges that together ask for more are merged.
    pub(crate) fn of(header: Option<&str>, size: u64) -> Self {
        header.and_then(|text| Self::of_bytes(text.strip_prefix("bytes=")?, size)).unwrap_or(Self::All)
    }

    fn of_bytes(set: &str, size: u64) -> Option<Self> {
        let (mut parts, mut count) = (Vec::new(), 0);
        // A list may have empty elements (RFC 9110, section 5.6.1.2).
        for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
            parts.extend(part(spec, size).ok()?);
            count += 1;
            if count > MOST {
                return None;
            }
        }
        if count == 0 {
            return None;
        }
        // The sum may overflow.
        let total = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.length()));
        if parts.len() > 1 && total.is_none_or(|total| total > size) {
            parts = merged(parts);
            if parts.iter().map(|part| part.length()).sum::<u64>() == size {
                return None;
            }
        }
        Some(match parts.as_slice() {
            [] => Self::Nothing,
            [one] => Self::One(*one),
            _ => Self::Several(parts),
        })
    }
}

/// Merges parts that touch or overlap, so that every byte is in one part only.
fn merged(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.first);
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match all.last_mut() {
            Some(before) if part.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(part.last);
            }
            _ => all.push(part),
        }
    }
    all
}

/// The text is not a range.
struct NoRange;

/// Parses one range; `None` if it has no byte of the blob.
fn part(spec: &str, size: u64) -> Result<Option<Part>, NoRange> {
    let (first, last) = spec.split_once('-').ok_or(NoRange)?;
    let digits = |text| number(text).ok_or(NoRange);
    if first.is_empty() {
        if last.is_empty() {
            return Err(NoRange);
        }
        let suffix = digits(last)?.min(size);
        return Ok((suffix > 0).then(|| Part { first: size - suffix, last: size - 1 }));
    }
    let first = digits(first)?;
    let last = if last.is_empty() { u64::MAX } else { digits(last)? };
    Ok((first <= last && first < size).then(|| Part { first, last: last.min(size - 1) }))
}

/// The `first-last` of a chunk that a client pushes.
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

/// The `Range` header of an upload: the bytes received so far. An empty upload says `0-0`, because the header cannot
/// say "none".
pub(crate) fn held(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

/// Parses digits only; `parse` would accept a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(first: u64, last: u64) -> Wanted {
        Wanted::One(Part { first, last })
    }

    #[test]
    fn one_range_is_cut_to_the_blob() {
        for (text, wanted) in [
            ("bytes=0-0", one(0, 0)),
            ("bytes=2-", one(2, 9)),
            ("bytes=2-99", one(2, 9)),
            ("bytes=-3", one(7, 9)),
            ("bytes=-99", one(0, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Nothing),
            ("bytes=+1-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            assert_eq!(Wanted::of(Some(text), 10), wanted, "{text}");
        }
        assert_eq!(Wanted::of(None, 10), Wanted::All);
        // The lengths of these two overflow when they are added, as the fuzzer found.
        assert_eq!(Wanted::of(Some("bytes=9-,1-"), u64::MAX - 1), one(1, u64::MAX - 2));
        assert_eq!(Wanted::of(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    #[test]
    fn several_ranges_are_several_parts_unless_they_cost_more_than_the_whole() {
        let parts = |pairs: &[(u64, u64)]| {
            Wanted::Several(pairs.iter().map(|&(first, last)| Part { first, last }).collect())
        };
        for (text, wanted) in [
            ("bytes=0-1,3-4", parts(&[(0, 1), (3, 4)])),
            ("bytes=8-, 0-0", parts(&[(8, 9), (0, 0)])),
            ("bytes=0-1,-2", parts(&[(0, 1), (8, 9)])),
            ("bytes=0-1,20-30", one(0, 1)),
            ("bytes=20-30,40-", Wanted::Nothing),
            ("bytes=0-8,1-9", Wanted::All),
            ("bytes=0-1,x", Wanted::All),
        ] {
            assert_eq!(Wanted::of(Some(text), 10), wanted, "{text}");
        }
    }

    fn many(count: u64) -> String {
        let each: Vec<_> = (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect();
        format!("bytes={}", each.join(","))
    }

    #[test]
    fn as_many_ranges_as_lazy_clients_ask_for_are_parts_and_more_are_the_whole() {
        for count in [17, 1024, 4096] {
            let Wanted::Several(parts) = Wanted::of(Some(&many(count)), 100_000) else { panic!("{count}") };
            assert_eq!(parts.len() as u64, count);
        }
        assert_eq!(Wanted::of(Some(&many(4097)), 100_000), Wanted::All);
        let beyond = vec!["200000-"; 5000].join(",");
        assert_eq!(Wanted::of(Some(&format!("bytes={beyond}")), 100_000), Wanted::All, "they count, too");
    }

    #[test]
    fn ranges_are_kept_apart_until_they_cost_more_than_the_whole_and_are_merged_then() {
        let parts = |pairs: &[(u64, u64)]| {
            Wanted::Several(pairs.iter().map(|&(first, last)| Part { first, last }).collect())
        };
        for (text, wanted) in [
            // Adjacent and overlapping ranges stay separate parts, because a client may count them.
            ("bytes=0-1,2-3", parts(&[(0, 1), (2, 3)])),
            ("bytes=0-3,2-5", parts(&[(0, 3), (2, 5)])),
            ("bytes=5-8,0-3,1-4", one(0, 8)),
            ("bytes=7-8,0-3,1-4,0-3", parts(&[(0, 4), (7, 8)])),
            ("bytes=0-,0-,0-", Wanted::All),
            ("bytes=, 1-1 ,,", one(1, 1)),
        ] {
            assert_eq!(Wanted::of(Some(text), 10), wanted, "{text}");
        }
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
        fn parts_are_never_empty_always_within_and_together_no_more_than_the_whole(
            text in "bytes=([0-9]{0,4}-[0-9]{0,20},?){1,4}", size in 0u64..1000
        ) {
            let parts = match Wanted::of(Some(&text), size) {
                Wanted::One(part) => vec![part],
                Wanted::Several(parts) => parts,
                Wanted::All | Wanted::Nothing => Vec::new(),
            };
            for part in &parts {
                prop_assert!(part.first <= part.last && part.last < size);
            }
            prop_assert!(parts.iter().map(|part| part.length()).sum::<u64>() <= size);
        }

        #[test]
        fn headers_from_outside_never_panic(text in ".{0,40}") {
            let _ = (Wanted::of(Some(&text), 5), Piece::of(&text));
        }
    }
}
