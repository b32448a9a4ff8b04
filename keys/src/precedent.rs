//! Rules by which an earlier acceptance limits a later one. Pure: the caller provides what it remembers.

use hab_oci::Digest;

use crate::Refusal;

/// Which of two signed documents about the same thing counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// The one that upstream has now.
    Offered,
    /// The one that was accepted before.
    Accepted,
}

/// Decides between an index of a Debian suite that was accepted before and the one that upstream has now: the newer one
/// counts. An old index is signed too, but lists outdated packages. Dates are Unix seconds.
pub fn newer(accepted: Option<i64>, offered: i64) -> Counts {
    if accepted.is_some_and(|accepted| accepted > offered) { Counts::Accepted } else { Counts::Offered }
}

/// Refuses a released file that changed. The list with the new hash may be signed as well as the first one; it is
/// refused all the same.
pub fn unchanged(name: &str, accepted: Option<&Digest>, listed: &Digest) -> Result<(), Refusal> {
    match accepted.filter(|accepted| *accepted != listed) {
        Some(accepted) => Err(Refusal::Changed {
            what: name.to_owned(),
            accepted: accepted.clone(),
            listed: listed.clone(),
        }),
        None => Ok(()),
    }
}

/// A tag that was accepted and was seen to have another value too, as positions in the list of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The accepted value, or the first value if that is not in the list.
    pub from: usize,
    /// A value that differs from it.
    pub to: usize,
}

/// Refuses a tag that moved: once one value was accepted, no other value may have been seen. If none was accepted yet,
/// the caller judges all values in order, and the first good one counts.
pub fn unmoved(seen: &[Digest], accepted: Option<&Digest>) -> Result<(), Moved> {
    let Some(accepted) = accepted else { return Ok(()) };
    match seen.iter().position(|value| value != accepted) {
        Some(to) => {
            let from = seen.iter().position(|value| value == accepted).unwrap_or(0);
            Err(Moved { from, to })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_index_is_not_used_and_one_of_the_same_date_is() {
        assert_eq!(newer(None, 5), Counts::Offered);
        assert_eq!(newer(Some(4), 5), Counts::Offered);
        assert_eq!(newer(Some(5), 5), Counts::Offered);
        assert_eq!(newer(Some(6), 5), Counts::Accepted);
    }

    #[test]
    fn a_released_file_may_be_listed_again_and_may_not_change() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert!(unchanged("f", None, &a).is_ok());
        assert!(unchanged("f", Some(&a), &a).is_ok());
        let refused = unchanged("core/30.0/f", Some(&a), &b).unwrap_err();
        assert!(refused.is_verdict());
        let sentence = refused.to_string();
        assert!(sentence.contains("core/30.0/f") && sentence.contains(a.hex()) && sentence.contains(b.hex()));
    }

    #[test]
    fn a_tag_that_was_accepted_has_no_other_value() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        assert_eq!(unmoved(&[a.clone(), b.clone()], None), Ok(()));
        assert_eq!(unmoved(std::slice::from_ref(&a), Some(&a)), Ok(()));
        assert_eq!(unmoved(&[a.clone(), b.clone()], Some(&b)), Err(Moved { from: 1, to: 0 }));
        assert_eq!(unmoved(&[a.clone(), b.clone()], Some(&a)), Err(Moved { from: 0, to: 1 }));
        // The accepted value is no longer among them.
        assert_eq!(unmoved(&[b, c], Some(&a)), Err(Moved { from: 0, to: 0 }));
        assert_eq!(unmoved(&[], Some(&a)), Ok(()));
    }
}
