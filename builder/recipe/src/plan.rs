//! The plan: everything that decides what a build makes.

use std::collections::BTreeMap;

use hab_oci::{Digest, Platform, annotations as key};
use serde::{Deserialize, Serialize};

use crate::{BaseTable, ImageTable, LinkTable, RecipeError, RecipeName, RecipeText, SmokeTable};

/// The version of the plan's format. It grows whenever the engine would make other bytes from an equal plan.
pub const PLAN_SCHEMA: u32 = 3;

/// Recipe, locks, source and platform, all resolved: plain data, whose digest is the build's identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: u32,
    /// The recipe's name.
    pub recipe: RecipeName,
    /// The version that was asked for.
    pub version: String,
    /// The platform that the build is for.
    pub platform: Platform,
    /// The recipe's own source.
    pub source: PlannedSource,
    /// The further inputs, by the name of their folder.
    pub inputs: BTreeMap<String, PlannedSource>,
    /// The folder within the source that is built; the whole source if `None`.
    pub subfolder: Option<String>,
    /// The digest of the toolchain's lock.
    pub toolchain: Digest,
    /// The symbolic links that the toolchain adds to its root.
    pub links: Vec<LinkTable>,
    /// The digest of the build script.
    pub script: Digest,
    /// The environment variables that the recipe sets.
    pub env: BTreeMap<String, String>,
    /// The files of the toolchain that the image holds.
    pub base: BaseTable,
    /// The image's repository, entry point, user and other settings.
    pub image: ImageTable,
    /// The command that is run from the finished image.
    pub smoke: SmokeTable,
    /// The image's annotations that do not follow from the other fields.
    pub annotations: BTreeMap<String, String>,
}

/// A source within a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSource {
    /// The source's identity.
    pub digest: Digest,
    /// The upstream's own name for exactly this state, such as a commit.
    pub revision: String,
    /// The source's date, in seconds since 1970.
    pub epoch: i64,
    /// Whether the source is unsigned: nobody vouches for it, and a person asked for it by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
}

/// The annotation that holds the source's digest, by which a client can ask the mirror for the source.
pub const SOURCE_DIGEST: &str = "io.hab-build.source";

/// The annotation that holds the toolchain's name. It does not hold the lock's digest: locks that differ without
/// changing the outputs, or that are for another building machine, make the same image. The report of a build has that
/// digest.
pub const TOOLCHAIN: &str = "io.hab-build.toolchain";

/// The annotation that marks an image built from unsigned source.
pub const UNSIGNED: &str = "io.hab-build.unsigned";

impl Plan {
    /// A plan to build `version` of a recipe for `platform`.
    pub fn new(
        text: &RecipeText,
        version: &str,
        platform: Platform,
        toolchain: Digest,
        source: PlannedSource,
        inputs: BTreeMap<String, PlannedSource>,
    ) -> Result<Self, RecipeError> {
        check_version(version)?;
        let recipe = &text.recipe;
        let mut annotations: BTreeMap<String, String> = [
            (key::SOURCE, recipe.homepage.as_str()),
            (key::REVISION, source.revision.as_str()),
            (key::VERSION, version),
            (key::LICENSES, recipe.licenses.as_str()),
            (key::TITLE, recipe.name.as_str()),
            (key::DESCRIPTION, recipe.summary.as_str()),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        annotations.insert(SOURCE_DIGEST.to_owned(), source.digest.to_string());
        annotations.insert(TOOLCHAIN.to_owned(), text.toolchain.name.clone());
        let mut image = recipe.image.clone();
        if source.unsigned {
            annotations.insert(UNSIGNED.to_owned(), "true".to_owned());
            // Quarantine: a client that pulls the recipe's own repository never gets this image.
            image.repository = format!("unsigned/{}", image.repository).parse()?;
        }
        let mut base = text.toolchain.base.clone();
        base.files.retain(|architecture, _| architecture == platform.architecture());
        Ok(Self {
            schema: PLAN_SCHEMA,
            recipe: recipe.name.clone(),
            version: version.to_owned(),
            platform,
            source,
            inputs,
            subfolder: recipe.subfolder().map(str::to_owned),
            toolchain,
            links: text.toolchain.link.clone(),
            script: Digest::of(text.script.as_bytes()),
            env: recipe.build.env.clone(),
            base,
            image,
            smoke: recipe.smoke.clone(),
            annotations,
        })
    }

    /// The plan's text: a person reads it, and the digest is taken of it. Fields come in declaration order and maps are
    /// sorted, so equal plans have equal texts.
    pub fn to_text(&self) -> String {
        // Only a map with keys that are not strings could fail, and a plan has none.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The digest of the plan's text, which is the build's identity.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// The platform's GNU triplet, such as `x86_64-linux-gnu`.
    pub fn triplet(&self) -> String {
        format!("{}-linux-gnu", self.platform.machine())
    }

    /// The folder in the toolchain's root that holds the platform's headers and libraries.
    pub fn sysroot(&self) -> String {
        format!("/sysroot/{}", self.platform.architecture())
    }
}

/// Checks a version once for all its uses: as a tag, as part of file names and as a ref.
pub fn check_version(version: &str) -> Result<(), RecipeError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~:-".contains(&b);
    let valid = (1..=100).contains(&version.len()) && !version.starts_with('-') && version.bytes().all(plain);
    if valid { Ok(()) } else { Err(RecipeError::Version(version.chars().take(120).collect())) }
}
