//! Files, folders and links as an attacker with an account of this machine would leave them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use hab_trusted_file::{Error, Readers, Wrong, read, read_text};
use tempfile::TempDir;

const MOST: u64 = 1 << 20;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder for its owner alone, and a file in it.
fn file(bits: u32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "correct horse\n").unwrap();
    mode(&path, bits);
    (folder, path)
}

fn refused(path: &Path, readers: Readers) -> (String, PathBuf, Wrong) {
    let error = read(path, readers, MOST).unwrap_err();
    let said = error.to_string();
    match error {
        Error::Refused { at, wrong, path: asked } => {
            assert_eq!(asked, path);
            (said, at, wrong)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_its_owner_is_read_whole_and_up_to_its_limit() {
    let (folder, path) = file(0o600);
    for readers in [Readers::Everybody, Readers::GroupOfRoot, Readers::Nobody] {
        assert_eq!(read(&path, readers, MOST).unwrap(), b"correct horse\n");
    }
    assert_eq!(read_text(&path, Readers::Nobody, 14).unwrap(), "correct horse\n");
    let error = read(&path, Readers::Nobody, 13).unwrap_err().to_string();
    assert!(error.contains("secret: it has more than 13 bytes"), "{error}");
    let missing = read(&folder.path().join("none"), Readers::Nobody, MOST).unwrap_err();
    assert!(missing.is_missing());
    fs::write(&path, [0xff]).unwrap();
    assert!(read_text(&path, Readers::Nobody, 14).is_err());
}

#[test]
fn a_file_that_others_may_write_is_refused_with_the_command_that_mends_it() {
    for (bits, who, command) in [
        (0o620, "its group may write it (mode 0620)", "chmod g-w "),
        (0o602, "others may write it", "chmod o-w "),
        (0o666, "its group and others may write it", "chmod g-w,o-w "),
    ] {
        let (_folder, path) = file(bits);
        let (said, at, _) = refused(&path, Readers::Everybody);
        assert!(
            said.starts_with("refuse to read ") && said.contains(who) && said.contains(command),
            "{said}"
        );
        assert_eq!(at, path);
        // The command is the whole truth: after it the file is read.
        let command = read(&path, Readers::Everybody, MOST).unwrap_err().mend().unwrap();
        assert!(std::process::Command::new("sh").arg("-c").arg(command).status().unwrap().success());
        read(&path, Readers::Everybody, MOST).unwrap();
    }
}

#[test]
fn a_secret_that_others_may_read_is_refused_and_a_certificate_is_not() {
    let (_folder, path) = file(0o644);
    read(&path, Readers::Everybody, MOST).unwrap();
    for readers in [Readers::GroupOfRoot, Readers::Nobody] {
        let (said, _, _) = refused(&path, readers);
        assert!(said.contains("others may read it (mode 0644)") && said.contains("o-r"), "{said}");
    }
    mode(&path, 0o640);
    let (said, _, _) = refused(&path, Readers::Nobody);
    assert!(said.contains("its group may read it") && said.contains("chmod g-r"), "{said}");
    // Root chose the group; whoever else owns the file may have it by chance.
    assert_eq!(read(&path, Readers::GroupOfRoot, MOST).is_ok(), is_root());
}

#[test]
fn a_file_below_a_folder_that_others_may_write_is_refused_unless_it_is_sticky() {
    let (folder, _) = file(0o600);
    let (outer, inner) = (folder.path().join("outer"), folder.path().join("outer/inner"));
    fs::create_dir_all(&inner).unwrap();
    let path = inner.join("hab.toml");
    fs::write(&path, "x").unwrap();
    mode(&path, 0o600);
    for open in [&outer, &inner] {
        for bits in [0o777, 0o770, 0o757, 0o2775] {
            mode(open, bits);
            let (said, at, _) = refused(&path, Readers::Everybody);
            assert!(said.contains("leads to it, and ") && said.contains("write"), "{said}");
            assert_eq!(&at, open, "{bits:o}");
        }
        mode(open, 0o1777);
        read(&path, Readers::Nobody, MOST).unwrap();
        mode(open, 0o755);
    }
    // Where others may make names, one of several names may be theirs.
    mode(&inner, 0o1777);
    fs::hard_link(&path, inner.join("another")).unwrap();
    assert!(matches!(refused(&path, Readers::Nobody).2, Wrong::Names(2)));
}

#[test]
fn links_are_followed_through_folders_that_are_looked_at_too() {
    let folder = tempfile::tempdir().unwrap();
    // As Kubernetes mounts a secret: name -> ..data/name, ..data -> a folder with the time in its name.
    let dated = folder.path().join("..2026");
    fs::create_dir(&dated).unwrap();
    fs::write(dated.join("tls.key"), "k").unwrap();
    mode(&dated.join("tls.key"), 0o600);
    symlink("..2026", folder.path().join("..data")).unwrap();
    symlink("..data/tls.key", folder.path().join("tls.key")).unwrap();
    symlink(dated.join("../..data/tls.key"), folder.path().join("absolute")).unwrap();
    let (one, two) = (folder.path().join("tls.key"), folder.path().join("absolute"));
    read(&one, Readers::Nobody, MOST).unwrap();
    read(&two, Readers::Nobody, MOST).unwrap();
    mode(&dated, 0o777);
    for path in [&one, &two] {
        assert_eq!(refused(path, Readers::Nobody).1, dated);
    }
    mode(&dated, 0o700);
    mode(&dated.join("tls.key"), 0o604);
    assert_eq!(refused(&one, Readers::Nobody).1, dated.join("tls.key"));
    symlink("round", folder.path().join("round")).unwrap();
    assert_eq!(refused(&folder.path().join("round"), Readers::Nobody).2, Wrong::Links);
    // Above `/` is `/`.
    let many = format!("{}{}", "../".repeat(60), folder.path().join("absolute").display());
    symlink(many, folder.path().join("up")).unwrap();
    mode(&dated.join("tls.key"), 0o600);
    read(&folder.path().join("up"), Readers::Nobody, MOST).unwrap();
}

#[test]
fn what_is_not_a_file_is_refused_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink("/dev/zero", folder.path().join("zero")).unwrap();
    let (path, slashed) = (folder.path().to_owned(), folder.path().join("secret/"));
    fs::write(folder.path().join("secret"), "x").unwrap();
    for bad in [pipe, folder.path().join("zero"), path, slashed, "/".into()] {
        assert_eq!(refused(&bad, Readers::Everybody).2, Wrong::Kind, "{bad:?}");
    }
    assert!(read(&folder.path().join("secret/below"), Readers::Everybody, MOST).is_err());
    assert!(read(Path::new(""), Readers::Everybody, MOST).is_err());
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    if !is_root() {
        // Only root can give files away; what the rule is for everybody else is the same code with another number.
        return hab_skip::skip(hab_skip::Lack::Root, "only root can give files away");
    }
    let (folder, path) = file(0o600);
    chown(&path, Some(1234), None).unwrap();
    let (said, _, wrong) = refused(&path, Readers::Nobody);
    assert_eq!(wrong, Wrong::Owner { owner: 1234, us: 0 });
    assert!(said.contains("belongs to user 1234") && said.contains("`chown -h root /"), "{said}");
    chown(&path, Some(0), None).unwrap();
    chown(folder.path(), Some(1234), None).unwrap();
    assert_eq!(refused(&path, Readers::Nobody).1, folder.path());
    chown(folder.path(), Some(0), None).unwrap();
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    lchown(&link, Some(1234), None).unwrap();
    assert_eq!(refused(&link, Readers::Nobody).1, link);
}

#[test]
fn a_path_with_odd_characters_cannot_forge_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a\nerror: forged \u{202e}");
    fs::write(&path, "x").unwrap();
    mode(&path, 0o666);
    let (said, _, _) = refused(&path, Readers::Everybody);
    assert!(!said.contains('\n') && !said.contains('\u{202e}'), "{said}");
}
