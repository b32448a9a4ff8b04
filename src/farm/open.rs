//! Opening what a run needs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hab_keys::Policy;
use hab_mirror::apt::AptConfig;
use hab_mirror::debian::Suite;
use hab_mirror::{Fetcher, Limits, Outside};
use hab_recipe::RecipeSet;
use hab_store::Store;
use include_dir::{Dir, include_dir};
use tokio::runtime::Runtime;

use super::keep::StoreKeep;
use super::progress::MirrorView;
use super::{FarmError, Progress};
use crate::config::Config;

/// The recipes and policies that the program was built with, so that it needs no checkout to run.
static RECIPES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/recipes");
static TRUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/keys/trust");

/// How a farm is opened.
pub struct Options {
    /// The data folder; made when it is missing.
    pub data: PathBuf,
    /// A folder of recipes instead of the built-in ones.
    pub recipes: Option<PathBuf>,
    /// A folder of policies instead of the built-in ones.
    pub trust: Option<PathBuf>,
    /// Nothing may be fetched.
    pub offline: bool,
    /// The operator's configuration.
    pub config: Config,
}

/// One data folder and everything around it, opened for one run.
pub struct Farm {
    pub(super) options: Options,
    pub(super) store: Store,
    pub(super) runtime: Runtime,
    pub(super) recipes: RecipeSet,
    pub(super) keep: StoreKeep,
    pub(super) progress: Arc<dyn Progress>,
    /// How hosts of files are asked.
    outside: Outside,
    /// When certificates of each policy's keys were last looked for outside; held for one look or one note.
    pub(super) looked: Mutex<BTreeMap<String, Instant>>,
}

impl Farm {
    /// Opens the store and reads the recipes.
    pub fn open(mut options: Options, progress: Arc<dyn Progress>) -> Result<Self, FarmError> {
        private(&options.data, progress.as_ref()).map_err(FarmError::io(&options.data))?;
        // The sandbox changes folders, so no path may depend on where the program was started.
        options.data = fs::canonicalize(&options.data).map_err(FarmError::io(&options.data))?;
        let recipes = match &options.recipes {
            Some(folder) => RecipeSet::load(folder)?,
            None => RecipeSet::from_files(embedded(&RECIPES)),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(FarmError::io("the runtime"))?;
        let store = runtime.block_on(Store::open(&options.data))?;
        let store = store.with_immutable(&options.config.registry.immutable);
        let partial = options.data.join("work/partial");
        fs::create_dir_all(&partial).map_err(FarmError::io(&partial))?;
        let keep = StoreKeep::new(store.clone(), runtime.handle().clone(), partial);
        let mirror = &options.config.mirror;
        let outside = Outside::new(mirror.ca.as_deref(), &mirror.inner)?;
        let looked = Mutex::default();
        Ok(Self { options, store, runtime, recipes, keep, progress, outside, looked })
    }

    /// The operator's configuration.
    pub fn config(&self) -> &Config {
        &self.options.config
    }

    /// The data folder, from the root.
    pub fn data(&self) -> &Path {
        &self.options.data
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The runtime that the store's calls run on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The recipes.
    pub fn recipes(&self) -> &RecipeSet {
        &self.recipes
    }

    /// The policy of that name.
    pub(super) fn policy(&self, name: &str) -> Result<Policy, FarmError> {
        // A name is a folder's, and nothing that leads out of it.
        if name.parse::<hab_recipe::RecipeName>().is_err() {
            return Err(FarmError::UnknownPolicy(name.to_owned()));
        }
        let path = format!("{name}/policy.toml");
        let text = match &self.options.trust {
            Some(folder) => fs::read_to_string(folder.join(&path)).ok(),
            None => TRUST.get_file(&path).and_then(|f| f.contents_utf8()).map(str::to_owned),
        };
        let text = text.ok_or_else(|| FarmError::UnknownPolicy(name.to_owned()))?;
        Ok(Policy::parse(name, &text)?)
    }

    /// The names of all policies.
    pub(super) fn policy_names(&self) -> Result<Vec<String>, FarmError> {
        let mut names: Vec<String> = match &self.options.trust {
            Some(folder) => fs::read_dir(folder)
                .map_err(FarmError::io(folder))?
                .filter_map(|e| e.ok().filter(|e| e.path().join("policy.toml").is_file()))
                .filter_map(|e| e.file_name().into_string().ok())
                .collect(),
            None => TRUST.dirs().filter_map(|d| d.path().to_str().map(str::to_owned)).collect(),
        };
        names.sort();
        Ok(names)
    }

    /// A Debian suite, below the operator's base addresses or else those of the host's apt.
    pub(super) fn suite(&self, name: &str) -> Result<Suite, FarmError> {
        let mut bases = self.options.config.debian.bases.clone();
        if bases.is_empty() {
            bases = AptConfig::load(Path::new("/etc/apt"))?.bases(name);
        }
        Ok(Suite::new(name, bases.iter().map(|b| b.trim_end_matches('/').to_owned()).collect()))
    }

    /// Runs `work` with a fetcher into this farm's store.
    pub(super) fn fetching<T>(&self, work: impl FnOnce(&Fetcher<'_>, &MirrorView<'_>) -> T) -> T {
        self.fetching_within(Limits::default(), work)
    }

    /// The same, within other limits.
    pub(super) fn fetching_within<T>(
        &self,
        limits: Limits,
        work: impl FnOnce(&Fetcher<'_>, &MirrorView<'_>) -> T,
    ) -> T {
        let view = MirrorView(self.progress.as_ref());
        let fetcher = Fetcher::new(&self.keep, &view, limits, self.options.offline);
        let fetcher = fetcher.asking(self.outside.clone());
        work(&fetcher, &view)
    }
}

/// Makes the data folder for its owner alone. One that is there already, and ours, is closed to others; its group may go on
/// reading it, if somebody wanted that.
fn private(data: &Path, progress: &dyn Progress) -> io::Result<()> {
    const NOT_OTHERS: u32 = 0o027;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let found = fs::metadata(data)?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & NOT_OTHERS != 0 && found.uid() == rustix::process::geteuid().as_raw() {
        let closed = mode & !NOT_OTHERS;
        fs::set_permissions(data, fs::Permissions::from_mode(closed))?;
        let was = if mode & 0o022 == 0 { "read" } else { "change" };
        progress.note(&format!(
            "{}: others on this machine could {was} what is in it (mode {mode:03o}); it is {closed:03o} now",
            data.display()
        ));
    }
    Ok(())
}

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

fn embedded(folder: &Dir<'_>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for dir in folder.dirs() {
        for file in dir.files() {
            if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8()) {
                files.insert(path.to_owned(), text.to_owned());
            }
        }
    }
    files
}
