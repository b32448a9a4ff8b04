//! `unpack ROOT DEB…`: what `ci/bench` measures against dpkg-deb and tar.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use hab_builder::unpack::{Options, Special, unpack_packages};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().unwrap();
    let packages: Vec<(String, PathBuf)> = arguments.map(|path| (path.clone(), path.into())).collect();
    let options = Options { merged_usr: true, special: Special::Skip, ..Options::default() };
    unpack_packages(&packages, Path::new(&root), &options, &|_| {}, &AtomicBool::new(false)).unwrap();
}
