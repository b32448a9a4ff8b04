use std::os::unix::fs::symlink;

use super::*;

#[test]
fn links_of_a_host_below_a_root_are_followed_within_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry { url: "http://farm:5000".to_owned(), upstreams: Vec::new(), authority: None };
    let none = BTreeMap::new();
    let mut host = Host::new(&registry, root.path(), &none);
    fs::create_dir_all(root.path().join("opt/settings")).unwrap();
    fs::write(root.path().join("opt/settings/a"), "here").unwrap();
    symlink("/opt/settings", root.path().join("etc")).unwrap();
    symlink("../../../../opt/settings/a", root.path().join("opt/settings/b")).unwrap();
    symlink("c", root.path().join("opt/settings/c")).unwrap();
    assert_eq!(host.text("etc/a").as_deref(), Some("here"));
    assert_eq!(host.text("etc/b").as_deref(), Some("here"));
    assert_eq!(host.text("etc/none"), None);
    assert!(host.found.is_empty());
    assert_eq!(host.text("etc/c"), None);
    assert_eq!(host.found[0].kind, Kind::Unknown);
}

#[test]
fn what_is_no_file_is_neither_read_nor_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry { url: "http://farm:5000".to_owned(), upstreams: Vec::new(), authority: None };
    let none = BTreeMap::new();
    let mut host = Host::new(&registry, root.path(), &none);
    let made = std::process::Command::new("mkfifo").arg(root.path().join("pipe")).status().unwrap();
    assert!(made.success());
    drop(std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap());
    symlink("pipe", root.path().join("link")).unwrap();
    for path in ["pipe", "socket", "link"] {
        assert_eq!(host.text(path), None);
        assert_eq!(host.found.pop().unwrap().words, "cannot be read: it is not a file", "{path}");
    }
}

#[test]
fn what_is_planned_stands_before_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry { url: "http://farm:5000".to_owned(), upstreams: Vec::new(), authority: None };
    fs::create_dir_all(root.path().join("etc/x.d")).unwrap();
    fs::write(root.path().join("etc/x.d/b.toml"), "old").unwrap();
    let planned = [("etc/x.d/b.toml", "new"), ("etc/x.d/c.toml", "new"), ("etc/y/z", "")];
    let planned = planned.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let mut host = Host::new(&registry, root.path(), &planned);
    assert_eq!(host.text("etc/x.d/b.toml").as_deref(), Some("new"));
    assert_eq!(host.matching("/etc/*.d/*.toml"), ["etc/x.d/b.toml", "etc/x.d/c.toml"]);
    assert!(host.is_folder("etc/y") && host.has("etc/y") && !host.has("etc/q"));
}
