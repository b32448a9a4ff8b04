use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::tests::{before, change, fifo, put, read, tree};
use super::*;
use crate::{Plan, Registry, Runtime, files};

/// Writes every file of a runtime's plan over one of the operator's own, and returns their paths.
fn written(root: &Path, runtime: Runtime) -> Vec<PathBuf> {
    let (url, authority) = ("https://farm:5000".to_owned(), Some("PEM".to_owned()));
    let files = files(runtime, &Registry { url, upstreams: vec!["docker.io".to_owned()], authority }).files;
    for path in files.keys() {
        put(root, path, "theirs");
    }
    let changes: Vec<_> = files.iter().map(|(path, text)| change(path, Some("theirs"), text)).collect();
    apply(root, &changes).unwrap();
    files.keys().map(|path| root.join(path)).collect()
}

fn refused(root: &Path, runtime: Runtime, part: &str) {
    let there = tree(root);
    let error = restore(runtime, root).unwrap_err();
    assert!(error.to_string().contains(part), "{part} not in: {error}");
    assert!(error.is_input() && error.hint().unwrap().starts_with("nothing was changed; "), "{error}");
    assert_eq!(tree(root), there, "{error}");
}

#[test]
fn a_restoration_puts_back_what_was_there_before_the_first_write_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/docker");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("daemon.json"), "mine").unwrap();
    let (had, new) = ("etc/docker/daemon.json", "etc/docker/certs.d/farm/ca.crt");
    apply(root.path(), &[change(had, Some("mine"), "one"), change(new, None, "one")]).unwrap();
    apply(root.path(), &[change(had, Some("one"), "two"), change(new, Some("one"), "two")]).unwrap();
    let restored = restore(Runtime::Docker, root.path()).unwrap().files;
    assert_eq!(restored.iter().map(|r| r.there).collect::<Vec<_>>(), [false, true]);
    assert_eq!(read(&folder.join("daemon.json")), "mine");
    assert!(!folder.join("certs.d/farm/ca.crt").exists());
    assert_eq!(read(&folder.join("daemon.json.after-hab-build.1")), "two");
    assert_eq!(restore(Runtime::Docker, root.path()).unwrap(), Restoration::default());
    // Once more from the start: the operator's file is the original again.
    apply(root.path(), &[change(had, Some("mine"), "three")]).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!(read(&folder.join("daemon.json")), "mine");
}

#[test]
fn a_kept_version_that_was_planted_is_refused_and_nothing_changes() {
    type Make = fn(&Path, &Path);
    let link: Make = |path, secret| symlink(secret, path).unwrap();
    let kinds: [(&str, Make); 8] = [
        ("it is a symbolic link", link),
        ("it is a symbolic link", |path, _| symlink("/nowhere", path).unwrap()),
        ("it is not a regular file", |path, _| fifo(path)),
        ("it is not a regular file", |path, _| fs::create_dir(path).unwrap()),
        ("it has 2 hard links, and this program made 1", |path, secret| fs::hard_link(secret, path).unwrap()),
        ("its group may write it (mode 0664)", |path, _| mode(path, 0o664)),
        ("others may write it (mode 0606)", |path, _| mode(path, 0o606)),
        ("its group and others may write it (mode 0666)", |path, _| mode(path, 0o666)),
    ];
    for runtime in Runtime::ALL {
        let root = tempfile::tempdir().unwrap();
        let secret = root.path().join("shadow");
        fs::write(&secret, "root:hash:1").unwrap();
        for file in written(root.path(), runtime) {
            let version = before(&file, "1");
            for (part, make) in kinds {
                let aside = root.path().join("aside");
                fs::rename(&version, &aside).unwrap();
                make(&version, &secret);
                refused(root.path(), runtime, &format!("put back {}: {part}", version.display()));
                let folder = version.is_dir() && !version.is_symlink();
                if folder { fs::remove_dir(&version) } else { fs::remove_file(&version) }.unwrap();
                fs::rename(&aside, &version).unwrap();
            }
            // Versions in between and the note that there was no file are refused as well.
            for (end, part) in [("2", "put back"), ("none", "believe")] {
                let planted = before(&file, end);
                link(&planted, &secret);
                let part = format!("{part} {}: it is a symbolic link", planted.display());
                refused(root.path(), runtime, &part);
                fs::remove_file(&planted).unwrap();
            }
            // So is the file in whose place the original would come.
            let aside = root.path().join("aside");
            fs::rename(&file, &aside).unwrap();
            fifo(&file);
            refused(root.path(), runtime, &format!("write over {}: it is not a regular", file.display()));
            fs::rename(&aside, &file).unwrap();
        }
        let restored = restore(runtime, root.path()).unwrap().files;
        assert!(restored.iter().all(|restored| restored.there && read(&restored.path) == "theirs"));
        assert_eq!(restored.len(), written(root.path(), runtime).len(), "{runtime:?}");
        assert_eq!(read(&secret), "root:hash:1");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::write(path, "planted").unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_kept_version_of_somebody_else_or_of_another_group_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can give files away");
    }
    let root = tempfile::tempdir().unwrap();
    for file in written(root.path(), Runtime::Containerd) {
        let version = before(&file, "1");
        std::os::unix::fs::chown(&version, Some(1234), None).unwrap();
        let part = format!("put back {}: it belongs to user 1234", version.display());
        refused(root.path(), Runtime::Containerd, &part);
        std::os::unix::fs::chown(&version, Some(0), Some(1234)).unwrap();
        // The group of the file may write it, but the version has another group.
        for path in [&file, &version] {
            fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap();
        }
        let part = format!("put back {}: its group may write it (mode 0664)", version.display());
        refused(root.path(), Runtime::Containerd, &part);
        std::os::unix::fs::chown(&version, Some(0), Some(0)).unwrap();
    }
    assert!(restore(Runtime::Containerd, root.path()).unwrap().files.iter().all(|restored| restored.there));
}

#[test]
fn a_version_that_others_may_write_is_put_back_where_they_may_write_the_file_as_well() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("etc/docker/daemon.json");
    put(root.path(), "etc/docker/daemon.json", "mine");
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    apply(root.path(), &[change("etc/docker/daemon.json", Some("mine"), "ours")]).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o660)).unwrap();
    refused(root.path(), Runtime::Docker, "others may write it (mode 0666)");
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!(read(&file), "mine");
}

#[test]
fn what_only_looks_like_a_version_is_left_and_said() {
    let ends = ["99999999999999999999", "1001", "0", "01", "-1", "+1", "1 ", "one", "None", "1.bak", ""];
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/docker/daemon.json", "mine");
    let file = root.path().join("etc/docker/daemon.json");
    for end in ends {
        fs::write(before(&file, end), "planted").unwrap();
    }
    let there = tree(root.path());
    let Restoration { files, strange, unread } = restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!((files, unread), (Vec::new(), Vec::new()));
    let mut expected = ends.map(|end| before(&file, end));
    expected.sort();
    assert_eq!(strange, expected);
    assert_eq!(tree(root.path()), there);
    // They stop neither a write nor its restoration.
    let placed = apply(root.path(), &[change("etc/docker/daemon.json", Some("mine"), "ours")]).unwrap();
    assert_eq!(placed[0].earlier.as_deref(), Some(before(&file, "1").as_path()));
    let restored = restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!((restored.files.len(), restored.strange.len()), (1, ends.len()));
    assert_eq!(tree(root.path()).len(), there.len() + 1, "what was taken away is kept");
    assert_eq!(read(&file), "mine");
}

#[test]
fn without_its_first_version_a_file_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let path = "etc/docker/daemon.json";
    let file = root.path().join(path);
    put(root.path(), path, "one");
    for (old, new) in [("one", "two"), ("two", "three"), ("three", "four")] {
        apply(root.path(), &[change(path, Some(old), new)]).unwrap();
    }
    fs::rename(before(&file, "1"), root.path().join("away")).unwrap();
    refused(
        root.path(),
        Runtime::Docker,
        "daemon.json.before-hab-build.2 is beside it, but no version with the number 1",
    );
    // A version in between may be missing.
    fs::rename(root.path().join("away"), before(&file, "1")).unwrap();
    fs::remove_file(before(&file, "2")).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!(read(&file), "one");
}

#[test]
fn what_was_killed_half_way_is_made_good_by_doing_it_again() {
    let path = "etc/docker/daemon.json";
    let begun = |first: Option<&str>| {
        let root = tempfile::tempdir().unwrap();
        if let Some(first) = first {
            put(root.path(), path, first);
        }
        apply(root.path(), &[change(path, first, "two")]).unwrap();
        apply(root.path(), &[change(path, Some("two"), "three")]).unwrap();
        let file = root.path().join(path);
        (root, file)
    };
    // A write that kept the file and did not replace it.
    let root = tempfile::tempdir().unwrap();
    put(root.path(), path, "mine");
    let file = root.path().join(path);
    fs::hard_link(&file, before(&file, "1")).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!((read(&file), before(&file, "1").exists()), ("mine".to_owned(), false));
    // A restoration that gave a version its new name and did not remove the old one.
    let (root, file) = begun(Some("one"));
    fs::hard_link(before(&file, "2"), format!("{}.after-hab-build.2", file.display())).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!(read(&file), "one");
    assert_eq!(restore(Runtime::Docker, root.path()).unwrap(), Restoration::default());
    // A restoration that removed a file of which there was none at first.
    let (root, file) = begun(None);
    fs::remove_file(&file).unwrap();
    fs::remove_file(before(&file, "1")).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert!(!file.exists() && !before(&file, "none").exists());
}

#[test]
fn what_is_written_where_settings_and_links_lead_is_put_back_there() {
    let url = "https://farm:5000".to_owned();
    let registry =
        Registry { url, upstreams: vec!["docker.io".to_owned()], authority: Some("PEM".to_owned()) };
    for runtime in Runtime::ALL {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| put(root.path(), path, text);
        put(
            "etc/containerd/config.toml",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/opt/a/b/c/certs.d\"\n",
        );
        put("srv/quay/hosts.toml", "server = \"https://quay.io\"\n");
        fs::create_dir_all(root.path().join("opt/a/b/c/certs.d")).unwrap();
        symlink("/srv/quay", root.path().join("opt/a/b/c/certs.d/quay.io")).unwrap();
        for program in ["k3s", "rke2"] {
            put(&format!("etc/rancher/{program}/config.yaml"), "private-registry: /srv/registries.yaml\n");
        }
        put("srv/registries.yaml", "mirrors:\n  quay.io:\n    endpoint: [\"https://quay.example\"]\n");
        put("srv/registries.conf", "unqualified-search-registries = [\"docker.io\"]\n");
        put("srv/policy.json", "{}");
        put("srv/daemon.json", "{\"log-driver\": \"journald\"}");
        for (link, to) in [
            ("etc/containers/registries.conf.d/zz-hab-build.conf", "/srv/registries.conf"),
            ("etc/containers/policy.json", "/srv/policy.json"),
            ("etc/docker/daemon.json", "/srv/daemon.json"),
        ] {
            fs::create_dir_all(root.path().join(link).parent().unwrap()).unwrap();
            symlink(to, root.path().join(link)).unwrap();
        }
        let files = || -> Vec<_> {
            let is_file = |line: &String| line.contains(" 100") || line.contains(" 120");
            tree(root.path()).into_iter().filter(|l| is_file(l) && !l.contains(".after-hab-build.")).collect()
        };
        let there = files();
        let plan = Plan::new(runtime, &registry, root.path()).unwrap();
        assert!(plan.changes.len() >= 2, "{runtime:?}");
        apply(root.path(), &plan.changes).unwrap();
        assert_ne!(files(), there, "{runtime:?}");
        let restored = restore(runtime, root.path()).unwrap();
        assert_eq!(restored.files.len(), plan.changes.len(), "{runtime:?}");
        assert_eq!((restored.strange, restored.unread), (Vec::new(), Vec::new()), "{runtime:?}");
        assert_eq!(files(), there, "{runtime:?}");
    }
}

#[test]
fn a_link_that_came_where_a_file_was_written_is_not_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("etc/docker/daemon.json");
    put(root.path(), "etc/docker/daemon.json", "mine");
    apply(root.path(), &[change("etc/docker/daemon.json", Some("mine"), "ours")]).unwrap();
    fs::rename(&file, root.path().join("elsewhere")).unwrap();
    symlink("/elsewhere", &file).unwrap();
    refused(root.path(), Runtime::Docker, &format!("write over {}: it is a symbolic link", file.display()));
    fs::remove_file(&file).unwrap();
    restore(Runtime::Docker, root.path()).unwrap();
    assert_eq!(read(&file), "mine");
}

#[test]
fn settings_that_lead_nobody_knows_where_are_said() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/containerd/certs.d/docker.io/hosts.toml", "");
    let path = "etc/containerd/certs.d/docker.io/hosts.toml";
    apply(root.path(), &[change(path, Some(""), "ours")]).unwrap();
    put(root.path(), "etc/containerd/config.toml", "version = [");
    let restored = restore(Runtime::Containerd, root.path()).unwrap();
    assert_eq!(restored.files.len(), 1);
    assert_eq!(restored.unread[0].path, "/etc/containerd/config.toml");
}
