//! An open farm: everything that the rooms are made of. Each room gets only what it uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hab_config::Config;
use hab_mirror::Outside;
use hab_recipe::RecipeSet;
use hab_registry::Upstreams;
use hab_store::Store;

use crate::bridge::Bridge;
use crate::build::Builds;
use crate::build::order::Orders;
use crate::build::room::DiskSpace;
use crate::carry::aside::Aside;
use crate::carry::export::Exporter;
use crate::carry::import::{ImportSelection, Imported, Importer};
use crate::error::FarmError;
use crate::facts::Facts;
use crate::fetching::Fetching;
use crate::folder::{self, DataFolder};
use crate::images::sync::ImageSyncs;
use crate::images::{Images, upstreams};
use crate::keep::StoreKeep;
use crate::mirrors::Mirrors;
use crate::mirrors::projects::ProjectFiles;
use crate::mirrors::repositories::Repositories;
use crate::mirrors::view::Views;
use crate::overlay;
use crate::progress::Progress;
use crate::source::LockedSources;
use crate::source::crates::Crates;
use crate::source::debian::Debian;
use crate::source::depends::DependsSources;
use crate::source::lock::Locks;
use crate::source::packages::Packages;
use crate::source::releases::Releases;
use crate::source::tags::Tags;
use crate::trust::Trust;
use crate::trust::decide::Decisions;
use crate::trust::history::Histories;
use crate::trust::keyring::{Keyring, Looked, OperatorsPlaces};
use crate::trust::memory::Memory;
use crate::trust::policies::Policies;

/// Options for opening a farm.
pub struct Options {
    /// The data folder; created if it is missing.
    pub data: PathBuf,
    /// Folders of recipes that override the built-in ones; each overrides those before it.
    pub recipes: Vec<PathBuf>,
    /// Folders of policies that override the built-in ones; each overrides those before it.
    pub trust: Vec<PathBuf>,
    /// Whether fetching is forbidden.
    pub offline: bool,
    /// The operator's configuration.
    pub config: Config,
}

/// One data folder and everything around it. A clone is the same farm.
#[derive(Clone)]
pub struct Farm {
    data: DataFolder,
    config: Arc<Config>,
    offline: bool,
    recipes: Arc<RecipeSet>,
    policies: Arc<Policies>,
    store: Store,
    bridge: Bridge,
    keep: StoreKeep,
    outside: Outside,
    looked: Arc<Looked>,
    progress: Arc<dyn Progress>,
}

impl Farm {
    /// Opens the store and reads the recipes.
    pub fn open(options: Options, bridge: Bridge, progress: Arc<dyn Progress>) -> Result<Self, FarmError> {
        let Options { data, recipes, trust, offline, config } = options;
        folder::private(&data, progress.as_ref()).map_err(FarmError::io(&data))?;
        // The sandbox changes its working directory, so no path may depend on where the program was started.
        let data = DataFolder::new(fs::canonicalize(&data).map_err(FarmError::io(&data))?);
        let recipes = overlay::recipes(&recipes, !config.without_built_in, progress.as_ref())?;
        let policies = Policies::open(trust, !config.without_built_in, progress.as_ref())?;
        let store = bridge.wait(Store::open(data.path()))?;
        let store = store.with_immutable(&config.registry.immutable);
        let partial = data.partial();
        fs::create_dir_all(&partial).map_err(FarmError::io(&partial))?;
        let keep = StoreKeep::new(store.clone(), bridge.clone(), partial);
        let outside = Outside::new(config.mirror.ca.as_deref(), &config.mirror.inner)?;
        Ok(Self {
            data,
            config: Arc::new(config),
            offline,
            recipes: Arc::new(recipes),
            policies: Arc::new(policies),
            store,
            bridge,
            keep,
            outside,
            looked: Arc::default(),
            progress,
        })
    }

    /// The operator's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data folder, as an absolute path.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The recipes.
    pub fn recipes(&self) -> &RecipeSet {
        &self.recipes
    }

    /// The pinned keys, and what is known about them.
    pub fn keyring(&self) -> Keyring<'_> {
        Keyring {
            policies: &self.policies,
            memory: self.memory(),
            facts: self.facts(),
            repositories: self.repositories(),
            fetching: self.fetching(),
            data: &self.data,
            places: OperatorsPlaces {
                certificates: &self.config.certificates,
                keyrings: &self.config.debian.keyrings,
                outside: &self.config.keys,
            },
            looked: &self.looked,
        }
    }

    /// Makes decisions about signatures.
    pub fn decisions(&self) -> Decisions<'_> {
        Decisions {
            trust: self.trust(),
            repositories: self.repositories(),
            facts: self.facts(),
            blobs: &self.store.blobs,
            progress: self.progress(),
        }
    }

    /// Mirrored projects.
    pub fn mirrors(&self) -> Mirrors<'_> {
        Mirrors {
            projects: self.projects(),
            repositories: self.repositories(),
            views: self.views(),
            facts: self.facts(),
            fetching: self.fetching(),
            data: &self.data,
            progress: self.progress(),
        }
    }

    /// The known projects.
    pub fn projects(&self) -> ProjectFiles<'_> {
        ProjectFiles {
            data: &self.data,
            recipes: &self.recipes,
            git: &self.config.git,
            mirror: &self.config.mirror,
            policies: &self.policies,
        }
    }

    /// The verified views of mirrored projects.
    pub fn views(&self) -> Views<'_> {
        Views {
            projects: self.projects(),
            repositories: self.repositories(),
            trust: self.trust(),
            facts: self.facts(),
            progress: self.progress(),
        }
    }

    /// Releases and plain files.
    pub fn releases(&self) -> Releases<'_> {
        Releases {
            projects: self.projects(),
            decisions: self.decisions(),
            fetching: self.fetching(),
            facts: self.facts(),
            progress: self.progress(),
        }
    }

    /// Sources of depends packages.
    pub fn depends(&self) -> DependsSources<'_> {
        DependsSources {
            repositories: self.repositories(),
            fetching: self.fetching(),
            facts: self.facts(),
            mirrors: &self.config.mirror.depends,
            progress: self.progress(),
        }
    }

    /// The packages that locks name.
    pub fn packages(&self) -> Packages<'_> {
        Packages {
            recipes: &self.recipes,
            fetching: self.fetching(),
            debian: self.debian(),
            crates: self.crates(),
            progress: self.progress(),
        }
    }

    /// Writes locks.
    pub fn locks(&self) -> Locks<'_> {
        Locks {
            recipes: &self.recipes,
            fetching: self.fetching(),
            debian: self.debian(),
            crates: self.crates(),
            data: &self.data,
            keyrings: &self.config.debian.keyrings,
            progress: self.progress(),
        }
    }

    /// Resolves requests.
    pub fn orders(&self) -> Orders<'_> {
        Orders { recipes: &self.recipes, locked: self.locked(), tags: self.tags() }
    }

    /// Builds recipes.
    pub fn builds(&self) -> Builds<'_> {
        Builds {
            orders: self.orders(),
            debian: self.debian(),
            fetching: self.fetching(),
            space: DiskSpace { data: self.data.path(), facts: self.facts(), progress: self.progress() },
            store: &self.store,
            bridge: &self.bridge,
            data: &self.data,
            progress: self.progress(),
        }
    }

    /// The registry's images.
    pub fn images(&self) -> Images<'_> {
        Images {
            store: &self.store,
            bridge: &self.bridge,
            config: &self.config.registry,
            recipes: &self.recipes,
            progress: &self.progress,
        }
    }

    /// Syncs images of other registries.
    pub fn image_syncs(&self) -> ImageSyncs {
        ImageSyncs {
            store: self.store.clone(),
            bridge: self.bridge.clone(),
            config: self.config.registry.clone(),
            progress: self.progress.clone(),
            work: self.data.work(),
            offline: self.offline,
        }
    }

    /// The upstream registries. They are never asked when the farm is offline.
    pub fn upstreams(&self) -> Result<Upstreams, FarmError> {
        upstreams::open(&self.config.registry, self.offline, &self.data.token_services())
    }

    /// The upstream registries, or `None` when the farm is offline.
    pub fn reachable_upstreams(&self) -> Result<Option<Upstreams>, FarmError> {
        if self.offline { Ok(None) } else { self.upstreams().map(Some) }
    }

    /// Writes what is mirrored into one file.
    pub fn exporter(&self) -> Exporter<'_> {
        Exporter {
            mirrors: self.mirrors(),
            packages: self.packages(),
            blobs: &self.store.blobs,
            progress: self.progress(),
        }
    }

    /// Takes in an export: blobs by their digests, git through quarantine and journal, an InRelease by its signature.
    /// Replaces nothing that is here, and keeps nothing that no document here names.
    pub fn import(&self, file: &Path, wanted: &ImportSelection) -> Result<Imported, FarmError> {
        let partial = self.data.partial();
        let aside = Arc::new(Aside::new(&partial).map_err(FarmError::io(&partial))?);
        let beside = Self { keep: self.keep.beside(Arc::clone(&aside)), ..self.clone() };
        let importer = Importer {
            aside: &aside,
            mirrors: beside.mirrors(),
            packages: beside.packages(),
            releases: beside.releases(),
            depends: beside.depends(),
            debian: beside.debian(),
            facts: beside.facts(),
            blobs: &beside.store.blobs,
            progress: beside.progress(),
        };
        importer.run(file, wanted)
    }

    /// The mirror that is served beside the registry.
    pub fn served(&self) -> hab_mirror_server::Mirror {
        let limits = hab_mirror_server::GitLimits::default();
        hab_mirror_server::Mirror::new(Arc::new(self.keep.clone()), self.data.git(), limits)
    }

    fn progress(&self) -> &dyn Progress {
        self.progress.as_ref()
    }

    fn facts(&self) -> Facts<'_> {
        Facts::new(&self.keep)
    }

    fn memory(&self) -> Memory<'_> {
        Memory::new(self.facts())
    }

    fn fetching(&self) -> Fetching<'_> {
        Fetching {
            keep: &self.keep,
            progress: self.progress(),
            outside: &self.outside,
            offline: self.offline,
        }
    }

    fn repositories(&self) -> Repositories<'_> {
        Repositories::new(&self.data)
    }

    fn trust(&self) -> Trust<'_> {
        let histories = Histories {
            facts: self.facts(),
            blobs: &self.store.blobs,
            memory: self.memory(),
            progress: self.progress(),
        };
        Trust { policies: &self.policies, keyring: self.keyring(), memory: self.memory(), histories }
    }

    fn debian(&self) -> Debian<'_> {
        Debian {
            trust: self.trust(),
            facts: self.facts(),
            bases: &self.config.debian.bases,
            progress: self.progress(),
        }
    }

    fn crates(&self) -> Crates<'_> {
        Crates { index: self.config.crates.index.as_deref() }
    }

    fn tags(&self) -> Tags<'_> {
        Tags {
            trust: self.trust(),
            mirrors: self.mirrors(),
            facts: self.facts(),
            blobs: &self.store.blobs,
            progress: self.progress(),
            offline: self.offline,
        }
    }

    fn locked(&self) -> LockedSources<'_> {
        LockedSources {
            fetching: self.fetching(),
            debian: self.debian(),
            crates: self.crates(),
            progress: self.progress(),
        }
    }
}
