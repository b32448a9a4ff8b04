//! A request, resolved: the recipe, its locks, its source, and one plan for each platform.

use std::collections::BTreeMap;

use hab_builder::Trials;
use hab_keys::VerifiedSource;
use hab_keys::tag::VerifiedTag;
use hab_oci::{Platform, RepositoryName};
use hab_recipe::{
    LockedSource, Plan, PlannedSource, RecipeError, RecipeLock, RecipeSet, RecipeText, SourceTable,
    ToolchainLock, check_version,
};

use crate::error::FarmError;
use crate::source::LockedSources;
use crate::source::tags::Tags;

/// A request to build a recipe.
#[derive(Clone, Debug)]
pub struct Request {
    /// The recipe's name.
    pub recipe: String,
    /// The version; without one, the newest in the lock.
    pub version: Option<String>,
    /// The platforms to build for.
    pub platforms: Vec<Platform>,
    /// Whether the person asks by name for source that nobody signed.
    pub unsigned: bool,
    /// How often each plan runs, and what changes between the runs.
    pub trials: Trials,
}

/// A request with everything resolved that determines the outputs.
pub struct Order {
    pub(crate) text: RecipeText,
    pub(crate) toolchain: ToolchainLock,
    pub(crate) lock: RecipeLock,
    pub(crate) version: String,
    /// One plan for each platform, in the requested order.
    pub(crate) plans: Vec<Plan>,
    origin: Origin,
}

/// What identifies the recipe's own source: its lock, or a verified tag.
enum Origin {
    Locked(LockedSource),
    Tag { project: String, tag: Box<VerifiedTag> },
}

impl Order {
    /// The plans, one for each platform.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The repository to publish the image in: the recipe's own, or its place in quarantine.
    pub(crate) fn repository(&self) -> RepositoryName {
        let recipe = &self.text.recipe.image.repository;
        self.plans.first().map_or_else(|| recipe.clone(), |plan| plan.image.repository.clone())
    }
}

/// Resolves requests.
#[derive(Clone, Copy)]
pub struct Orders<'a> {
    /// The recipes that can be built.
    pub recipes: &'a RecipeSet,
    /// Verifies sources that locks pin.
    pub locked: LockedSources<'a>,
    /// Verifies sources that git tags name.
    pub tags: Tags<'a>,
}

impl Orders<'_> {
    /// Resolves a request. Mirrors a git source and judges its tag here, because only that reveals what the version is.
    /// Fetches nothing else.
    pub fn resolve(&self, request: &Request) -> Result<Order, FarmError> {
        let text = self.recipes.recipe(&request.recipe)?;
        let recipe = &text.recipe;
        let toolchain = self.recipes.toolchain_lock(&text.toolchain)?;
        let lock = self.recipes.recipe_lock(recipe, &toolchain)?;
        let (origin, version, source) = match &recipe.source {
            SourceTable::Git { project, policy, .. } => {
                let version = request.version.clone();
                let version =
                    version.ok_or_else(|| RecipeError::VersionMissing { recipe: recipe.name.clone() })?;
                check_version(&version)?;
                let tag = self.tags.verify(project, policy, (&version, request.unsigned))?;
                let planned = self.tags.plan(project, &tag)?;
                (Origin::Tag { project: project.clone(), tag: Box::new(tag) }, version, planned)
            }
            SourceTable::DebianSource { .. } | SourceTable::Crate { .. } => {
                let locked = lock.version(request.version.as_deref())?;
                (Origin::Locked(locked.clone()), locked.version.clone(), planned(locked))
            }
        };
        let inputs: BTreeMap<_, _> = recipe
            .input
            .iter()
            .zip(&lock.input)
            .map(|(table, locked)| (table.name.to_string(), planned(locked)))
            .collect();
        let plan = |platform: &Platform| {
            Plan::new(&text, &version, *platform, toolchain.digest(), source.clone(), inputs.clone())
        };
        let plans = request.platforms.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
        Ok(Order { text, toolchain, lock, version, plans, origin })
    }

    /// Fetches and judges the order's own source.
    pub(crate) fn verify_source(&self, order: &Order) -> Result<VerifiedSource, FarmError> {
        match &order.origin {
            Origin::Locked(locked) => {
                self.locked.verify(&order.text.recipe.name, &order.text.recipe.source, locked)
            }
            Origin::Tag { project, tag } => {
                let planned = self.tags.plan(project, tag)?;
                self.tags.verify_export(tag, &planned.digest)
            }
        }
    }

    /// Fetches and judges the order's other inputs, by the names of their folders.
    pub(crate) fn verify_inputs(&self, order: &Order) -> Result<BTreeMap<String, VerifiedSource>, FarmError> {
        let recipe = &order.text.recipe;
        let pairs = recipe.input.iter().zip(&order.lock.input);
        pairs
            .map(|(table, locked)| {
                Ok((table.name.to_string(), self.locked.verify(&recipe.name, &table.source, locked)?))
            })
            .collect()
    }
}

fn planned(locked: &LockedSource) -> PlannedSource {
    PlannedSource {
        digest: locked.digest().clone(),
        revision: locked.version.clone(),
        epoch: locked.epoch,
        unsigned: false,
    }
}
