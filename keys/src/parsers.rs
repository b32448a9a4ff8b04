//! Parsers of bytes from outside that have no other public entry; only the fuzz targets of `keys/fuzz` use them.

use std::io::Read;

use crate::git_tree;

/// The id of the git tree in a tar archive, in hexadecimal digits; the error is a sentence about what is wrong with it.
pub fn git_tree(tar: &mut dyn Read) -> Result<String, String> {
    git_tree::of_tar(tar).map(|hashed| hashed.tree.to_string())
}
