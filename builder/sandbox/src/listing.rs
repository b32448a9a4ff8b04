//! The order in which folders list their names. It is computed from the names alone, so it is the same on every disk,
//! for every user and in whatever order the files were made. There are two orders, each the reverse of the other, so
//! that an output which depends on the order differs between two runs.
//!
//! The helper answers getdents64(2) (`answers.rs`): it reads the folder itself, by a copy of the caller's descriptor. A
//! name's place is a hash of the name, and the descriptor's position is the place of the next name, as in an ext4
//! folder with an index. So nothing is stored between two calls, lseek(2) and rewinddir(3) work as usual, and removing
//! files that were listed hides none of the others.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, RawDir, SeekFrom, fstat, fstatfs, seek};
use rustix::io::Errno;

/// The number of places for names. File systems refuse a position beyond their largest file, and the smallest of those
/// limits is that of ext4 without extents, 2^42.
const PLACES: u64 = 1 << 40;
/// The places of `.` and `..`, which come before all others.
const FIRST: u64 = 2;

/// The most bytes of one answer, however much room the caller has.
const ROOM: usize = 64 << 10;
/// The offset of the name in `struct linux_dirent64`, on every file system.
const NAME: usize = 19;

/// The place of a name in the order.
fn place(name: &[u8], backward: bool) -> u64 {
    match name {
        b"." => 0,
        b".." => 1,
        _ => {
            // FNV-1a, 64 bits. Two names of one place do no harm: both are listed.
            let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let place = (hash ^ (hash >> 40)) % PLACES;
            FIRST + if backward { PLACES - 1 - place } else { place }
        }
    }
}

/// The answer to one call of getdents64(2).
pub(crate) struct Page {
    /// Records in the kernel's format; empty at the end of the folder.
    pub bytes: Vec<u8>,
    folder: OwnedFd,
    before: u64,
    after: u64,
}

impl Page {
    /// The next page of the folder that a descriptor has open: at most `room` bytes, with inode numbers XORed with
    /// `key`. `None` if the kernel has to answer: the descriptor is for another kind of file, or for a folder of
    /// `/proc`, which lists processes and accepts no such positions.
    pub(crate) fn next(
        folder: OwnedFd,
        room: usize,
        backward: bool,
        key: u64,
    ) -> Result<Option<Self>, Errno> {
        let is_folder = fstat(&folder).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        if !is_folder || fstatfs(&folder)?.f_type == libc::PROC_SUPER_MAGIC {
            return Ok(None);
        }
        let before = seek(&folder, SeekFrom::Current(0))?;
        seek(&folder, SeekFrom::Start(0))?;
        let read = Records::read(&folder, before, room.min(ROOM), backward);
        // The position stays the same until [`Page::turn`].
        seek(&folder, SeekFrom::Start(before))?;
        let records = read?;
        let after = records.0.keys().next_back().map_or(before, |(place, _)| place + 1);
        Ok(Some(Self { bytes: records.bytes(key), folder, before, after }))
    }

    /// Moves the descriptor's position behind this page.
    pub(crate) fn turn(&self) -> Result<(), Errno> {
        seek(&self.folder, SeekFrom::Start(self.after)).map(drop)
    }

    /// Moves the position back, because the call was interrupted and will be made again.
    pub(crate) fn turn_back(&self) {
        // If this fails, moving it forward has failed too.
        let _ = seek(&self.folder, SeekFrom::Start(self.before));
    }
}

/// The next entries, by place and name, as many as there is room for.
struct Records(BTreeMap<(u64, Vec<u8>), (u64, FileType)>);

impl Records {
    fn read(folder: impl AsFd, from: u64, room: usize, backward: bool) -> Result<Self, Errno> {
        let (mut next, mut length) = (BTreeMap::new(), 0);
        // The first place for which there was no room.
        let mut cut = None;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            let place = place(name.to_bytes(), backward);
            if place < from || cut.is_some_and(|cut| place > cut) {
                continue;
            }
            length += record_length(name);
            next.insert((place, name.to_bytes().to_owned()), (entry.ino(), entry.file_type()));
            while length > room {
                let Some(((place, name), _)) = next.pop_last() else { break };
                length -= padded(NAME + name.len() + 1);
                cut = Some(cut.map_or(place, |cut: u64| cut.min(place)));
            }
        }
        // Names of one place stay on one page, unless a page is too small for them.
        if let Some(cut) = cut {
            let torn = next.split_off(&(cut, Vec::new()));
            if next.is_empty() {
                next = torn;
            }
            if next.is_empty() {
                return Err(Errno::INVAL);
            }
        }
        Ok(Self(next))
    }

    fn bytes(&self, key: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for ((place, name), (inode, kind)) in &self.0 {
            let length = padded(NAME + name.len() + 1);
            let end = bytes.len() + length;
            bytes.extend_from_slice(&(inode ^ key).to_ne_bytes());
            bytes.extend_from_slice(&(place + 1).to_ne_bytes());
            bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
            bytes.push(kind_byte(*kind));
            bytes.extend_from_slice(name);
            bytes.resize(end, 0);
        }
        bytes
    }
}

fn record_length(name: &CStr) -> usize {
    padded(NAME + name.to_bytes_with_nul().len())
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// The `d_type` of a record.
fn kind_byte(kind: FileType) -> u8 {
    match kind {
        FileType::Fifo => libc::DT_FIFO,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::Directory => libc::DT_DIR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::RegularFile => libc::DT_REG,
        FileType::Symlink => libc::DT_LNK,
        FileType::Socket => libc::DT_SOCK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = CStr::from_bytes_until_nul(&rest[NAME..length]).unwrap();
            names.push(name.to_str().unwrap().to_owned());
            rest = &rest[length..];
        }
        names
    }

    /// Lists all pages; `between` is called after each, with the names of that page.
    fn list(path: &Path, room: usize, backward: bool, between: &dyn Fn(&[String])) -> Vec<String> {
        let folder = open(path);
        let mut all = Vec::new();
        loop {
            let page = Page::next(folder.try_clone().unwrap(), room, backward, 0).unwrap().unwrap();
            page.turn().unwrap();
            if page.bytes.is_empty() {
                return all;
            }
            assert!(page.bytes.len() <= room);
            let listed = names(&page.bytes);
            between(&listed);
            all.extend(listed);
        }
    }

    fn folder_of(names: impl Iterator<Item = u32>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        names.for_each(|n| fs::write(folder.path().join(format!("file {n}")), "").unwrap());
        folder
    }

    #[test]
    fn the_order_is_the_names_own_and_the_other_one_is_its_reverse() {
        let (up, down) = (folder_of(0..300), folder_of((0..300).rev()));
        let forward = list(up.path(), 4096, false, &|_| {});
        assert_eq!(forward.iter().collect::<BTreeSet<_>>().len(), 302);
        assert_eq!(forward[..2], [".", ".."]);
        assert_eq!(forward, list(down.path(), 100_000, false, &|_| {}));
        let mut backward = list(down.path(), 500, true, &|_| {});
        backward[2..].reverse();
        assert_eq!(forward, backward);
        assert_ne!(forward[2..], {
            let mut sorted = forward[2..].to_vec();
            sorted.sort();
            sorted
        });
    }

    #[test]
    fn what_is_removed_while_it_is_listed_hides_nothing_of_the_rest() {
        let folder = folder_of(0..500);
        let listed = list(folder.path(), 1000, false, &|listed| {
            let files = listed.iter().filter(|name| name.starts_with('f'));
            files.for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
        });
        assert_eq!(listed.iter().filter(|name| name.starts_with('f')).count(), 500);
    }

    #[test]
    fn a_page_that_was_turned_back_comes_again() {
        let folder = folder_of(0..50);
        let descriptor = open(folder.path());
        let page = || Page::next(descriptor.try_clone().unwrap(), 300, true, 0).unwrap().unwrap();
        let first = page();
        first.turn().unwrap();
        first.turn_back();
        assert_eq!(page().bytes, first.bytes);
    }

    #[test]
    fn no_room_is_an_error_and_no_folder_is_left_to_the_kernel() {
        let folder = folder_of(0..3);
        assert_eq!(Page::next(open(folder.path()), 20, false, 0).err(), Some(Errno::INVAL));
        let file = open(&folder.path().join("file 1"));
        assert!(Page::next(file, 1000, false, 0).unwrap().is_none());
        assert!(Page::next(open(Path::new("/proc/self/task")), 1000, false, 0).unwrap().is_none());
    }

    #[test]
    fn two_names_of_one_place_are_listed_both() {
        let place = |name: &str, inode| ((7, name.as_bytes().to_vec()), (inode, FileType::RegularFile));
        let records = Records([place("a", 1), place("b", 2)].into());
        assert_eq!(names(&records.bytes(0)), ["a", "b"]);
    }
}
