//! Path patterns of Go's path/filepath: `*`, `?`, `[a-z]` and `\` within one part of a path.

/// Whether a part of a pattern matches a name; `None` for a pattern that Go refuses.
pub(crate) fn fits(pattern: &str, name: &str) -> Option<bool> {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let parts = parse(&pattern)?;
    Some(matches(&parts, &name))
}

enum Part {
    Any,
    One,
    Char(char),
    Class { not: bool, ranges: Vec<(char, char)> },
}

fn parse(pattern: &[char]) -> Option<Vec<Part>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    let escaped = |at: &mut usize| {
        if pattern.get(*at) == Some(&'\\') {
            *at += 1;
        }
        let c = pattern.get(*at).copied();
        *at += 1;
        c
    };
    while at < pattern.len() {
        match pattern[at] {
            '*' => {
                at += 1;
                parts.push(Part::Any);
            }
            '?' => {
                at += 1;
                parts.push(Part::One);
            }
            '[' => {
                at += 1;
                let not = pattern.get(at) == Some(&'^');
                at += usize::from(not);
                let mut ranges = Vec::new();
                while pattern.get(at) != Some(&']') || ranges.is_empty() {
                    let low = escaped(&mut at).filter(|c| *c != ']' && *c != '-')?;
                    let mut high = low;
                    if pattern.get(at) == Some(&'-') {
                        at += 1;
                        high = escaped(&mut at)?;
                    }
                    ranges.push((low, high));
                }
                at += 1;
                parts.push(Part::Class { not, ranges });
            }
            _ => parts.push(Part::Char(escaped(&mut at)?)),
        }
    }
    Some(parts)
}

/// Whenever the rest fails, the last star takes one more character, so the work is at most the product of both lengths.
fn matches(parts: &[Part], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        let one = match parts.get(p) {
            Some(Part::Any) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(Part::One) => true,
            Some(Part::Char(c)) => *c == name[n],
            Some(Part::Class { not, ranges }) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&name[n])) != *not
            }
            None => false,
        };
        if one {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    parts[p..].iter().all(|part| matches!(part, Part::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_it_means_in_go() {
        for (pattern, name, fit) in [
            ("*.toml", "a.toml", Some(true)),
            ("*.toml", ".toml", Some(true)),
            ("*.toml", "a.toml.bak", Some(false)),
            ("a?c*", "abcd", Some(true)),
            ("[a-c]*[^x]", "bzy", Some(true)),
            ("[a-c]*[^x]", "bzx", Some(false)),
            ("\\*", "*", Some(true)),
            ("\\*", "a", Some(false)),
            ("[a", "a", None),
            ("*a*b*", "xxaxxbxx", Some(true)),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
