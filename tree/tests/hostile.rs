//! Folders that were made to keep whoever walks or removes them busy, or to lead them elsewhere.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use hab_tree::{copy, give_away, measure, remove, walk};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with};
use tempfile::TempDir;

fn folder(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A folder in a folder in a folder; the last has a file.
fn chain(top: &Path, depth: usize) {
    fs::create_dir_all(top).unwrap();
    let mut at = folder(top);
    for _ in 0..depth {
        mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    openat(&at, "leaf", flags, Mode::from_raw_mode(0o644)).unwrap();
}

#[test]
fn a_chain_of_100_000_folders_is_measured_and_removed() {
    let world = TempDir::new().unwrap();
    let top = world.path().join("top");
    chain(&top, 100_000);
    // The main thread's stack is no help: this one has a small one.
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let measured = small.spawn({
        let top = top.clone();
        move || {
            let measured = measure(folder(&top), &mut BTreeSet::new()).unwrap();
            remove(&top).unwrap();
            measured
        }
    });
    let measured = measured.unwrap().join().unwrap();
    assert_eq!((measured.entries, measured.unseen), (100_001, 0));
    assert!(!top.exists());
}

#[test]
fn two_chains_side_by_side_are_removed_with_what_has_the_names_that_removal_uses() {
    let world = TempDir::new().unwrap();
    let top = world.path().join("top");
    for name in ["a", "b", ".removed-1", ".removed-2"] {
        chain(&top.join(name), 200);
    }
    fs::write(top.join(".removed-3"), "").unwrap();
    remove(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn a_link_is_removed_and_what_it_points_at_stays() {
    let world = TempDir::new().unwrap();
    let (top, kept) = (world.path().join("top"), world.path().join("kept"));
    chain(&kept, 3);
    chain(&top, 40);
    symlink(&kept, top.join("link")).unwrap();
    symlink(&kept, top.join("d/d/link")).unwrap();
    remove(&top).unwrap();
    assert!(!top.exists() && kept.join("d/d/d/leaf").exists());
    symlink(&kept, &top).unwrap();
    remove(&top).unwrap();
    assert!(top.symlink_metadata().is_err() && kept.join("d/d/d/leaf").exists());
    remove(&top).unwrap();
}

#[test]
fn folders_without_any_permission_are_removed() {
    let world = TempDir::new().unwrap();
    let top = world.path().join("top");
    chain(&top, 60);
    for path in ["d/d/d", "d/d", "d", ""] {
        fs::set_permissions(top.join(path), fs::Permissions::from_mode(0o0)).unwrap();
    }
    remove(&top).unwrap();
    assert!(top.symlink_metadata().is_err());
}

/// Exchanges two names for as long as `work` takes.
fn while_exchanging(first: &Path, second: &Path, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, first, CWD, second, RenameFlags::EXCHANGE);
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_folder_that_is_exchanged_for_a_link_leads_no_walk_elsewhere() {
    let world = TempDir::new().unwrap();
    let (top, kept) = (world.path().join("top"), world.path().join("kept"));
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("secret"), "").unwrap();
    fs::create_dir_all(top.join("x/deep")).unwrap();
    symlink(&kept, top.join("y")).unwrap();
    while_exchanging(&top.join("x"), &top.join("y"), || {
        for _ in 0..3000 {
            walk(folder(&top), &mut |entry| {
                assert_ne!(entry.name.to_bytes(), b"secret");
                Ok(())
            })
            .unwrap();
        }
    });
    // Nor does it hide the folder: whoever is told that something was not seen must be able to believe that.
    while_exchanging(&top.join("x"), &top.join("y"), || {
        for _ in 0..3000 {
            assert_eq!(measure(folder(&top), &mut BTreeSet::new()).unwrap().unseen, 0);
        }
    });
    let owner = rustix::process::geteuid().as_raw();
    while_exchanging(&top.join("x"), &top.join("y"), || {
        give_away(folder(&top), owner, rustix::process::getegid().as_raw()).unwrap();
        remove(&top).unwrap();
    });
    assert!(kept.join("secret").exists() && !top.exists());
}

#[test]
fn a_folder_that_is_moved_up_leads_no_walk_out_of_the_top() {
    let world = TempDir::new().unwrap();
    let top = world.path().join("top");
    fs::write(world.path().join("outside"), "").unwrap();
    // Deep enough that the way back goes by "..": the folders far above were let go.
    chain(&top, 100);
    let deep = top.join(["d"; 50].join("/"));
    let up = top.join("up");
    let mut moved = false;
    let walked = walk(folder(&top), &mut |entry| {
        assert_ne!(entry.name.to_bytes(), b"outside");
        if entry.name.to_bytes() == b"leaf" && !moved {
            fs::rename(&deep, &up).unwrap();
            moved = true;
        }
        Ok(())
    })
    .unwrap();
    assert!(moved && walked.unseen > 0, "{walked:?}");
}

#[test]
fn a_copy_has_files_links_and_folders_and_ends_at_its_limit() {
    let world = TempDir::new().unwrap();
    let (top, to) = (world.path().join("top"), world.path().join("to"));
    chain(&top, 3000);
    fs::write(top.join("d/program"), "twelve bytes").unwrap();
    fs::set_permissions(top.join("d/program"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("/etc/shadow", top.join("d/link")).unwrap();
    rustix::fs::mknodat(CWD, top.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    copy(folder(&top).as_fd(), &to, 12).unwrap();
    assert_eq!(fs::read_to_string(to.join("d/program")).unwrap(), "twelve bytes");
    assert_eq!(fs::metadata(to.join("d/program")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(to.join("d/link")).unwrap(), Path::new("/etc/shadow"));
    assert!(!to.join("pipe").exists() && to.join("d/d/d").is_dir());
    let refused = copy(folder(&top), &world.path().join("small"), 11).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::FileTooLarge);
    remove(&top).unwrap();
    remove(&to).unwrap();
}

#[test]
fn another_file_system_below_is_left_alone() {
    let world = TempDir::new().unwrap();
    let top = world.path().join("top");
    fs::create_dir_all(top.join("mounted")).unwrap();
    File::create(top.join("file")).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(top.join("mounted"))
        .stderr(std::process::Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        return hab_skip::skip(hab_skip::Lack::Mount, "a file system inside a tree");
    }
    fs::write(top.join("mounted/kept"), "").unwrap();
    let walked = walk(folder(&top), &mut |entry| {
        assert_ne!(entry.name.to_bytes(), b"kept");
        Ok(())
    });
    assert_eq!(walked.unwrap().unseen, 1);
    let refused = remove(&top).unwrap_err();
    assert!(top.join("mounted/kept").exists(), "{refused}");
    assert!(std::process::Command::new("umount").arg(top.join("mounted")).status().unwrap().success());
    remove(&top).unwrap();
}
