//! The library that is loaded into every dynamic program of a sandbox (`preload/preload.c`). It makes up the date and
//! inode numbers, which programs read without a call that the helper answers.
//!
//! The view has the library, and a line for it in `/etc/ld.so.preload`, which glibc's loader reads. A root with another
//! C library does not get it, because it would do nothing there.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::namespaces::SHIFT;
use crate::vary::{Varied, Vary};

/// The library's path inside.
pub(crate) const LIBRARY: &str = "/usr/lib/hab-preload.so";
/// The path inside of the loader's list, ld.so(8).
pub(crate) const LIST: &str = "/etc/ld.so.preload";

/// The most bytes of a C library that are searched.
const MOST_LIBRARY: u64 = 16 << 20;

static CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));
/// The mark before the settings in the library.
const MARK: &[u8; 16] = b"hab-sandbox-set\0";
/// The key that inode numbers are XORed with. It has a bit that no inode number has, or a file could get the number 0,
/// which readdir(3) leaves out.
const FILE: u64 = (1 << 40) | 0x5a5a5;
const DISK: u64 = 0x55;

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
#[cfg(target_arch = "x86_64")]
const DEBIAN: &str = "lib/x86_64-linux-gnu/libc.so.6";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "lib/ld-linux-aarch64.so.1";
#[cfg(target_arch = "aarch64")]
const DEBIAN: &str = "lib/aarch64-linux-gnu/libc.so.6";

/// The key that inode numbers are XORed with; 0 does not change them.
pub(crate) fn file_key(varied: &Varied) -> u64 {
    if varied.has(Vary::Numbers) { FILE } else { 0 }
}

/// The paths where glibc's own library lies: in Debian, and in other distributions.
const LIBRARIES: [&str; 3] = [DEBIAN, "lib64/libc.so.6", "lib/libc.so.6"];
/// A symbol of glibc 2.34 and later, where one library has all functions that ours calls.
const NEEDED: &[u8] = b"pthread_cond_clockwait";

/// Whether programs of the root at `root` would load the library, and have the functions that it calls.
pub(crate) fn works_in(root: impl AsFd) -> bool {
    let open = |path: &str| {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok().map(fs::File::from)
    };
    let library = LIBRARIES.iter().find_map(|path| open(path));
    let mut bytes = Vec::new();
    let read = library.and_then(|file| file.take(MOST_LIBRARY).read_to_end(&mut bytes).ok());
    open(LOADER).is_some() && read.is_some() && bytes.windows(NEEDED.len()).any(|window| window == NEEDED)
}

/// Writes the library and the list into `folder`, and returns the path inside for each. `theirs` is the root's own
/// list; the new one repeats it.
pub(crate) fn lay_out(
    folder: &Path,
    varied: &Varied,
    theirs: &[u8],
) -> io::Result<[(PathBuf, &'static str); 2]> {
    let (library, list) = (folder.join("library"), folder.join("list"));
    fs::write(&library, code(varied)?)?;
    fs::write(&list, [LIBRARY.as_bytes(), b"\n", theirs].concat())?;
    Ok([(library, LIBRARY), (list, LIST)])
}

/// The root's own list; empty if it has none.
pub(crate) fn list_of(root: impl AsFd) -> io::Result<Vec<u8>> {
    let path = LIST.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut list = Vec::new();
    if let Ok(file) = openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        fs::File::from(file).take(64 << 10).read_to_end(&mut list)?;
    }
    Ok(list)
}

fn code(varied: &Varied) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let or_nothing = |vary, value| if varied.has(vary) { value } else { 0 };
    let settings = [
        or_nothing(Vary::Date, SHIFT.as_secs()),
        now.as_secs(),
        file_key(varied),
        or_nothing(Vary::Numbers, DISK),
    ];
    let mut code = CODE.to_vec();
    let mark = code.windows(MARK.len()).position(|window| window == MARK).map(|at| at + MARK.len());
    let place = mark.and_then(|at| code.get_mut(at..at + 8 * settings.len()));
    let place = place.ok_or_else(|| io::Error::other("the preloaded library has no settings"))?;
    for (to, setting) in place.chunks_exact_mut(8).zip(settings) {
        to.copy_from_slice(&setting.to_ne_bytes());
    }
    Ok(code)
}
