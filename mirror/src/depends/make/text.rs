//! Splits a makefile's text into lines, references and words.

use std::borrow::Cow;

use super::UNKNOWN;

/// The mark of the first unknown value in `text`.
pub(super) fn unknown(text: &str) -> Option<&str> {
    let start = text.find(UNKNOWN)?;
    let length = text[start + 1..].find(UNKNOWN)?;
    Some(&text[start..=start + 1 + length])
}

/// Logical lines, each with the number of its first line. A backslash at the end of a line, with the blanks around it,
/// becomes one space.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    let mut physical = text.lines().zip(1..);
    std::iter::from_fn(move || {
        let (first, number) = physical.next()?;
        if !continues(first) {
            return Some((number, first.into()));
        }
        let mut line = first.to_owned();
        while continues(&line) {
            line.pop();
            let Some((next, _)) = physical.next() else { break };
            line.truncate(line.trim_end_matches([' ', '\t']).len());
            line.push(' ');
            line.push_str(next.trim_start_matches([' ', '\t']));
        }
        Some((number, line.into()))
    })
}

fn continues(line: &str) -> bool {
    !(line.len() - line.trim_end_matches('\\').len()).is_multiple_of(2)
}

/// A line without its comment. `\#` becomes `#`, and a `#` within a reference begins no comment.
pub(super) fn without_comment(line: &str) -> Cow<'_, str> {
    if !line.contains('#') {
        return line.into();
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['#', '$']) {
        if rest[at..].starts_with('#') {
            let before = &rest[..at];
            let slashes = before.len() - before.trim_end_matches('\\').len();
            out.push_str(&before[..before.len() - slashes.div_ceil(2)]);
            if slashes.is_multiple_of(2) {
                return out.into();
            }
            out.push('#');
            rest = &rest[at + 1..];
        } else {
            let end = at + reference(&rest[at..]);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out.into()
}

/// The length of the reference at the start of `text`: `$(...)`, `${...}`, `$$` or `$x`.
pub(super) fn reference(text: &str) -> usize {
    match text.as_bytes().get(1) {
        Some(open @ (b'(' | b'{')) => closing(&text[2..], *open).map_or(text.len(), |at| at + 3),
        _ => 1 + text[1..].chars().next().map_or(0, char::len_utf8),
    }
}

/// The position of the bracket that closes the one opened before `text`.
pub(super) fn closing(text: &str, open: u8) -> Option<usize> {
    let close = closer(open);
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte == open {
            depth += 1;
        } else if byte == close {
            if depth == 0 {
                return Some(at);
            }
            depth -= 1;
        }
    }
    None
}

/// Splits `text` at its commas outside of brackets, into at most `most` parts.
pub(super) fn arguments(text: &str, open: u8, most: usize) -> Vec<&str> {
    let close = closer(open);
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        if byte == b',' && depth == 0 && parts.len() + 1 < most {
            parts.push(&text[from..at]);
            from = at + 1;
        } else if byte == open {
            depth += 1;
        } else if byte == close {
            depth = depth.saturating_sub(1);
        }
    }
    parts.push(&text[from..]);
    parts
}

fn closer(open: u8) -> u8 {
    if open == b'(' { b')' } else { b'}' }
}

/// The name, operator and value of a line that sets a variable.
pub(super) fn assignment(line: &str) -> Option<(&str, &str, &str)> {
    let line = line.trim_start();
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        let rest = &line[at..];
        let operator =
            ["::=", ":=", "?=", "+=", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
        if let Some(operator) = operator {
            let name = line[..at].trim_end();
            return (!name.is_empty()).then(|| (name, operator, rest[operator.len()..].trim_start()));
        }
        match c {
            '$' => at += reference(rest),
            ':' => return None,
            ' ' | '\t' => {
                // A name is one word: an operator must follow.
                at += rest.len() - rest.trim_start().len();
                let next = &line[at..];
                if !["=", ":=", "::=", "?=", "+=", "!="].iter().any(|operator| next.starts_with(operator)) {
                    return None;
                }
            }
            _ => at += c.len_utf8(),
        }
    }
    None
}

/// The two sides of an `ifeq` or `ifneq`: `(a,b)`, or two quoted words.
pub(super) fn sides(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('(') {
        let inner = &inner[..closing(inner, b'(')?];
        let parts = arguments(inner, b'(', 2);
        let [left, right] = parts.as_slice() else { return None };
        return Some((left.trim_end(), right.trim_start()));
    }
    let (left, rest) = quoted(text)?;
    let (right, rest) = quoted(rest.trim_start())?;
    rest.trim().is_empty().then_some((left, right))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    text[1..].split_once(quote)
}
