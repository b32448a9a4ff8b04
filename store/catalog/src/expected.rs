//! The conditions of a request (RFC 9110, section 13). The transaction that makes the change checks them again.

use hab_oci::Digest;

/// The digests that a condition names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Any digest: `*`.
    Any,
    /// One of these.
    These(Vec<Digest>),
}

impl Named {
    fn has(&self, current: &Digest) -> bool {
        match self {
            Self::Any => true,
            Self::These(digests) => digests.contains(current),
        }
    }
}

/// What a tag has to point at, or whether a manifest has to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The current digest has to be one of these (`If-Match`).
    pub is: Option<Named>,
    /// The current digest may be none of these (`If-None-Match`).
    pub is_not: Option<Named>,
}

impl Expected {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.is.is_none() && self.is_not.is_none()
    }

    /// Whether `If-Match` holds. If there is no current digest, it does not.
    pub fn is_met(&self, current: Option<&Digest>) -> bool {
        self.is.as_ref().is_none_or(|named| current.is_some_and(|current| named.has(current)))
    }

    /// Whether `If-None-Match` fails.
    pub fn is_barred(&self, current: Option<&Digest>) -> bool {
        self.is_not.as_ref().is_some_and(|named| current.is_some_and(|current| named.has(current)))
    }

    /// Whether both conditions hold.
    pub fn holds(&self, current: Option<&Digest>) -> bool {
        self.is_met(current) && !self.is_barred(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_none_of_what_is_named() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let these = || Some(Named::These(vec![one.clone()]));
        let must = Expected { is: these(), is_not: None };
        assert_eq!([Some(&one), Some(&two), None].map(|at| must.holds(at)), [true, false, false]);
        let must_not = Expected { is: None, is_not: these() };
        assert_eq!([Some(&one), Some(&two), None].map(|at| must_not.holds(at)), [false, true, true]);
        let there = Expected { is: Some(Named::Any), is_not: None };
        assert_eq!([Some(&one), None].map(|at| there.holds(at)), [true, false]);
        let free = Expected { is: None, is_not: Some(Named::Any) };
        assert_eq!([Some(&one), None].map(|at| free.holds(at)), [false, true]);
        assert!(Expected::default().is_empty() && Expected::default().holds(None));
    }
}
