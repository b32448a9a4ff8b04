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
use hab_trusted_file::Readers;
use include_dir::{Dir, include_dir};
use tokio::runtime::Runtime;

use super::keep::StoreKeep;
use super::progress::MirrorView;
use super::{FarmError, Progress, chain};
use hab_config::Config;

/// The recipes and policies that the program was built with, so that it needs no checkout to run.
static RECIPES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../recipes");
static TRUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../keys/trust");

/// The most bytes of a policy.
const POLICY: u64 = 1 << 20;

/// How a farm is opened.
pub struct Options {
    /// The data folder; made when it is missing.
    pub data: PathBuf,
    /// Folders of recipes over the built-in ones, each over those before it.
    pub recipes: Vec<PathBuf>,
    /// Folders of policies over the built-in ones, each over those before it.
    pub trust: Vec<PathBuf>,
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
        let recipes = recipes(&options, progress.as_ref())?;
        say_replaced_policies(&options, progress.as_ref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
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
            return Err(self.unknown_policy(name));
        }
        // The last folder that has it counts. One that cannot be read must not give way to a milder one below.
        for folder in self.options.trust.iter().rev() {
            if let Some(text) = policy_in(folder, name)? {
                return Ok(Policy::parse(name, &text)?);
            }
        }
        let built_in = if self.options.config.without_built_in { None } else { built_in_policy(name) };
        let text = built_in.ok_or_else(|| self.unknown_policy(name))?;
        Ok(Policy::parse(name, text)?)
    }

    fn unknown_policy(&self, name: &str) -> FarmError {
        let known = self.policy_names().unwrap_or_default().join(", ");
        FarmError::UnknownPolicy { name: name.chars().take(100).collect(), known }
    }

    /// The names of all policies.
    pub(super) fn policy_names(&self) -> Result<Vec<String>, FarmError> {
        let mut names = Vec::new();
        for folder in &self.options.trust {
            names.extend(policies_in(folder)?);
        }
        if !self.options.config.without_built_in {
            names.extend(TRUST.dirs().filter_map(|d| d.path().to_str().map(str::to_owned)));
        }
        names.sort();
        names.dedup();
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

/// The built-in recipes with the folders over them. Whatever takes the place of something else is said.
fn recipes(options: &Options, progress: &dyn Progress) -> Result<RecipeSet, FarmError> {
    let built_in = if options.config.without_built_in { BTreeMap::new() } else { embedded(&RECIPES) };
    let mut set = RecipeSet::from_files(built_in);
    for folder in &options.recipes {
        listed(folder, "recipes")?;
        for taken in set.overlay(RecipeSet::load(folder, believed)?) {
            progress.note(&format!("{taken} of {} takes the place of the one before it", folder.display()));
        }
    }
    Ok(set)
}

/// Says which policies of a folder take the place of others: who decides what is accepted must not change in silence.
fn say_replaced_policies(options: &Options, progress: &dyn Progress) -> Result<(), FarmError> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    if !options.config.without_built_in {
        let names = TRUST.dirs().filter_map(|dir| dir.path().to_str());
        known.extend(names.filter_map(|name| Some((name.to_owned(), built_in_policy(name)?.to_owned()))));
    }
    for folder in &options.trust {
        for name in policies_in(folder)? {
            let Some(text) = policy_in(folder, &name)? else { continue };
            if known.insert(name.clone(), text.clone()).is_some_and(|before| before != text) {
                let folder = folder.display();
                progress.note(&format!("policy {name} of {folder} takes the place of the one before it"));
            }
        }
    }
    Ok(())
}

fn built_in_policy(name: &str) -> Option<&'static str> {
    TRUST.get_file(format!("{name}/policy.toml"))?.contents_utf8()
}

/// A policy's text, if the folder has one of that name.
fn policy_in(folder: &Path, name: &str) -> Result<Option<String>, FarmError> {
    match hab_trusted_file::read_text(&folder.join(name).join("policy.toml"), Readers::Everybody, POLICY) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(FarmError::Usage(chain(&e))),
    }
}

/// The text of a file that decides what is built or accepted, if nobody else could have written it.
fn believed(path: &Path, limit: u64) -> Result<String, FarmError> {
    hab_trusted_file::read_text(path, Readers::Everybody, limit).map_err(|e| FarmError::Usage(chain(&e)))
}

/// What is in a folder that was named to be laid over the built-in ones.
fn listed(folder: &Path, of: &str) -> Result<fs::ReadDir, FarmError> {
    let unreadable = |e| format!("the folder {} of {of} cannot be read: {e}", folder.display());
    fs::read_dir(folder).map_err(|e| FarmError::Usage(unreadable(e)))
}

/// The names of a folder's policies.
fn policies_in(folder: &Path) -> Result<Vec<String>, FarmError> {
    let entries = listed(folder, "policies")?;
    // Whatever else it is than a file is said when it is read.
    let named =
        entries.filter_map(|e| e.ok().filter(|e| e.path().join("policy.toml").symlink_metadata().is_ok()));
    Ok(named.filter_map(|e| e.file_name().into_string().ok()).collect())
}

/// Threads that requests are answered by: one for each core that this process may use, and two at least, so that one
/// long piece of work does not hold up all others.
fn workers() -> usize {
    // Said by whoever knows better, such as a container's owner.
    let said = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|said| said.parse().ok());
    said.filter(|said| *said > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
        .max(2)
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

#[cfg(test)]
mod tests {
    #[test]
    fn requests_are_answered_by_as_many_threads_as_there_are_cores_and_two_at_least() {
        if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
            let cores = std::thread::available_parallelism().map_or(2, usize::from);
            assert_eq!(super::workers(), cores.max(2));
        }
    }
}
