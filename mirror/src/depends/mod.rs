//! Bitcoin Core's depends packages: the files that they are built from, read as data from a checkout's `depends`
//! folder.
//!
//! That folder names them in makefiles, which differ from version to version. So this module reads make's language
//! (`make`), as far as these files use it, and runs nothing. A value that only running something could give is an error
//! that names the line, never a guess.

mod make;
#[cfg(test)]
mod tests;
mod triplet;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::thread;

use hab_oci::{Digest, shown};
use serde::Serialize;

pub use triplet::Triplet;

use crate::git::Files;
use make::Make;

/// Stands for the folder of sources while the files are read.
const SOURCES: &str = "/sources";
/// The most packages that are read, and the most files.
const LIMIT: usize = 1000;

/// Why the depends files do not give their sources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {}", shown(file), at(*line), shown(detail))]
pub struct DependsError {
    /// The file, relative to the `depends` folder.
    pub file: String,
    /// The line; 0 if no single line is at fault.
    pub line: usize,
    /// What is wrong.
    pub detail: String,
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" line {line}") }
}

/// One file that a package is built from. Only the revision that it was read from pins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DependsSource {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The file's name here, a single path component.
    pub file: String,
    /// The file's name upstream.
    pub download_file: String,
    /// The file's address upstream.
    pub url: String,
    /// The file's digest.
    pub digest: Digest,
    /// The file in `download-stamps` that tells make that all sources of the package are present. One stamp may name
    /// several sources.
    pub stamp: String,
}

/// The platforms and options to read the sources for.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The platforms to build for.
    pub hosts: Vec<Triplet>,
    /// The platforms to build on.
    pub builds: Vec<Triplet>,
    /// Variables on make's command line, such as `NO_QT=1`.
    pub options: BTreeMap<String, String>,
}

impl Selection {
    /// The platforms that Bitcoin Core releases are built for, built on x86_64 and on aarch64.
    pub fn releases() -> Result<Self, DependsError> {
        let parse = |names: &[&str]| names.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            hosts: parse(&[
                "x86_64-linux-gnu",
                "aarch64-linux-gnu",
                "arm-linux-gnueabihf",
                "powerpc64-linux-gnu",
                "riscv64-linux-gnu",
                "x86_64-apple-darwin",
                "arm64-apple-darwin",
                "x86_64-w64-mingw32",
            ])?,
            builds: parse(&["x86_64-pc-linux-gnu", "aarch64-unknown-linux-gnu"])?,
            options: BTreeMap::new(),
        })
    }
}

/// Every source that any pair of the selection's platforms needs, sorted by package; a package's own order stays.
/// `files` are those of the `depends` folder, as [`GitMirror::files`](crate::git::GitMirror::files) returns them.
pub fn sources(files: &Files, selection: &Selection) -> Result<Vec<DependsSource>, DependsError> {
    let pairs =
        selection.hosts.iter().flat_map(|host| selection.builds.iter().map(move |build| (host, build)));
    let pairs: Vec<_> = pairs.collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let mut names: BTreeMap<String, DependsSource> = BTreeMap::new();
    // Each pair needs a reading of its own; read them in parallel.
    for part in pairs.chunks(threads) {
        let read = thread::scope(|scope| {
            let start =
                |(host, build)| scope.spawn(move || of_platform(files, host, build, &selection.options));
            let running: Vec<_> = part.iter().copied().map(start).collect();
            running.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        })?;
        for source in read.into_iter().flatten() {
            let known = names.entry(source.file.clone()).or_insert_with(|| source.clone());
            if known.digest != source.digest {
                let detail = format!(
                    "{} is {} for package {} and {} for package {}",
                    source.file, known.digest, known.package, source.digest, source.package
                );
                return Err(DependsError { file: "packages".to_owned(), line: 0, detail });
            }
            if seen.insert((source.package.clone(), source.stamp.clone(), source.file.clone())) {
                all.push(source);
            }
        }
    }
    // A stable sort: make writes a package's stamp in the package's own order.
    all.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(all)
}

fn join<T>(running: thread::ScopedJoinHandle<'_, T>) -> T {
    running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The sources for one host, built on one machine.
pub fn of_platform(
    files: &Files,
    host: &Triplet,
    build: &Triplet,
    options: &BTreeMap<String, String>,
) -> Result<Vec<DependsSource>, DependsError> {
    // The values that the Makefile takes from config.guess, config.sub and its environment.
    let mut given = vec![
        ("HOST", host.named()),
        ("BUILD", build.canonical()),
        ("canonical_host", host.canonical()),
        ("build", build.canonical()),
        ("SOURCES_PATH", SOURCES),
        ("CURDIR", "/depends"),
        ("MAKE", "make"),
    ];
    let free = |name: &str| given.iter().all(|(taken, _)| *taken != name);
    let options: Vec<_> =
        options.iter().filter(|(name, _)| free(name)).map(|(n, v)| (n.as_str(), v.as_str())).collect();
    given.extend(options);
    let mut make = Make::new(files, &given);
    make.include("Makefile")?;
    let packages = make.known(None, "all_packages")?;
    let packages: BTreeSet<&str> = packages.split_whitespace().collect();
    if packages.is_empty() || packages.len() > LIMIT {
        let detail = format!("it selects {} packages for {host}", packages.len());
        return Err(DependsError { file: "Makefile".to_owned(), line: 0, detail });
    }
    let mut found = Vec::new();
    for package in packages {
        let wrong = |detail| DependsError { file: "packages/packages.mk".to_owned(), line: 0, detail };
        if !is_plain(package) {
            return Err(wrong(format!("{package:?} is not the name of a package")));
        }
        of_package(&mut make, package, &mut found)?;
        if found.len() > LIMIT {
            return Err(wrong(format!("it has more than {LIMIT} sources")));
        }
    }
    Ok(found)
}

fn of_package(
    make: &mut Make<'_>,
    package: &str,
    found: &mut Vec<DependsSource>,
) -> Result<(), DependsError> {
    let named = |what: &str| format!("{package}_{what}");
    // Packed from a folder of the checkout, so there is nothing to fetch.
    if !make.known(Some(package), &named("local_dir"))?.trim().is_empty() {
        return Ok(());
    }
    let version = make.known(Some(package), &named("version"))?.trim().to_owned();
    let fetched = make.known(Some(package), &named("fetched"))?;
    let stamp =
        fetched.trim().strip_prefix(&format!("{SOURCES}/download-stamps/")).filter(|s| is_file_name(s));
    // An error at the line that set the variable, if a line did.
    let wrong = |make: &Make<'_>, what: &str, detail: String| {
        let detail = format!("package {package}: {detail}");
        make.error(&named(what), &detail).unwrap_or_else(|| DependsError {
            file: format!("packages/{package}.mk"),
            line: 0,
            detail,
        })
    };
    let stamp = stamp
        .ok_or_else(|| wrong(make, "file_name", format!("{fetched:?} is not a file in download-stamps")))?;
    let start = found.len();
    for [_, path, download_file, file, hash] in make.fetches(package, &named("fetch_cmds"))? {
        if !is_file_name(&file) {
            return Err(wrong(make, "file_name", format!("{file:?} is not the name of a file")));
        }
        let digest = Digest::from_sha256_hex(&hash);
        let digest =
            digest.map_err(|_| wrong(make, "sha256_hash", format!("{file} has {hash:?} for a sha256")))?;
        let url = format!("{path}/{download_file}");
        if path.is_empty() || download_file.is_empty() || url.contains(char::is_whitespace) {
            let detail = format!("{file} has no address: {path:?} and {download_file:?}");
            return Err(wrong(make, "download_path", detail));
        }
        let (package, version, stamp) = (package.to_owned(), version.clone(), stamp.to_owned());
        found.push(DependsSource { package, version, file, download_file, url, digest, stamp });
    }
    if start == found.len() {
        return Err(wrong(make, "fetch_cmds", "it fetches nothing".to_owned()));
    }
    let sources = make.known(Some(package), &named("all_sources"))?;
    let sources: Vec<&str> = sources.split_whitespace().collect();
    if let Some(source) = sources.iter().find(|name| !found[start..].iter().any(|f| f.file == **name)) {
        let detail = format!("it has a source {source} that it does not fetch");
        return Err(wrong(make, "extra_sources", detail));
    }
    found[start..].sort_by_key(|f| sources.iter().position(|name| f.file == *name).unwrap_or(usize::MAX));
    Ok(())
}

/// Whether `name` can be a file's name: one path component of plain characters. `download-stamps` is the name of a
/// folder.
pub fn is_file_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\' | '?' | '#' | '%');
    !matches!(name, "" | "." | ".." | "download-stamps") && name.len() <= 200 && name.chars().all(plain)
}

fn is_plain(name: &str) -> bool {
    name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.'))
}
