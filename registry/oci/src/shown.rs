//! Escapes text that somebody else chose, so that it can be shown to a person.
//!
//! A name in an archive, a line of a build or a message of an upstream may hold characters that move the cursor,
//! reverse the direction of the text after them, or are invisible. A person would then read something else than the
//! text. Code that puts such a text into a sentence passes it through [`shown`]. JSON needs no escaping here, because
//! JSON escapes by itself.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// The most bytes of a text that are shown: more than any honest name needs, less than a screen.
pub const LONGEST: usize = 400;

/// Makes a text that somebody else chose safe in a sentence: one line, no invisible characters, and at most [`LONGEST`]
/// bytes. `{:?}` puts it into quotes, which a text with spaces needs.
///
/// ```
/// # use hab_oci::shown;
/// assert_eq!(shown("a\n\u{1b}[31m\u{202e}b").to_string(), r"a\n\u{1b}[31m\u{202e}b");
/// assert_eq!(format!("{:?}", shown("a\nb")), r#""a\nb""#);
/// ```
///
/// Escaping a text twice gives the same as escaping it once, so callers need not know whether it is escaped. The price:
/// a text that contains an escape sequence looks like an escaped text. Where that matters, JSON has the original.
pub fn shown(text: &(impl AsRef<str> + ?Sized)) -> Shown<'_> {
    Shown { text: Cow::Borrowed(text.as_ref()), longest: LONGEST, lines: false }
}

/// As [`shown`], for bytes that may not be UTF-8.
pub fn shown_bytes(bytes: &[u8]) -> Shown<'_> {
    Shown { text: String::from_utf8_lossy(bytes), longest: LONGEST, lines: false }
}

/// As [`shown`], but line breaks and tabs stay. Only for text that stands alone: within a sentence a line break could
/// fake a new message.
pub fn shown_lines(text: &(impl AsRef<str> + ?Sized)) -> Shown<'_> {
    Shown { text: Cow::Borrowed(text.as_ref()), longest: LONGEST, lines: true }
}

/// Joins the first `most` items of a list and says how many more there are: `a; b; … and 3 more`.
pub fn few<T: fmt::Display>(items: impl IntoIterator<Item = T>, most: usize, between: &str) -> String {
    let mut items = items.into_iter();
    let mut text = String::new();
    for (at, item) in items.by_ref().take(most).enumerate() {
        let between = if at == 0 { "" } else { between };
        // Writing to a String cannot fail.
        let _ = write!(text, "{between}{item}");
    }
    match items.count() {
        0 => text,
        more => format!("{text}{between}… and {more} more"),
    }
}

/// A text that is escaped when it is formatted; made by [`shown`].
#[derive(Clone)]
pub struct Shown<'a> {
    text: Cow<'a, str>,
    longest: usize,
    lines: bool,
}

impl Shown<'_> {
    /// Shows `longest` bytes at most, instead of [`LONGEST`].
    #[must_use]
    pub fn at_most(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    /// The escaped text. With `quoted`, double quotes are escaped too.
    fn escaped(&self, quoted: bool) -> String {
        let mut out = String::new();
        for (at, c) in self.text.char_indices() {
            let kept = out.len();
            match c {
                '\n' | '\t' if self.lines => out.push(c),
                '"' if quoted => out.push_str("\\\""),
                _ if deceives(c) || (c.is_whitespace() && c != ' ') => out.extend(c.escape_default()),
                _ => out.push(c),
            }
            if out.len() > self.longest {
                out.truncate(kept);
                let more = self.text.len() - at;
                let _ = write!(out, "… ({more} more bytes)");
                break;
            }
        }
        out
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.escaped(false))
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped(true))
    }
}

/// Whether a character can mislead a reader: it moves the cursor (Unicode's category Cc), changes how its neighbours
/// look (Cf, such as U+202E), ends a line or paragraph (Zl, Zp), is invisible or blank (the default ignorable ones), or
/// has no assigned meaning (private use and noncharacters).
///
/// The ranges are fixed here instead of taken from a version of Unicode, so that every version of this program refuses
/// the same characters in an output.
pub fn deceives(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}'
        | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_moves_turns_or_hides_is_escaped() {
        for (text, expected) in [
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[2J\u{9b}31m\u{7f}", r"\u{1b}[2J\u{9b}31m\u{7f}"),
            ("\u{202e}doog\u{2066}\u{200f}\u{61c}", r"\u{202e}doog\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}\u{ad}\u{feff}\u{e0041}", r"a\u{200b}\u{ad}\u{feff}\u{e0041}"),
            (
                "line\u{2028}paragraph\u{2029}wide\u{a0}\u{3000}",
                r"line\u{2028}paragraph\u{2029}wide\u{a0}\u{3000}",
            ),
            ("Grüße, Łukasz 日本語 עברית", "Grüße, Łukasz 日本語 עברית"),
        ] {
            assert_eq!(shown(text).to_string(), expected);
        }
        assert_eq!(format!("{:?}", shown("a \"b\"")), r#""a \"b\"""#);
        assert_eq!(shown_bytes(b"bad\xff").to_string(), "bad\u{fffd}");
        assert_eq!(shown_lines("a\n\tb\x1b").to_string(), "a\n\tb\\u{1b}");
        assert_eq!(format!("[{:<4}]", shown("ab")), "[ab  ]");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let long = "ä".repeat(1_000_000);
        let text = shown(&long).to_string();
        assert!(text.len() < LONGEST + 40 && text.ends_with("… (1999600 more bytes)"), "{text}");
        assert_eq!(shown("abcdef").at_most(3).to_string(), "abc… (3 more bytes)");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        assert_eq!(few(["a", "b"], 2, "; "), "a; b");
        assert_eq!(few(0..602, 3, "; "), "0; 1; 2; … and 599 more");
        assert_eq!(few(0..0, 3, "; "), "");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_one_line_seen_as_it_is_and_the_same_when_shown_again(text in ".*|[\\PC\\p{Cf}\\p{Cc}]*") {
            let once = shown(&text).at_most(1 << 20).to_string();
            prop_assert!(!once.chars().any(|c| deceives(c) || (c.is_whitespace() && c != ' ')), "{once:?}");
            prop_assert_eq!(shown(&once).at_most(1 << 20).to_string(), once);
        }
    }
}
