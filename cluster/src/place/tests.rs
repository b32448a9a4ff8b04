use std::os::unix::fs::symlink;

use super::*;
use crate::{Registry, Runtime, Wrong};

pub(super) fn change(path: &str, before: Option<&str>, after: &str) -> Change {
    let (before, after) = (before.map(str::to_owned), Some(after.to_owned()));
    Change { path: path.to_owned(), before, after }
}

pub(super) fn put(root: &Path, path: &str, text: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), text).unwrap();
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// An earlier version of a file.
pub(super) fn before(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}.before-hab-build.{end}", path.display()))
}

pub(super) fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Every name below a folder, with its kind, its permissions, and its text or the link's target.
pub(super) fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        let what = match about.file_type() {
            kind if kind.is_file() => read(&path),
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            _ => String::new(),
        };
        found.push(format!("{} {:o} {what:?}", path.display(), about.mode()));
        if about.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn every_earlier_version_of_a_file_is_kept_with_its_mode() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("etc/docker/daemon.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "mine").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let path = "etc/docker/daemon.json";
    apply(root.path(), &[change(path, Some("mine"), "one")]).unwrap();
    let placed = apply(root.path(), &[change(path, Some("one"), "two")]).unwrap();
    assert_eq!(read(&file), "two");
    assert_eq!(read(&before(&file, "1")), "mine");
    assert_eq!(placed[0].earlier.as_deref(), Some(before(&file, "2").as_path()));
    assert_eq!(read(&before(&file, "2")), "one");
    for path in [&file, &before(&file, "1")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let names = fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(names, 3, "nothing half written is left");
}

#[test]
fn what_changed_since_the_plan_is_not_written_over() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "theirs").unwrap();
    let error = apply(root.path(), &[change("a", Some("mine"), "ours")]).unwrap_err();
    assert!(error.to_string().contains("changed while"), "{error}");
    assert_eq!(read(&root.path().join("a")), "theirs");
    assert!(apply(root.path(), &[change("a", None, "ours")]).is_err());
}

#[test]
fn a_link_stays_a_link_and_what_it_leads_to_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("opt")).unwrap();
    fs::write(root.path().join("opt/real"), "old").unwrap();
    symlink("/opt/real", root.path().join("named")).unwrap();
    apply(root.path(), &[change("named", Some("old"), "new")]).unwrap();
    assert!(fs::symlink_metadata(root.path().join("named")).unwrap().is_symlink());
    assert_eq!(read(&root.path().join("opt/real")), "new");
    assert_eq!(read(&root.path().join("opt/real.before-hab-build.1")), "old");
}

#[test]
fn nothing_is_written_where_one_of_the_files_is_no_file() {
    type Make = fn(&Path);
    let kinds: [Make; 3] = [
        fifo,
        |path| fs::create_dir(path).unwrap(),
        |path| {
            drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        },
    ];
    for make in kinds {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "a", "old");
        make(&root.path().join("b"));
        let there = tree(root.path());
        let error =
            apply(root.path(), &[change("a", Some("old"), "new"), change("b", None, "new")]).unwrap_err();
        assert!(error.is_input() && error.to_string().ends_with("/b: it is not a regular file"), "{error}");
        assert!(error.hint().unwrap().starts_with("nothing was changed; "));
        assert_eq!(tree(root.path()), there);
    }
}

#[test]
fn a_file_that_has_more_names_is_kept_as_a_file_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (file, other) = (root.path().join("etc/docker/daemon.json"), root.path().join("copy-of-etc"));
    put(root.path(), "etc/docker/daemon.json", "mine");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&file, &other).unwrap();
    apply(root.path(), &[change("etc/docker/daemon.json", Some("mine"), "ours")]).unwrap();
    let kept = fs::metadata(before(&file, "1")).unwrap();
    assert_eq!((kept.nlink(), kept.mode() & 0o777), (1, 0o640));
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!((read(&file), read(&other)), ("mine".to_owned(), "mine".to_owned()));
}

#[test]
fn a_change_that_takes_a_file_away_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/docker/certs.d/farm/ca.crt", "PEM");
    let gone = Change { after: None, ..change("etc/docker/certs.d/farm/ca.crt", Some("PEM"), "") };
    let placed = apply(root.path(), &[gone]).unwrap();
    let file = root.path().join("etc/docker/certs.d/farm/ca.crt");
    assert!(placed[0].gone && !file.exists());
    assert_eq!(read(placed[0].earlier.as_deref().unwrap()), "PEM");
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!(read(&file), "PEM");
}

#[test]
fn a_number_comes_after_those_that_were_given() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a");
    put(root.path(), "a", "new");
    put(root.path(), "a.before-hab-build.2", "old");
    apply(root.path(), &[change("a", Some("new"), "newer")]).unwrap();
    assert_eq!(read(&before(&file, "3")), "new");
    put(root.path(), "a.before-hab-build.1000", "last");
    let error = apply(root.path(), &[change("a", Some("newer"), "newest")]).unwrap_err();
    assert!(error.to_string().contains("a version with the last number, 1000, is beside it"), "{error}");
    assert_eq!(read(&file), "newer");
}

#[test]
fn what_somebody_else_may_have_planted_is_not_written_over() {
    if !rustix::process::geteuid().is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can give files away");
    }
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/shadow", "root:hash:1\n");
    let link = root.path().join("etc/containers/registries.conf.d/zz-hab-build.conf");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink("/etc/shadow", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
    let registry = Registry { url: "http://farm:5000".to_owned(), upstreams: Vec::new(), authority: None };
    let plan = || crate::Plan::new(Runtime::Crio, &registry, root.path()).unwrap_err();
    let said = format!("refuse to follow {}: it belongs to user 1234, neither to root", link.display());
    assert!(plan().to_string().starts_with(&said), "{}", plan());
    assert!(plan().hint().unwrap().contains("chown -h root"));
    let path = "etc/containers/registries.conf.d/zz-hab-build.conf";
    let error = apply(root.path(), &[change(path, Some("root:hash:1\n"), "ours")]).unwrap_err();
    assert!(error.to_string().starts_with(&said), "{error}");
    assert_eq!(read(&root.path().join("etc/shadow")), "root:hash:1\n");
    // A file of somebody else is refused like a link.
    fs::remove_file(&link).unwrap();
    fs::write(&link, "theirs").unwrap();
    std::os::unix::fs::chown(&link, Some(1234), None).unwrap();
    let error = apply(root.path(), &[change(path, Some("theirs"), "ours")]).unwrap_err();
    let PlaceError::File(FileError::Refused { wrong, .. }) = error else { panic!("{error}") };
    assert_eq!(wrong, Wrong::Owner { owner: 1234, us: 0 });
    assert!(matches!(plan(), crate::PlanError::File(_)), "{}", plan());
}
