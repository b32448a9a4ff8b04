//! `recipe.toml`: the file in which a person describes a build.

use std::collections::BTreeMap;

use hab_oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::{RecipeError, RecipeName};

/// A recipe: its source, how it is built, and what its image is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The recipe's name, which is also its folder's.
    pub name: RecipeName,
    /// One line that tells people what the image is.
    pub summary: String,
    /// The SPDX licence expression for everything that the image holds.
    pub licenses: String,
    /// The address of the project's site; it becomes the image's source annotation.
    pub homepage: String,
    /// The source that is built.
    pub source: SourceTable,
    /// Further sources that the build script finds under `/build/inputs/<name>`.
    #[serde(default)]
    pub input: Vec<InputTable>,
    /// How the source is built.
    pub build: BuildTable,
    /// The image's settings.
    pub image: ImageTable,
    /// The command that is run from the finished image to see that it works at all.
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
        /// The policy that says who must have signed the archive.
        policy: String,
    },
    /// A crate.
    Crate {
        /// The crate's name.
        package: String,
        /// The folder within the crate that is built; the whole crate if there is none.
        #[serde(default)]
        subfolder: Option<String>,
    },
    /// A signed tag in a git repository.
    Git {
        /// The name of the project in the mirror.
        project: String,
        /// Upstreams, the preferred one first.
        urls: Vec<String>,
        /// The policy that says who must have signed the tag.
        policy: String,
    },
}

/// A further source that the build script can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputTable {
    /// The folder under `/build/inputs`.
    pub name: RecipeName,
    /// Where the source comes from. It cannot be git, because a lock cannot pin a git source.
    pub source: SourceTable,
}

/// How a recipe is built.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTable {
    /// The name of the toolchain.
    pub toolchain: String,
    /// Another recipe whose build.sh is used; without it, the recipe's own is.
    #[serde(default)]
    pub script_of: Option<RecipeName>,
    /// Environment variables that the script gets in addition to the fixed ones.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether every program and library that the build leaves must be position independent, with full RELRO, a stack
    /// that is not executable, and stack canaries.
    #[serde(default = "yes")]
    pub hardened: bool,
    /// The most memory that all processes of the build together may use, in MiB.
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    /// The most disk space that the build may use, in MiB.
    #[serde(default = "default_disk")]
    pub disk_mib: u64,
    /// The longest time that one run may take, in minutes.
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

/// The settings of an image, apart from its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTable {
    /// The repository that the image is published in.
    pub repository: RepositoryName,
    /// The program that the image starts, and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a user may replace.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// The name of the one unprivileged user.
    pub user: String,
    /// The user's id, and the id of the user's group.
    #[serde(default = "default_uid")]
    pub uid: u32,
    /// The user's home. The image holds it as a folder that the user owns, and declares it as a volume.
    pub home: String,
    /// The ports that the program listens on, such as `8333/tcp`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Environment variables of the running program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How layers are compressed.
    #[serde(default)]
    pub compression: Compression,
}

fn default_uid() -> u32 {
    1000
}

/// The command that is run from the finished image, and its expected output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmokeTable {
    /// The command, without a shell.
    pub command: Vec<String>,
    /// The text that the command's standard output must contain.
    pub expect: String,
}

impl Recipe {
    /// Parses the text of a `recipe.toml`; `folder` is the name that the recipe must have.
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
        // The upper limits are far above any build, and far below values that overflow a number of bytes or seconds.
        let limits = [
            ("build.memory_mib", self.build.memory_mib, 1 << 24),
            ("build.disk_mib", self.build.disk_mib, 1 << 24),
            ("build.minutes", self.build.minutes, 14 * 24 * 60),
        ];
        if let Some((field, value, most)) = limits.into_iter().find(|(_, n, most)| *n == 0 || n > most) {
            return Err(format!("{field} is {value}; it has to be from 1 to {most}"));
        }
        for table in self.input.iter().map(|i| &i.source).chain([&self.source]) {
            // These names become folders and file names.
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

    /// The digest of everything that a lock depends on: the sources and the toolchain's name.
    pub fn request(&self) -> Digest {
        // serde_json writes struct fields in their order and maps sorted, so this is canonical.
        let text = serde_json::json!({
            "source": self.source,
            "input": self.input,
            "toolchain": self.build.toolchain,
        });
        Digest::of(text.to_string().as_bytes())
    }

    /// The folder within the source that is built; the whole source if `None`.
    pub fn subfolder(&self) -> Option<&str> {
        match &self.source {
            SourceTable::Crate { subfolder, .. } => subfolder.as_deref(),
            SourceTable::DebianSource { .. } | SourceTable::Git { .. } => None,
        }
    }
}

/// The environment variables that every build script gets; a recipe may not set them itself.
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
