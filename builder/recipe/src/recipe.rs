//! `recipe.toml`: what a person writes.

use std::collections::BTreeMap;

use hab_oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::{RecipeError, RecipeName};

/// A recipe: its source, how it is built, and what its image is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The name, as the folder's.
    pub name: RecipeName,
    /// One line for people.
    pub summary: String,
    /// SPDX licence expression of what the image holds.
    pub licenses: String,
    /// Where the project lives; the image's source annotation.
    pub homepage: String,
    /// What is built.
    pub source: SourceTable,
    /// Further sources that the build script finds under `/build/inputs/<name>`.
    #[serde(default)]
    pub input: Vec<InputTable>,
    /// How it is built.
    pub build: BuildTable,
    /// What the image is.
    pub image: ImageTable,
    /// What is run from the finished image to see that it works at all.
    pub smoke: SmokeTable,
}

/// Where the source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceTable {
    /// A Debian source package.
    DebianSource {
        /// The source package's name.
        package: String,
        /// The suite it is taken from.
        suite: String,
        /// Who must have signed the archive.
        policy: String,
    },
    /// A crate.
    Crate {
        /// The crate's name.
        package: String,
        /// The folder within it that is built; the whole crate without one.
        #[serde(default)]
        subfolder: Option<String>,
    },
    /// A signed tag in a git repository.
    Git {
        /// The mirror's name.
        project: String,
        /// Upstreams, the preferred one first.
        urls: Vec<String>,
        /// Who must have signed the tag.
        policy: String,
    },
}

/// A further source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputTable {
    /// The folder under `/build/inputs`.
    pub name: RecipeName,
    /// Where it comes from; not git, because a lock must be able to name it.
    pub source: SourceTable,
}

/// How a recipe is built.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTable {
    /// The toolchain's name.
    pub toolchain: String,
    /// Another recipe whose build.sh is used; this recipe's own without one.
    #[serde(default)]
    pub script_of: Option<RecipeName>,
    /// What the script sees beside the fixed environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether every program and library it leaves must be position independent, with full RELRO, a stack that is not
    /// executable, and stack canaries.
    #[serde(default = "yes")]
    pub hardened: bool,
    /// The most memory all processes together may use, in MiB.
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    /// The most disk the build may use, in MiB.
    #[serde(default = "default_disk")]
    pub disk_mib: u64,
    /// The longest one run may take, in minutes.
    #[serde(default = "default_minutes")]
    pub minutes: u64,
}

fn yes() -> bool {
    true
}
fn default_memory() -> u64 {
    8192
}
fn default_disk() -> u64 {
    16384
}
fn default_minutes() -> u64 {
    120
}

/// How layers are compressed for transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// gzip, the default: Docker before version 23 reads nothing else.
    #[default]
    Gzip,
    /// zstd: smaller, and unpacked faster, where every runtime reads it.
    Zstd,
}

/// What an image is beside its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTable {
    /// The repository it is published in.
    pub repository: RepositoryName,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a user may replace.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// The name of the one unprivileged user.
    pub user: String,
    /// Its id, and its group's.
    #[serde(default = "default_uid")]
    pub uid: u32,
    /// Its home, made with its ownership; also a volume.
    pub home: String,
    /// `8333/tcp`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Variables of the running program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The signal that asks it to end.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How layers are compressed.
    #[serde(default)]
    pub compression: Compression,
}

fn default_uid() -> u32 {
    1000
}

/// What is run from the finished image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmokeTable {
    /// The command, without a shell.
    pub command: Vec<String>,
    /// What its standard output must contain.
    pub expect: String,
}

impl Recipe {
    /// Reads a recipe from the text of its `recipe.toml`; `folder` is the name it must have.
    pub fn parse(folder: &RecipeName, text: &str) -> Result<Self, RecipeError> {
        let path = format!("{folder}/recipe.toml");
        let recipe: Self = toml::from_str(text)
            .map_err(|source| RecipeError::Syntax { path: path.clone(), source: Box::new(source) })?;
        recipe.check(folder).map_err(|detail| RecipeError::Invalid { path, detail })?;
        Ok(recipe)
    }

    fn check(&self, folder: &RecipeName) -> Result<(), String> {
        if self.name != *folder {
            return Err(format!("its name is {}, but it lies in folder {folder}", self.name));
        }
        // Far above anything that is built, and far below what would not fit into a number of bytes or seconds.
        let limits = [
            ("build.memory_mib", self.build.memory_mib, 1 << 24),
            ("build.disk_mib", self.build.disk_mib, 1 << 24),
            ("build.minutes", self.build.minutes, 14 * 24 * 60),
        ];
        if let Some((field, value, most)) = limits.into_iter().find(|(_, n, most)| *n == 0 || n > most) {
            return Err(format!("{field} is {value}; it has to be from 1 to {most}"));
        }
        for table in self.input.iter().map(|i| &i.source).chain([&self.source]) {
            // These become folders and file names.
            let names = match table {
                SourceTable::DebianSource { policy, .. } => vec![policy],
                SourceTable::Crate { .. } => Vec::new(),
                SourceTable::Git { project, policy, .. } => vec![project, policy],
            };
            if let Some(bad) = names.into_iter().find(|name| name.parse::<RecipeName>().is_err()) {
                return Err(format!("{bad:?} is not the name of a project or policy"));
            }
        }
        for input in &self.input {
            if matches!(input.source, SourceTable::Git { .. }) {
                return Err(format!("input {} is a git source, which a lock cannot pin", input.name));
            }
        }
        if let SourceTable::Git { urls, .. } = &self.source
            && urls.is_empty()
        {
            return Err("source.urls is empty: name at least one upstream".to_owned());
        }
        if let SourceTable::Crate { subfolder: Some(folder), .. } = &self.source
            && folder.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return Err(format!("source.subfolder {folder:?} is not a folder within the source"));
        }
        if self.image.repository.as_str().starts_with("unsigned/") {
            return Err(
                "image.repository may not lie below unsigned/, where images of unsigned source go".to_owned()
            );
        }
        if self.image.entrypoint.is_empty() || self.smoke.command.is_empty() {
            return Err("image.entrypoint and smoke.command must name a program".to_owned());
        }
        for path in [&self.image.home, &self.image.entrypoint[0], &self.smoke.command[0]] {
            if !path.starts_with('/') || path.split('/').any(|p| p == "..") {
                return Err(format!("{path:?} is not an absolute path"));
            }
        }
        let reserved = |name: &&String| FIXED_ENVIRONMENT.contains(&name.as_str());
        if let Some(name) = self.build.env.keys().find(reserved) {
            return Err(format!("build.env may not set {name}, which the sandbox fixes"));
        }
        Ok(())
    }

    /// The digest of what a lock depends on: the sources and the toolchain's name.
    pub fn request(&self) -> Digest {
        // serde_json writes struct fields in their order and maps sorted, so this is canonical.
        let text = serde_json::json!({
            "source": self.source,
            "input": self.input,
            "toolchain": self.build.toolchain,
        });
        Digest::of(text.to_string().as_bytes())
    }

    /// The subfolder of the source that is built.
    pub fn subfolder(&self) -> Option<&str> {
        match &self.source {
            SourceTable::Crate { subfolder, .. } => subfolder.as_deref(),
            SourceTable::DebianSource { .. } | SourceTable::Git { .. } => None,
        }
    }
}

/// What every build script finds in its environment, beside the recipe's own variables.
pub(crate) const FIXED_ENVIRONMENT: &[&str] = &[
    "SRC",
    "OUT",
    "DEBUG",
    "WORK",
    "JOBS",
    "PLATFORM",
    "ARCH",
    "TRIPLET",
    "SYSROOT",
    "CC",
    "CXX",
    "AR",
    "RANLIB",
    "NM",
    "STRIP",
    "OBJCOPY",
    "SOURCE_DATE_EPOCH",
    "LC_ALL",
    "LANG",
    "TZ",
    "HOME",
    "PATH",
    "USER",
    "VERSION",
];
