use std::fs;

use serde_json::json;

use super::tests::{lay_for, put};
use super::*;
use crate::place::restore;

const DAEMON: &str = "etc/docker/daemon.json";

fn farm(url: &str) -> Registry {
    let authority = url.starts_with("https").then(|| "PEM".to_owned());
    Registry { url: url.to_owned(), upstreams: vec!["docker.io".to_owned()], authority }
}

fn insecure(root: &Path) -> serde_json::Value {
    let text = fs::read_to_string(root.join(DAEMON)).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["insecure-registries"].take()
}

/// The files that a host's programs read, without the versions that are kept beside them.
fn live(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(live(&path));
        } else if !path.to_string_lossy().contains("-hab-build.") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn what_was_written_for_another_farm_goes_and_what_was_not_stays() {
    let root = tempfile::tempdir().unwrap();
    let theirs = "{\"insecure-registries\": [\"old:1\", \"third:5000\"], \"log-driver\": \"journald\"}";
    put(root.path(), DAEMON, theirs);
    lay_for(Runtime::Docker, &farm("http://first:5000"), root.path());
    assert_eq!(insecure(root.path()), json!(["old:1", "third:5000", "first:5000"]));
    // Entries that the operator adds meanwhile are the operator's, wherever in the list they stand.
    let text = fs::read_to_string(root.path().join(DAEMON)).unwrap();
    put(root.path(), DAEMON, &text.replace("\"first:5000\"", "\"mine:1\", \"first:5000\", \"mine:2\""));
    let plan = lay_for(Runtime::Docker, &farm("http://second:5000"), root.path());
    assert_eq!(insecure(root.path()), json!(["old:1", "third:5000", "mine:1", "mine:2", "second:5000"]));
    let said = |note: &&String| note.starts_with("first:5000, which was written for another farm, is");
    assert_eq!(plan.notes.iter().filter(said).count(), 1, "{:?}", plan.notes);
    // An address that the operator wrote stays, even if a farm with that address is written and replaced.
    lay_for(Runtime::Docker, &farm("http://third:5000"), root.path());
    assert_eq!(insecure(root.path()), json!(["old:1", "third:5000", "mine:1", "mine:2"]));
    lay_for(Runtime::Docker, &farm("https://fourth:5000"), root.path());
    assert_eq!(insecure(root.path()), json!(["old:1", "third:5000", "mine:1", "mine:2"]));
    // A farm that has TLS now is not asked without it any more.
    lay_for(Runtime::Docker, &farm("http://fifth:5000"), root.path());
    lay_for(Runtime::Docker, &farm("https://fifth:5000"), root.path());
    assert_eq!(insecure(root.path()), json!(["old:1", "third:5000", "mine:1", "mine:2"]));
    let restored = restore(Runtime::Docker, root.path()).unwrap().files;
    assert_eq!(fs::read_to_string(root.path().join(DAEMON)).unwrap(), theirs);
    assert!(restored.iter().any(|file| !file.there && file.path.ends_with("etc/docker/hab-build.json")));
}

#[test]
fn what_cannot_be_told_to_be_another_farms_stays_and_is_said() {
    let root = tempfile::tempdir().unwrap();
    let untold = |plan: &Plan| plan.notes.iter().any(|note| note.contains("below insecure-registries stays"));
    put(root.path(), DAEMON, "{\"insecure-registries\": [\"mine:1\"]}");
    assert!(!untold(&lay_for(Runtime::Docker, &farm("http://first:5000"), root.path())));
    fs::remove_file(root.path().join("etc/docker/hab-build.json")).unwrap();
    let plan = lay_for(Runtime::Docker, &farm("http://second:5000"), root.path());
    assert!(untold(&plan) && plan.notes[0].starts_with("mine:1, first:5000 below "), "{:?}", plan.notes);
    assert_eq!(insecure(root.path()), json!(["mine:1", "first:5000", "second:5000"]));
    // From here on the record is there again.
    assert!(!untold(&lay_for(Runtime::Docker, &farm("http://third:5000"), root.path())));
    assert_eq!(insecure(root.path()), json!(["mine:1", "first:5000", "third:5000"]));
    put(root.path(), "etc/docker/hab-build.json", "{}");
    let error = Plan::new(Runtime::Docker, &farm("http://first:5000"), root.path()).unwrap_err().to_string();
    assert!(error.contains("/etc/docker/hab-build.json, which is not what this program writes"), "{error}");
}

#[test]
fn no_file_speaks_of_an_earlier_farm() {
    // Podman and CRI-O share their files.
    let pairs = Runtime::ALL.map(|runtime| (runtime, runtime)).into_iter();
    let pairs = pairs.chain([(Runtime::Podman, Runtime::Crio), (Runtime::Crio, Runtime::Podman)]);
    for (before, after) in pairs {
        let root = tempfile::tempdir().unwrap();
        let theirs = [
            ("etc/containerd/certs.d/mine.example/ca.crt", "THEIRS"),
            ("etc/containers/certs.d/mine.example/ca.crt", "THEIRS"),
            ("etc/docker/certs.d/mine.example/ca.crt", "THEIRS"),
        ];
        for (path, text) in theirs {
            put(root.path(), path, text);
        }
        let there = live(root.path());
        lay_for(before, &farm("https://first:5000"), root.path());
        let plan = lay_for(after, &farm("http://second:5000"), root.path());
        for (path, text) in live(root.path()) {
            assert!(!text.contains("first:5000"), "{after:?} {path}: {text}");
            assert!(text != "PEM", "{after:?} {path}");
        }
        for (path, text) in theirs {
            assert_eq!(fs::read_to_string(root.path().join(path)).unwrap(), text, "{path}");
        }
        let left = crate::check(after, &farm("http://second:5000"), root.path());
        assert!(!left.iter().any(|finding| finding.words.contains("first:5000")), "{left:?}");
        let certificate = plan.changes.iter().find(|change| change.after.is_none());
        let path = &certificate.unwrap().path;
        assert_eq!(*path, farm("https://first:5000").authority_path(before));
        let said = format!("the certificate /{path}, put there by an earlier --write, is removed");
        assert!(plan.notes.contains(&said), "{:?}", plan.notes);
        assert!(plan.diff().contains(&format!("--- /{path}\n+++ /dev/null\n")), "{}", plan.diff());
        restore(after, root.path()).unwrap();
        if before == after {
            assert_eq!(live(root.path()), there, "{after:?}");
        }
    }
}

#[test]
fn k3s_keeps_the_names_of_the_operators_mirrors_and_loses_the_earlier_farms() {
    let root = tempfile::tempdir().unwrap();
    let path = "etc/rancher/k3s/registries.yaml";
    put(root.path(), path, "mirrors:\n  quay.io:\n    endpoint: [\"https://quay.example\"]\n");
    let names = |url: &str| -> Vec<String> {
        lay_for(Runtime::K3s, &farm(url), root.path());
        let read = crate::yaml::parse(&fs::read_to_string(root.path().join(path)).unwrap()).unwrap();
        read.get("mirrors").unwrap().entries().unwrap().iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names("http://first:5000"), ["*", "docker.io", "first:5000", "quay.io"]);
    assert_eq!(names("https://second:5000"), ["*", "docker.io", "quay.io", "second:5000"]);
    assert_eq!(names("http://second:5000"), ["*", "docker.io", "quay.io", "second:5000"]);
}
