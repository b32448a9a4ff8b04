//! What reads bytes of strangers and has no other way in, for the fuzz targets of `keys/fuzz` alone.

use std::io::Read;

use crate::git_tree;

/// The id of the git tree that a tar archive holds, in hexadecimal digits; or in words why it holds none.
pub fn git_tree(tar: &mut dyn Read) -> Result<String, String> {
    git_tree::of_tar(tar).map(|hashed| hashed.tree.to_string())
}
