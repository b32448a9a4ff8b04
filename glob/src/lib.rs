//! Names by what they look like: `*` stands for any run of characters, every other character for itself.
//!
//! In scope: [`matches()`]. Out of scope: what characters a name may have; whoever reads a pattern checks that. Other
//! kinds of patterns stay where they belong: git's refspecs, and Go's `filepath.Match`, which containerd uses.

/// Whether `name` is one of those that `pattern` describes. A slash is a character like any other. The work is at most
/// the product of both lengths, whoever wrote them.
///
/// ```
/// assert!(hab_glob::matches("v*.0", "v31.0"));
/// assert!(!hab_glob::matches("v*.0", "v31.1"));
/// ```
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star is in the pattern, and up to where it reaches in the name: it reaches one byte further
    // whenever the rest does not fit.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, reached)) => {
                    star = Some((at, reached + 1));
                    p = at + 1;
                    n = reached + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_any_run_of_characters_and_all_else_is_itself() {
        for (pattern, name, fits) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "A", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("a*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("*.tar.gz", "x.tar.gz", true),
            ("*.tar.gz", ".tar.g", false),
            ("**", "x", true),
            ("?", "x", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let pattern = "*a".repeat(2000);
        assert!(!matches(&pattern, &"b".repeat(4000)));
        assert!(matches(&pattern, &"a".repeat(4000)));
    }
}
