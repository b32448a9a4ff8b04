//! Makes a stranger's file name safe to show to a person.

/// The most characters of a name that are shown.
const LONGEST: usize = 200;

/// Escapes every character that could move a cursor or reverse the text around it, and cuts a long name.
pub fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for (at, c) in String::from_utf8_lossy(&name[..name.len().min(4 * LONGEST)]).chars().enumerate() {
        if at == LONGEST {
            text.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) || matches!(c, '"' | '\\') {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Marks of text direction, and characters of no width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_neither_moves_the_cursor_nor_turns_the_text_around() {
        assert_eq!(shown("a b/é".as_bytes()), "a b/é");
        assert_eq!(shown(b"a\n\x1b[31m\"\\"), "a\\n\\u{1b}[31m\\\"\\\\");
        assert_eq!(shown("x\u{202e}gpj".as_bytes()), "x\\u{202e}gpj");
        assert_eq!(shown(&[b'x'; 5000]).chars().count(), LONGEST + 1);
    }
}
