//! Tells the program which commit it is built from. No other program is asked: a package's sources without `.git` have
//! none, or name it by the variable `HAB_BUILD_COMMIT`.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=HAB_BUILD_COMMIT");
    // Each commit would make a program that is tested at a desk be linked again.
    if std::env::var_os("HAB_BUILD_COMMIT").is_some() || std::env::var("PROFILE").as_deref() != Ok("release")
    {
        println!("cargo:rerun-if-changed=build.rs");
        return;
    }
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    if let Some(commit) = commit(&root.join(".git")) {
        println!("cargo:rustc-env=HAB_BUILD_COMMIT={commit}");
    }
}

/// The commit of HEAD in a repository, or in a work tree of one, whose `.git` is a file that names its folder.
fn commit(git: &Path) -> Option<String> {
    let folder = match fs::read_to_string(git) {
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => git.to_owned(),
    };
    let read = |path: PathBuf| {
        println!("cargo:rerun-if-changed={}", path.display());
        fs::read_to_string(path).ok()
    };
    let head = read(folder.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return id(&head) };
    let common = fs::read_to_string(folder.join("commondir")).ok();
    let common = common.map_or_else(|| folder.clone(), |text| folder.join(text.trim()));
    if let Some(loose) = read(common.join(name)) {
        return id(&loose);
    }
    let packed = read(common.join("packed-refs"))?;
    packed.lines().find_map(|line| line.strip_suffix(name).and_then(id))
}

fn id(text: &str) -> Option<String> {
    let text = text.trim();
    let hex = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| text.to_owned())
}
