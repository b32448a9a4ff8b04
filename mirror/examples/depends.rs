//! Lists the depends sources of a commit and says how long that took, for whoever measures it:
//! `depends REPOSITORY COMMIT [HOST BUILD]`. With `-` for a commit, commits are read from stdin.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use hab_mirror::depends::{DependsSource, Selection, sources};
use hab_mirror::git::GitMirror;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut selection = Selection::releases().unwrap();
    if let [_, _, host, build] = words.as_slice() {
        selection.hosts = vec![host.parse().unwrap()];
        selection.builds = vec![build.parse().unwrap()];
        selection.options = BTreeMap::new();
    }
    let mirror = GitMirror::existing(Path::new(&words[0])).unwrap();
    let commits = match words[1].as_str() {
        "-" => std::io::stdin().lines().map(Result::unwrap).collect(),
        commit => vec![commit.to_owned()],
    };
    for commit in &commits {
        let start = Instant::now();
        let found = mirror.files(&mirror.commit_id(commit).unwrap(), "depends");
        let read = start.elapsed();
        let found = found.map_err(|e| e.to_string());
        let found = found.and_then(|files| sources(&files, &selection).map_err(|e| e.to_string()));
        match found {
            Ok(found) => {
                if commits.len() == 1 {
                    found.iter().for_each(print);
                }
                eprintln!("{commit} {} sources, {read:?} to read, {:?} in all", found.len(), start.elapsed());
            }
            Err(e) => eprintln!("{commit} error: {e}"),
        }
    }
}

fn print(source: &DependsSource) {
    let DependsSource { package, version, file, digest, url, stamp, .. } = source;
    println!("{package} {version} {file} {} {url} {stamp}", digest.hex());
}
