//! The arrows that must not exist, and the graph in docs/ARCHITECTURE.md.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Package to the packages that it is linked with when it runs, directly or not.
fn reachable(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let direct: BTreeMap<_, Vec<_>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal =
                node.deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
            (&node.id, normal.map(|d| &d.pkg).collect())
        })
        .collect();
    let name = |id| metadata[id].name.to_string();
    metadata
        .workspace_members
        .iter()
        .map(|member| {
            let mut seen = BTreeSet::new();
            let mut waiting = vec![member];
            while let Some(id) = waiting.pop() {
                for next in &direct[id] {
                    if seen.insert(*next) {
                        waiting.push(next);
                    }
                }
            }
            (name(member), seen.into_iter().map(name).collect())
        })
        .collect()
}

#[test]
fn forbidden_arrows_do_not_exist() {
    let graph = reachable(&metadata());
    let builder = ["hab-recipe", "hab-sandbox", "hab-image", "hab-builder"];
    // hab-oci is the house's vocabulary of digests and names, not the registry.
    let registry = ["hab-store", "hab-upstream", "hab-registry"];
    let conductors = ["hab-farm", "hab-config"];
    let judged = ["hab-mirror", "hab-keys"];
    let mut found = Vec::new();
    let mut forbid = |from: &str, to: &[&str]| {
        for to in to {
            if graph[from].contains(*to) {
                found.push(format!("{from} -> {to}"));
            }
        }
    };
    forbid("hab-mirror", &[&builder[..], &registry[..], &["hab-keys", "hab-blobs"]].concat());
    forbid("hab-keys", &[&builder[..], &registry[..], &["hab-blobs"]].concat());
    for from in ["hab-oci", "hab-layout", "hab-blobs", "hab-store", "hab-upstream", "hab-registry"] {
        forbid(from, &[&judged[..], &builder[..]].concat());
    }
    // What is pulled through is served by somebody else.
    forbid("hab-upstream", &["hab-registry"]);
    // A build needs bytes, and no database.
    forbid("hab-builder", &registry);
    // Every room reads archives, so what reads them knows no room.
    forbid("hab-archive", &[&judged[..], &builder[..], &registry[..], &["hab-oci", "hab-layout"]].concat());
    for from in
        ["hab-archive", "hab-tree", "hab-oci", "hab-layout", "hab-blobs", "hab-keys"].iter().chain(&builder)
    {
        forbid(from, &["tokio", "sqlx"]);
    }
    // The way outside knows nothing of what is fetched.
    forbid("hab-outbound", &[&judged[..], &builder[..], &registry[..], &["hab-oci", "hab-layout"]].concat());
    for from in graph.keys() {
        forbid(from, &["hab-build"]);
        // Rooms do not know who asks them.
        if !conductors.contains(&from.as_str()) && from != "hab-build" {
            forbid(from, &conductors);
        }
    }
    forbid("hab-config", &["hab-farm"]);
    assert!(found.is_empty(), "{found:?}");
}

/// Whoever asks hosts outside does it through the one crate that knows the rules.
#[test]
fn one_crate_alone_speaks_http_to_hosts_outside() {
    for package in metadata().workspace_packages().into_iter().filter(|p| p.name != "hab-outbound") {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        for name in normal.map(|d| d.name.as_str()) {
            let client = ["reqwest", "ureq", "hyper-tls", "native-tls", "curl", "attohttpc", "isahc"];
            assert!(!client.contains(&name), "{} -> {name}", package.name);
        }
    }
}

#[test]
fn there_is_no_common_and_no_utils() {
    for package in metadata().workspace_packages() {
        for word in ["common", "utils", "util", "helpers", "misc"] {
            assert!(!package.name.contains(word), "{}", package.name);
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_keeps_in_mind() {
    const LINES: usize = 400;
    let mut waiting = vec![root().to_owned()];
    let mut seen = 0;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines <= LINES, "{} has {lines} lines", path.display());
            }
        }
    }
    assert!(seen > 400, "{seen} files were looked at");
}

/// `line` and the words, in lines of a readable width.
fn wrapped(mut line: String, words: &str) -> String {
    const WIDTH: usize = 110;
    let mut begun = 0;
    for word in words.split(' ') {
        if line.len() - begun + word.len() >= WIDTH {
            begun = line.len() + 1;
            line.push_str("\n               ");
        }
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// Every crate of the house with the crates of the house that it names, as docs/ARCHITECTURE.md shows them.
fn picture(metadata: &Metadata) -> String {
    let mut lines = BTreeSet::new();
    for package in metadata.workspace_packages().into_iter().filter(|p| p.name != "check-edges") {
        let house =
            package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal && d.path.is_some());
        let names: BTreeSet<_> = house.map(|d| d.name.as_str()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let line = format!("{:<12} ->", package.name);
        lines.insert(wrapped(line, if names.is_empty() { "(nothing)" } else { &names }));
    }
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[test]
fn the_graph_in_the_architecture_is_the_real_one() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let picture = picture(&metadata());
    let fenced = text.split("```").find(|part| part.contains("hab-archive  ->")).unwrap_or_default();
    assert_eq!(
        fenced.trim(),
        picture.trim(),
        "docs/ARCHITECTURE.md must contain exactly this graph:\n\n{picture}\n"
    );
}
