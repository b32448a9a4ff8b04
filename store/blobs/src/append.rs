//! Appends bytes to a file and hashes them at the same time: one thread writes, another hashes.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::files::write_ahead;
use crate::helpers;
use crate::tally::Tally;

/// Hashing fewer bytes than this takes less time than waking another thread.
const WORTH_A_THREAD: usize = 128 << 10;

/// Appends all parts or none: after an error the file and its tally are unchanged.
pub(crate) fn append<B: AsRef<[u8]> + Send + Sync + 'static>(
    file: &mut File,
    tally: &mut Tally,
    parts: Vec<B>,
) -> io::Result<()> {
    let before = tally.size;
    match both(file, tally, parts) {
        Ok(hashed) => *tally = hashed,
        Err(error) => {
            // Bytes left in the file would pass for bytes that were hashed. If the file cannot be shortened, the next
            // reader notices: its length differs from the tally's.
            let _ = file.set_len(before).and_then(|()| file.seek(SeekFrom::Start(before)));
            return Err(error);
        }
    }
    write_ahead(file, before, tally.size);
    Ok(())
}

fn both<B: AsRef<[u8]> + Send + Sync + 'static>(
    file: &mut File,
    tally: &Tally,
    parts: Vec<B>,
) -> io::Result<Tally> {
    let parts = Arc::new(parts);
    let (give, take) = sync_channel(1);
    let hash = {
        let (parts, tally) = (parts.clone(), tally.clone());
        move || {
            // Sending fails only where the writer failed and dropped the receiver.
            let _ = give.send(hashed(tally, &parts));
        }
    };
    let large = parts.iter().map(|part| part.as_ref().len()).sum::<usize>() >= WORTH_A_THREAD;
    let lent = large && helpers::lend(hash).is_ok();
    parts.iter().try_for_each(|part| file.write_all(part.as_ref()))?;
    if lent && let Ok(hashed) = take.recv() { Ok(hashed) } else { Ok(hashed(tally.clone(), &parts)) }
}

fn hashed<B: AsRef<[u8]>>(mut tally: Tally, parts: &[B]) -> Tally {
    for part in parts {
        tally.add(part.as_ref());
    }
    tally
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read as _;

    use hab_oci::{Algorithm, Digest};

    use super::*;

    #[test]
    fn what_is_written_is_what_is_hashed_whatever_the_parts() {
        let mut file = tempfile::tempfile().unwrap();
        let mut tally = Tally::new(Algorithm::Sha256);
        let mut all = Vec::new();
        for (count, length) in [(1, 1), (0, 0), (3, 100_000), (40, 10_000), (1, 1 << 20), (2, 7)] {
            let parts: Vec<Vec<u8>> = (0..count).map(|n| vec![n; length]).collect();
            all.extend(parts.concat());
            append(&mut file, &mut tally, parts).unwrap();
        }
        let mut kept = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut kept).unwrap();
        assert!(kept == all && tally.size == all.len() as u64);
        assert_eq!(tally.hasher.finish(), Digest::of(&all));
    }

    #[test]
    fn many_who_write_at_the_same_time_each_have_their_own_hash() {
        std::thread::scope(|scope| {
            for n in 0..20u8 {
                scope.spawn(move || {
                    let mut file = tempfile::tempfile().unwrap();
                    let mut tally = Tally::new(Algorithm::Sha256);
                    for _ in 0..20 {
                        append(&mut file, &mut tally, vec![vec![n; 100_000]; 3]).unwrap();
                    }
                    assert_eq!(tally.hasher.finish(), Digest::of(&vec![n; 6_000_000]));
                });
            }
        });
    }

    #[test]
    fn a_file_that_takes_no_more_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"abc").unwrap();
        // Not opened for writing.
        let mut file = File::open(&path).unwrap();
        let mut tally = Tally::new(Algorithm::Sha256);
        tally.add(b"abc");
        for length in [10, 1 << 20] {
            assert!(append(&mut file, &mut tally, vec![vec![0; length]]).is_err());
            assert_eq!(tally.size, 3);
            assert_eq!(tally.hasher.clone().finish(), Digest::of(b"abc"));
        }
    }
}
