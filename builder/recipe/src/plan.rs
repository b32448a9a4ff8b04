//! Everything that decides what comes out of a build.

use std::collections::BTreeMap;

use hab_oci::{Digest, Platform, annotations as key};
use serde::{Deserialize, Serialize};

use crate::{BaseTable, ImageTable, LinkTable, RecipeError, RecipeName, RecipeText, SmokeTable};

/// Grows whenever the engine would turn an equal plan into other bytes.
pub const PLAN_SCHEMA: u32 = 3;

/// Recipe, locks, source and platform, all resolved: plain data whose digest is the build's identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: u32,
    /// The recipe.
    pub recipe: RecipeName,
    /// The version that was asked for.
    pub version: String,
    /// What it is built for.
    pub platform: Platform,
    /// The source.
    pub source: PlannedSource,
    /// The further inputs, by the name of their folder.
    pub inputs: BTreeMap<String, PlannedSource>,
    /// The folder of the source that is built.
    pub subfolder: Option<String>,
    /// The digest of the toolchain's lock.
    pub toolchain: Digest,
    /// The toolchain's links.
    pub links: Vec<LinkTable>,
    /// The build script's digest.
    pub script: Digest,
    /// The recipe's own variables.
    pub env: BTreeMap<String, String>,
    /// What the image holds of the toolchain.
    pub base: BaseTable,
    /// What the image is.
    pub image: ImageTable,
    /// What is run from it.
    pub smoke: SmokeTable,
    /// The image's annotations that do not follow from the rest.
    pub annotations: BTreeMap<String, String>,
}

/// A source within a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSource {
    /// Its identity.
    pub digest: Digest,
    /// The upstream's own name for exactly this state.
    pub revision: String,
    /// Its date, in seconds since 1970.
    pub epoch: i64,
    /// Whether nothing vouches for it: a person asked for unsigned source by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
}

/// The annotation that holds the source's identity: a digest by which it can be asked for in the mirror.
pub const SOURCE_DIGEST: &str = "io.hab-build.source";

/// The annotation that names the toolchain. Its lock is not there: a lock that changes nothing of the outputs, or one
/// of another building machine, makes the same image. The report of a build has its digest.
pub const TOOLCHAIN: &str = "io.hab-build.toolchain";

/// The annotation of an image that was built from unsigned source.
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
            // Quarantine: whoever pulls the recipe's own repository never gets it.
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

    /// The plan's text: what a person reads, and what its digest is taken of. Fields are in their order and maps are
    /// sorted, so equal plans have equal texts.
    pub fn to_text(&self) -> String {
        // Only a map with keys that are not strings could fail, and a plan has none.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The build's identity.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// The GNU triplet of the platform.
    pub fn triplet(&self) -> String {
        format!("{}-linux-gnu", self.platform.machine())
    }

    /// Where the platform's headers and libraries are within the toolchain's root.
    pub fn sysroot(&self) -> String {
        format!("/sysroot/{}", self.platform.architecture())
    }
}

/// A version becomes a tag, a part of file names and a ref, so it is checked once, here.
pub fn check_version(version: &str) -> Result<(), RecipeError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~:-".contains(&b);
    let valid = (1..=100).contains(&version.len()) && !version.starts_with('-') && version.bytes().all(plain);
    if valid { Ok(()) } else { Err(RecipeError::Version(version.chars().take(120).collect())) }
}
