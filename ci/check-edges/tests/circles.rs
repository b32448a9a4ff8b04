//! Within a crate no more than five files need each other in a circle, as their `use` lines say: a reader who wants to
//! understand one of them has to read them all.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;

/// The most files of a circle.
const MOST: usize = 5;

/// Where a module is in its crate: `crate::a::b` is `["a", "b"]`.
type Place = Vec<String>;

/// A name that a `use` line brings, by the whole path.
struct Use {
    path: Vec<String>,
    /// Under which name others find it here.
    named: String,
    handed_on: bool,
}

struct Module {
    file: PathBuf,
    uses: Vec<Use>,
}

/// All files of a crate, by the modules that they are.
fn modules(source: &Path) -> BTreeMap<Place, Module> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![source.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let below = path.strip_prefix(source).unwrap().with_extension("");
                let mut place: Place = below.iter().map(|name| name.to_string_lossy().into_owned()).collect();
                if matches!(place.last().map(String::as_str), Some("lib" | "main" | "mod")) {
                    place.pop();
                }
                let uses = uses(&fs::read_to_string(&path).unwrap());
                found.insert(place, Module { file: path, uses });
            }
        }
    }
    found
}

/// The `use` lines of a file, without its tests.
fn uses(text: &str) -> Vec<Use> {
    // Attributes may stand between `#[cfg(test)]` and the module.
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let (statement, after) = rest[at + 4..].split_once(';').unwrap_or_default();
        rest = &rest[at + 4..];
        if line.is_empty() || line.starts_with("pub") && !line.contains(' ') {
            rest = after;
            tree(statement.trim(), &[], !line.is_empty(), &mut found);
        }
    }
    found
}

/// `a::{b, c::{d, e as f}}` as its branches.
fn tree(text: &str, above: &[String], handed_on: bool, found: &mut Vec<Use>) {
    let text = text.trim();
    if let Some((before, group)) = text.split_once('{') {
        let above: Vec<String> = above.iter().cloned().chain(segments(before)).collect();
        let group = group.trim_end().trim_end_matches('}');
        let (mut depth, mut begin) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    tree(&group[begin..at], &above, handed_on, found);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        return tree(&group[begin..], &above, handed_on, found);
    }
    if text.is_empty() {
        return;
    }
    let (path, named) = text.split_once(" as ").unwrap_or((text, text.rsplit("::").next().unwrap_or(text)));
    let path = above.iter().cloned().chain(segments(path)).collect();
    found.push(Use { path, named: named.trim().to_owned(), handed_on });
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
}

/// The module in which a name of a `use` line is defined, if that is in this crate; `depth` ends what leads round.
fn definer(modules: &BTreeMap<Place, Module>, from: &Place, path: &[String], depth: usize) -> Option<Place> {
    let (mut place, mut rest) = match path.first()?.as_str() {
        "crate" => (Place::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
        child => {
            let inside: Place = from.iter().cloned().chain([child.to_owned()]).collect();
            modules.contains_key(&inside).then_some((inside, &path[1..]))?
        }
    };
    while let Some((first, after)) = rest.split_first() {
        let below: Place = place.iter().cloned().chain([first.clone()]).collect();
        if first == "super" {
            place.pop()?;
        } else if modules.contains_key(&below) {
            place = below;
        } else {
            break;
        }
        rest = after;
    }
    let handed = rest.first().filter(|_| depth < 8).and_then(|name| {
        let all = &modules.get(&place)?.uses;
        let by_name = all.iter().find(|used| used.handed_on && used.named == *name)?;
        definer(modules, &place, &by_name.path, depth + 1)
    });
    handed.or(Some(place))
}

/// Files that lead to each other.
fn circles(modules: &BTreeMap<Place, Module>) -> Vec<Vec<String>> {
    let arrows: BTreeMap<&Place, BTreeSet<Place>> = modules
        .iter()
        .map(|(place, module)| {
            // What only hands a name on needs nothing of it.
            let needed = module.uses.iter().filter(|used| !used.handed_on);
            let to = needed.filter_map(|used| definer(modules, place, &used.path, 0));
            (place, to.filter(|to| to != place && modules.contains_key(to)).collect())
        })
        .collect();
    let reach = |from: &Place| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(place) = waiting.pop() {
            for next in &arrows[&place] {
                if seen.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Place, BTreeSet<Place>> =
        modules.keys().map(|place| (place, reach(place))).collect();
    let mut found = BTreeSet::new();
    for (place, to) in &reached {
        let circle: Vec<String> = to
            .iter()
            .filter(|other| reached[*other].contains(*place))
            .map(|other| modules[other].file.display().to_string())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

#[test]
fn no_circle_has_more_than_five_files() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().unwrap();
    let mut large = Vec::new();
    let mut seen = 0;
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().unwrap().as_std_path();
        let source = folder.join("src");
        if !source.is_dir() {
            continue;
        }
        let modules = modules(&source);
        seen += modules.len();
        large.extend(circles(&modules).into_iter().filter(|circle| circle.len() > MOST));
    }
    assert!(seen > 300, "{seen} files: the house's are not found");
    let told: Vec<String> = large
        .iter()
        .map(|circle| {
            let root = root.canonicalize().unwrap().display().to_string();
            format!("{} files:\n  {}", circle.len(), circle.join("\n  ").replace(&format!("{root}/"), ""))
        })
        .collect();
    assert!(large.is_empty(), "files that need each other in a circle:\n{}", told.join("\n"));
}

#[test]
fn a_circle_is_found_through_groups_renamings_and_names_that_are_handed_on() {
    let module = |text: &str| Module { file: PathBuf::from("f"), uses: uses(text) };
    let place = |path: &str| segments(path);
    let world = |pairs: &[(&str, &str)]| -> BTreeMap<Place, Module> {
        let with_name = |(path, text): &(&str, &str)| {
            let file = PathBuf::from(*path);
            (place(path), Module { file, ..module(text) })
        };
        pairs.iter().map(with_name).collect()
    };
    let lib = ("", "mod a;\npub use a::{one::One, Two as Deux};\n");
    let closed = world(&[
        lib,
        ("a", "pub mod one;\nuse crate::b::B;\n"),
        ("a::one", "use std::fmt;\nuse super::super::c::{\n    C,\n};\n"),
        ("b", "// use crate::a::A;\nuse crate::{Deux, c};\n"),
        ("c", "use crate::One;\n#[cfg(test)]\n#[allow(lint)]\nmod tests {\n    use crate::b::B;\n}\n"),
    ]);
    let found = circles(&closed);
    assert_eq!(found, [vec!["a", "b"], vec!["a::one", "c"]]);
    let open =
        world(&[lib, ("a", "use crate::b::B;\n"), ("b", "use crate::c::C;\n"), ("c", "use std::fs;\n")]);
    assert!(circles(&open).is_empty());
}
