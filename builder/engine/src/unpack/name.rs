//! Turns a path as an archive spells it into a path below the root.

use super::NameProblem;

/// Folders that are links into `usr` on a system with a merged /usr, as in Debian 12.
pub(super) const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// How paths are rewritten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether a leading `/` means the root of the archive.
    pub(super) absolute: bool,
    /// See [`super::Options::strip_components`].
    pub(super) strip: usize,
    /// See [`super::Options::merged_usr`].
    pub(super) merged_usr: bool,
    /// The longest path, in bytes.
    pub(super) longest: usize,
    /// Whether names that begin with `.wh.` are refused.
    pub(super) layer: bool,
}

impl Rules {
    /// Returns a relative path of normal components joined by `/`. `None` if an entry has components, but stripping
    /// leaves none of them. The root itself is the empty path.
    pub(super) fn apply(&self, raw: &[u8]) -> Result<Option<Vec<u8>>, NameProblem> {
        if raw.contains(&0) {
            return Err(NameProblem::Nul);
        }
        if raw.first() == Some(&b'/') && !self.absolute {
            return Err(NameProblem::Absolute);
        }
        if raw.len() > self.longest {
            return Err(NameProblem::TooLong);
        }
        let mut path = Vec::with_capacity(raw.len() + 4);
        let mut seen = 0;
        for component in raw.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".") {
            if component == b".." {
                return Err(NameProblem::Parent);
            }
            if component.len() > 255 {
                return Err(NameProblem::TooLong);
            }
            if self.layer && component.starts_with(b".wh.") {
                return Err(NameProblem::Whiteout);
            }
            seen += 1;
            if seen <= self.strip {
                continue;
            }
            if path.is_empty() {
                if self.merged_usr && MERGED.iter().any(|m| m.as_bytes() == component) {
                    path.extend_from_slice(b"usr/");
                }
            } else {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok((!path.is_empty() || self.strip == 0).then_some(path))
    }
}

/// The parent's path and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { absolute: true, strip: 0, merged_usr: true, longest: 4096, layer: false };

    #[test]
    fn debian_spellings_become_one() {
        for spelling in ["./usr/bin/x", "/usr/bin/x", "usr//bin/./x", "./bin/x", "/bin/x/"] {
            assert_eq!(RULES.apply(spelling.as_bytes()).unwrap().unwrap(), b"usr/bin/x", "{spelling}");
        }
        assert_eq!(RULES.apply(b"./").unwrap().unwrap(), b"");
        assert_eq!(RULES.apply(b"./library").unwrap().unwrap(), b"library");
    }

    #[test]
    fn stripping_counts_real_components() {
        let rules = Rules { strip: 1, merged_usr: false, ..RULES };
        assert_eq!(rules.apply(b"./bitcoin-31.1/bin/x").unwrap().unwrap(), b"bin/x");
        assert_eq!(rules.apply(b"bitcoin-31.1/").unwrap(), None);
        assert_eq!(rules.apply(b"bitcoin-31.1/../x"), Err(NameProblem::Parent));
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_only_normal_components(
            raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 0..60),
            strip in 0_usize..3,
            absolute: bool,
        ) {
            if let Ok(Some(path)) = (Rules { absolute, strip, ..RULES }).apply(&raw)
                && !path.is_empty()
            {
                for component in path.split(|b| *b == b'/') {
                    prop_assert!(!component.is_empty() && component != b"." && component != b"..");
                    prop_assert!(!component.contains(&0));
                }
            }
        }
    }
}
