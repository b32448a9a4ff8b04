//! The locks: they list every input of a build by digest and size. A build cannot read anything that they do not list.

use std::fmt::Write as _;

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::{Recipe, RecipeError, RecipeName, Toolchain};

const SCHEMA: u32 = 1;

/// `toolchains/<name>.lock`: a toolchain's packages, resolved to versions and digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolchainLock {
    schema: u32,
    /// The toolchain's name.
    pub toolchain: String,
    /// [`Toolchain::request`] of the toolchain that this lock was made for.
    pub request: Digest,
    /// The digest of the signed InRelease in which the packages were resolved.
    pub in_release: Digest,
    /// The packages, in the order in which they are unpacked.
    pub packages: Vec<LockedPackage>,
}

/// One package of a toolchain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Where the package is unpacked: `build` for the root itself, or the architecture of a sysroot.
    pub root: String,
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// The package's architecture; `all` if it fits every one.
    pub architecture: String,
    /// The path of the .deb below the archive's root.
    pub path: String,
    /// The digest of the .deb.
    pub digest: Digest,
    /// The size of the .deb in bytes.
    pub size: u64,
}

/// `<recipe>/recipe.lock`: a recipe's sources, resolved to versions and digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeLock {
    schema: u32,
    /// The recipe's name.
    pub recipe: RecipeName,
    /// [`Recipe::request`] of the recipe that this lock was made for.
    pub request: Digest,
    /// The digest of the toolchain's lock.
    pub toolchain: Digest,
    /// The recipe's own source: one entry for each version, the newest last. Empty for a git source, because its tag's
    /// signature pins it.
    #[serde(default)]
    pub source: Vec<LockedSource>,
    /// The further inputs.
    #[serde(default)]
    pub input: Vec<LockedSource>,
}

/// One version of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// The package's or crate's name.
    pub package: String,
    /// The version.
    pub version: String,
    /// The source's date, in seconds since 1970.
    pub epoch: i64,
    /// The source's files; the digest of the first one is the source's identity.
    pub files: LockedFiles,
}

/// One file of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// The file's path below the archive's root, or its name.
    pub path: String,
    /// The file's digest.
    pub digest: Digest,
    /// The file's size in bytes.
    pub size: u64,
}

impl ToolchainLock {
    /// A lock for `toolchain`.
    pub fn new(toolchain: &Toolchain, in_release: Digest, packages: Vec<LockedPackage>) -> Self {
        Self {
            schema: SCHEMA,
            toolchain: toolchain.name.clone(),
            request: toolchain.request(),
            in_release,
            packages,
        }
    }

    /// Parses the lock of `toolchain`. Fails if the toolchain now asks for something other than when the lock was made.
    pub fn parse(toolchain: &Toolchain, text: &str) -> Result<Self, RecipeError> {
        let path = format!("toolchains/{}.lock", toolchain.name);
        let lock: Self = parse(&path, text)?;
        if lock.schema != SCHEMA || lock.toolchain != toolchain.name || lock.request != toolchain.request() {
            return Err(RecipeError::StaleLock {
                path,
                of: "toolchain",
                detail: "the suite or the packages asked for have changed since it was made".to_owned(),
                what: format!("toolchain {}", toolchain.name),
            });
        }
        Ok(lock)
    }

    /// The lock's text: one package a line, so that a change reads well.
    pub fn to_text(&self) -> String {
        let mut text = header(&format!("hab-build lock toolchain {}", self.toolchain));
        let _ = write!(
            text,
            "schema = {}\ntoolchain = {:?}\nrequest = \"{}\"\nin_release = \"{}\"\npackages = [\n",
            self.schema, self.toolchain, self.request, self.in_release
        );
        for p in &self.packages {
            let _ = writeln!(
                text,
                "  {{ root = {:?}, name = {:?}, version = {:?}, architecture = {:?}, path = {:?}, digest = \"{}\", size = {} }},",
                p.root, p.name, p.version, p.architecture, p.path, p.digest, p.size
            );
        }
        text.push_str("]\n");
        text
    }

    /// The lock's identity, which is also that of the root it unpacks to.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }
}

impl RecipeLock {
    /// A lock for `recipe`.
    pub fn new(
        recipe: &Recipe,
        toolchain: Digest,
        source: Vec<LockedSource>,
        input: Vec<LockedSource>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            recipe: recipe.name.clone(),
            request: recipe.request(),
            toolchain,
            source,
            input,
        }
    }

    /// Parses the lock of `recipe`. Fails if the recipe now asks for something other than when the lock was made, or if
    /// `toolchain` is not the toolchain lock that it names.
    pub fn parse(recipe: &Recipe, toolchain: &Digest, text: &str) -> Result<Self, RecipeError> {
        let path = format!("{}/recipe.lock", recipe.name);
        let lock: Self = parse(&path, text)?;
        let stale = |detail: &str| RecipeError::StaleLock {
            path: path.clone(),
            of: "recipe",
            detail: detail.to_owned(),
            what: format!("recipe {}", recipe.name),
        };
        if lock.schema != SCHEMA || lock.recipe != recipe.name || lock.request != recipe.request() {
            return Err(stale("the sources or the toolchain's name have changed since it was made"));
        }
        if lock.toolchain != *toolchain {
            return Err(stale("the toolchain was locked anew since it was made"));
        }
        if lock.input.len() != recipe.input.len() {
            return Err(stale("an input is missing from it"));
        }
        Ok(lock)
    }

    /// The versions of the recipe's own source in a lock's text, even if the lock is stale; empty if the text cannot be
    /// parsed.
    pub fn versions(text: &str) -> Vec<String> {
        let lock = toml::from_str::<Self>(text).map(|lock| lock.source).unwrap_or_default();
        lock.into_iter().map(|source| source.version).collect()
    }

    /// The lock's text, as it is written to the file.
    pub fn to_text(&self) -> String {
        let mut text = header(&format!("hab-build lock recipe {}", self.recipe));
        let _ = write!(
            text,
            "schema = {}\nrecipe = \"{}\"\nrequest = \"{}\"\ntoolchain = \"{}\"\n",
            self.schema, self.recipe, self.request, self.toolchain
        );
        for (table, source) in
            self.source.iter().map(|s| ("source", s)).chain(self.input.iter().map(|s| ("input", s)))
        {
            let _ = write!(
                text,
                "\n[[{table}]]\npackage = {:?}\nversion = {:?}\nepoch = {}\nfiles = [\n",
                source.package, source.version, source.epoch
            );
            for f in source.files.iter() {
                let _ = writeln!(
                    text,
                    "  {{ path = {:?}, digest = \"{}\", size = {} }},",
                    f.path, f.digest, f.size
                );
            }
            text.push_str("]\n");
        }
        text
    }

    /// The lock's identity.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// The locked source of `version`; of the newest version if `None`.
    pub fn version(&self, version: Option<&str>) -> Result<&LockedSource, RecipeError> {
        let found = match version {
            Some(version) => self.source.iter().find(|s| s.version == version),
            None => self.source.last(),
        };
        found.ok_or_else(|| RecipeError::UnknownVersion {
            recipe: self.recipe.clone(),
            version: version.unwrap_or("(none given)").to_owned(),
            known: self.source.iter().map(|s| s.version.as_str()).collect::<Vec<_>>().join(", "),
            advice: format!("Add it with `hab-build lock recipe {} VERSION`.", self.recipe),
        })
    }
}

impl LockedSource {
    /// The source's identity: the digest of its first file. For a Debian source that is the .dsc, which names the
    /// others.
    pub fn digest(&self) -> &Digest {
        &self.files.first.digest
    }
}

/// The files of a source; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<LockedFile>", into = "Vec<LockedFile>")]
pub struct LockedFiles {
    first: LockedFile,
    more: Vec<LockedFile>,
}

impl LockedFiles {
    /// A list of the file that identifies the source, and of the files that it names.
    pub fn new(first: LockedFile, more: Vec<LockedFile>) -> Self {
        Self { first, more }
    }

    /// The file, if there is only one; `None` if there are several.
    pub fn only(&self) -> Option<&LockedFile> {
        self.more.is_empty().then_some(&self.first)
    }

    /// All files; the one that identifies the source comes first.
    pub fn iter(&self) -> impl Iterator<Item = &LockedFile> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl TryFrom<Vec<LockedFile>> for LockedFiles {
    type Error = &'static str;

    fn try_from(files: Vec<LockedFile>) -> Result<Self, &'static str> {
        let mut files = files.into_iter();
        let first = files.next().ok_or("a source needs at least one file")?;
        Ok(Self { first, more: files.collect() })
    }
}

impl From<LockedFiles> for Vec<LockedFile> {
    fn from(files: LockedFiles) -> Self {
        std::iter::once(files.first).chain(files.more).collect()
    }
}

fn header(command: &str) -> String {
    format!("# Written by `{command}`; do not edit.\n")
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, RecipeError> {
    toml::from_str(text)
        .map_err(|source| RecipeError::Syntax { path: path.to_owned(), source: Box::new(source) })
}
