//! `layer FOLDER [zstd]`: one layer of a folder's files, to stdout, compressed as images are if nothing else is said;
//! what `ci/bench` measures against tar, zstd and sha256sum.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::PathBuf;

use hab_image::{Compression, Layer};

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap());
    let mut layer = Layer::new(0).unwrap();
    let mut waiting = vec![folder.clone()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
            if metadata.is_dir() {
                waiting.push(path);
            } else if metadata.is_file() {
                layer.file(&name, false, metadata.len(), move || File::open(path)).unwrap();
            }
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let compression = match std::env::args().nth(2).as_deref() {
        None => Compression::default(),
        Some("zstd") => Compression::Zstd,
        Some(other) => panic!("{other} is no compression"),
    };
    let packed = layer.pack(compression, threads, &mut std::io::stdout().lock()).unwrap();
    eprintln!("{} {}", packed.descriptor.digest, packed.diff_id);
}
