//! `hab-build lock`: resolves names into digests, once, for a person to review and commit.

use std::path::{Path, PathBuf};

use hab_mirror::apt::Resolver;
use hab_mirror::debian::{Suite, changelog_date};
use hab_mirror::{Fetcher, MirrorError, Observer};
use hab_oci::{Digest, Platform};
use hab_recipe::{
    LockedFile, LockedFiles, LockedPackage, LockedSource, RecipeLock, RecipeSet, RecipeText, SourceTable,
    Toolchain, ToolchainLock,
};

use crate::error::FarmError;
use crate::fetching::Fetching;
use crate::folder::DataFolder;
use crate::progress::Progress;
use crate::source::crates::Crates;
use crate::source::debian::{Debian, index};

/// The lock that was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WrittenLock {
    /// The file that was written.
    pub path: PathBuf,
    /// The digest that identifies the lock.
    pub digest: Digest,
    /// The number of packages, or of versions and inputs, that it names.
    pub entries: usize,
}

/// Writes locks.
#[derive(Clone, Copy)]
pub struct Locks<'a> {
    /// The recipes to lock.
    pub recipes: &'a RecipeSet,
    /// Fetches documents.
    pub fetching: Fetching<'a>,
    /// Where packages come from.
    pub debian: Debian<'a>,
    /// Where crates come from.
    pub crates: Crates<'a>,
    /// The data folder, where apt keeps its state.
    pub data: &'a DataFolder,
    /// The keyrings with which apt verifies an archive.
    pub keyrings: &'a [PathBuf],
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Locks<'_> {
    /// Resolves a toolchain with apt and writes its lock into `folder`.
    pub fn toolchain(&self, folder: &Path, name: &str) -> Result<WrittenLock, FarmError> {
        let toolchain = self.recipes.toolchain(name)?;
        let suite = self.debian.suite(&toolchain.suite)?;
        let lock =
            self.fetching.with(|fetcher, view| self.resolve_toolchain(fetcher, view, &toolchain, &suite))?;
        let path = folder.join(format!("toolchains/{name}.lock"));
        replace(&path, &lock.to_text())?;
        Ok(WrittenLock { path, digest: lock.digest(), entries: lock.packages.len() })
    }

    fn resolve_toolchain(
        &self,
        fetcher: &Fetcher<'_>,
        view: &dyn Observer,
        toolchain: &Toolchain,
        suite: &Suite,
    ) -> Result<ToolchainLock, FarmError> {
        self.progress.stage(&format!("verify the archive's signature on {}", suite.name()));
        let release = self.debian.release(fetcher, suite, &toolchain.policy)?;
        let keyring = self.keyrings.first().cloned().unwrap_or_default();
        let mut packages = Vec::new();
        let sysroot = (&toolchain.sysroot.packages, &toolchain.sysroot.exclude);
        let sysroots = Platform::ALL.map(|p| (p.architecture(), p.architecture(), sysroot));
        let build = ("build", toolchain.architecture.as_str(), (&toolchain.packages, &toolchain.exclude));
        for (root, architecture, (wanted, exclude)) in [build].into_iter().chain(sysroots) {
            self.progress.stage(&format!("resolve {root} packages for {architecture}"));
            let index = index(fetcher, suite, &release, &format!("main/binary-{architecture}/Packages.xz"))?;
            let state = self.data.work().join("apt");
            let resolver = Resolver::new(&state, suite, architecture, &keyring, view)?;
            for found in resolver.resolve(wanted, view)? {
                if exclude.contains(&found.name) {
                    continue;
                }
                // apt only says which package; the signed index says its digest and size.
                let named = index.package(&found.name, &found.version, &found.architecture)?;
                packages.push(LockedPackage {
                    root: root.to_owned(),
                    name: found.name,
                    version: found.version,
                    architecture: found.architecture,
                    path: named.name,
                    digest: named.digest,
                    size: named.size,
                });
            }
        }
        Ok(ToolchainLock::new(toolchain, release.document().digest.clone(), packages))
    }

    /// Resolves a recipe's sources and writes its lock into `folder`. With `version`, adds that version to those in the
    /// lock. Without it, locks the same versions again, or else the newest Debian version.
    pub fn recipe(&self, folder: &Path, name: &str, version: Option<&str>) -> Result<WrittenLock, FarmError> {
        let text = self.recipes.recipe(name)?;
        let toolchain = self.recipes.toolchain_lock(&text.toolchain)?;
        let path = folder.join(format!("{name}/recipe.lock"));
        let lock = self.fetching.with(|fetcher, _| {
            let source = self.lock_sources(fetcher, &text, version)?;
            let inputs = text.recipe.input.iter();
            let input = inputs
                .map(|input| self.lock_source(fetcher, &input.source, None))
                .collect::<Result<Vec<_>, _>>()?;
            Ok::<_, FarmError>(RecipeLock::new(&text.recipe, toolchain.digest(), source, input))
        })?;
        replace(&path, &lock.to_text())?;
        Ok(WrittenLock { path, digest: lock.digest(), entries: lock.source.len() + lock.input.len() })
    }

    fn lock_sources(
        &self,
        fetcher: &Fetcher<'_>,
        text: &RecipeText,
        version: Option<&str>,
    ) -> Result<Vec<LockedSource>, FarmError> {
        let table = &text.recipe.source;
        if matches!(table, SourceTable::Git { .. }) {
            return Ok(Vec::new());
        }
        // This command renews locks that no longer fit, so it takes only their versions.
        let mut versions: Vec<Option<String>> =
            self.recipes.locked_versions(&text.recipe).into_iter().map(Some).collect();
        let wanted = version.map(str::to_owned);
        if (version.is_some() || versions.is_empty()) && !versions.contains(&wanted) {
            versions.push(wanted);
        }
        versions.iter().map(|v| self.lock_source(fetcher, table, v.as_deref())).collect()
    }

    fn lock_source(
        &self,
        fetcher: &Fetcher<'_>,
        table: &SourceTable,
        version: Option<&str>,
    ) -> Result<LockedSource, FarmError> {
        match table {
            SourceTable::DebianSource { package, suite, policy } => {
                self.lock_debian(fetcher, package, suite, policy, version)
            }
            SourceTable::Crate { package, .. } => {
                let version = version.ok_or_else(|| {
                    FarmError::Usage(format!("say which version of crate {package} is to be locked"))
                })?;
                self.lock_crate(fetcher, package, version)
            }
            SourceTable::Git { project, .. } => Err(FarmError::Usage(format!(
                "{project} is a git source: its tag's signature pins it, not a lock"
            ))),
        }
    }

    fn lock_debian(
        &self,
        fetcher: &Fetcher<'_>,
        package: &str,
        suite: &str,
        policy: &str,
        version: Option<&str>,
    ) -> Result<LockedSource, FarmError> {
        self.progress.stage(&format!("lock Debian source package {package}"));
        let suite = self.debian.suite(suite)?;
        let release = self.debian.release(fetcher, &suite, policy)?;
        let index = index(fetcher, &suite, &release, "main/source/Sources.xz")?;
        let listed = index.source(package, version)?;
        let dsc = fetcher.read(&suite.pool(&listed.dsc.name, &listed.dsc.digest, listed.dsc.size))?;
        listed.verify(&dsc, 0)?;
        let packaging =
            listed.files.iter().find(|f| f.name.ends_with(".debian.tar.xz")).ok_or_else(|| {
                MirrorError::Malformed {
                    what: format!("source package {package}"),
                    expected: "a 3.0 (quilt) source package",
                    detail: "it has no .debian.tar.xz".to_owned(),
                }
            })?;
        let wanted = suite.pool(&packaging.name, &packaging.digest, packaging.size);
        fetcher.fetch(&wanted)?;
        let tarball = fetcher.open(&packaging.digest)?.ok_or(MirrorError::Gone { what: wanted.what })?;
        let epoch = changelog_date(&packaging.name, tarball)?;
        let file = |n: &hab_keys::debian::SignedFile| LockedFile {
            path: n.name.clone(),
            digest: n.digest.clone(),
            size: n.size,
        };
        Ok(LockedSource {
            package: package.to_owned(),
            version: listed.version().to_owned(),
            epoch,
            files: LockedFiles::new(file(&listed.dsc), listed.files.iter().map(file).collect()),
        })
    }

    fn lock_crate(
        &self,
        fetcher: &Fetcher<'_>,
        package: &str,
        version: &str,
    ) -> Result<LockedSource, FarmError> {
        self.progress.stage(&format!("lock crate {package} {version}"));
        let index = self.crates.index()?;
        let published = index.published(fetcher, package, version)?;
        let url = index.download_url(fetcher, package, version, &published.digest)?;
        let file = format!("{package}-{version}.crate");
        let bytes = fetcher.document("crate", &file, std::slice::from_ref(&url))?;
        let actual = Digest::of(&bytes);
        if actual != published.digest {
            let expected = published.digest;
            return Err(MirrorError::WrongDigest { what: file, url: url.shown(), expected, actual }.into());
        }
        let epoch = published.published.as_deref().and_then(|t| t.parse::<jiff::Timestamp>().ok());
        let epoch = epoch.map(jiff::Timestamp::as_second).ok_or_else(|| {
            FarmError::Usage(format!(
                "the index does not say when {package} {version} was published; set epoch in the lock by hand"
            ))
        })?;
        Ok(LockedSource {
            package: package.to_owned(),
            version: version.to_owned(),
            epoch,
            files: LockedFiles::new(
                LockedFile { path: file, digest: actual, size: bytes.len() as u64 },
                Vec::new(),
            ),
        })
    }
}

/// Everybody who reads the checkout may read its locks.
fn replace(path: &Path, text: &str) -> Result<(), FarmError> {
    Ok(hab_file::replace_with(path, 0o644, text.as_bytes())?)
}
