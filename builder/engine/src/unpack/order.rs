//! Reorders entries: makes the same tree in another order, so that a build which depends on readdir(3) shows it.
//!
//! tmpfs lists a directory by time of creation; ext4 by a hash that is salted for each filesystem.

use hab_archive::{Entry, Error, Kind, Source, Tar};

/// The order in which entries are created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The archive's order; nothing is kept in memory.
    #[default]
    AsIs,
    /// Sorted by path.
    Sorted,
    /// Sorted by path, backwards.
    Reversed,
    /// Sorted by path and then shuffled; the same seed gives the same order.
    Shuffled(u64),
}

/// An entry with its content.
pub(super) type Kept = (Entry, Vec<u8>);

/// Why entries were not collected.
pub(super) enum Refused {
    Problem(Error),
    TooMuch,
    TooMany,
}

/// Reads every entry of the stream into memory, `memory` bytes and `entries` at most.
pub(super) fn collect<S: Source>(tar: &mut Tar<S>, memory: u64, entries: u64) -> Result<Vec<Kept>, Refused> {
    /// What a header takes in memory, roughly: entries without content must count too.
    const HEADER: u64 = 256;
    let mut kept = Vec::new();
    let mut left = memory;
    while let Some(entry) = tar.next_entry().map_err(Refused::Problem)? {
        if kept.len() as u64 >= entries {
            return Err(Refused::TooMany);
        }
        left = left.checked_sub(entry.size.saturating_add(HEADER)).ok_or(Refused::TooMuch)?;
        let content = tar.whole(memory).map_err(Refused::Problem)?;
        kept.push((entry, content));
    }
    Ok(kept)
}

/// Puts entries into `order`. Hard links come last, since they need their target.
pub(super) fn arrange(entries: &mut [Kept], order: Order) {
    match order {
        Order::AsIs => return,
        Order::Sorted | Order::Reversed | Order::Shuffled(_) => {
            entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        }
    }
    match order {
        Order::Reversed => entries.reverse(),
        Order::Shuffled(seed) => shuffle(entries, seed),
        Order::AsIs | Order::Sorted => {}
    }
    // The sort is stable, so a link to a link may come before its target; archives name the first file as the target.
    entries.sort_by_key(|(entry, _)| matches!(entry.kind, Kind::HardLink(_)));
}

/// Fisher and Yates, with SplitMix64 as the source: the order needs to be repeatable, not secret.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for last in (1..items.len()).rev() {
        let other = usize::try_from(random() % (last as u64 + 1)).unwrap_or(0);
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(order: Order) -> String {
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            kind,
            size: 0,
            mtime: 0,
            mode: 0o644,
            header: 0,
            offset: 0,
        };
        let mut kept = vec![
            (entry("b", Kind::File), Vec::new()),
            (entry("h", Kind::HardLink(b"b".to_vec())), Vec::new()),
            (entry("a", Kind::Directory), Vec::new()),
            (entry("c", Kind::File), Vec::new()),
        ];
        arrange(&mut kept, order);
        kept.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }

    #[test]
    fn orders_differ_and_keep_hard_links_last() {
        assert_eq!(arranged(Order::AsIs), "bhac");
        assert_eq!(arranged(Order::Sorted), "abch");
        assert_eq!(arranged(Order::Reversed), "cbah");
        assert!(arranged(Order::Shuffled(4)).ends_with('h'));
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_its_seed_decides() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut back = shuffled(3);
        back.sort_unstable();
        assert_eq!(back, (0..100).collect::<Vec<_>>());
    }
}
