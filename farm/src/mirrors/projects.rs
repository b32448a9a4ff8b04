//! The known projects: the shipped ones, the operator's, and those that only a recipe names.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use hab_config::{GitConfig, MirrorConfig};
use hab_mirror::MirrorError;
use hab_mirror::git::Allow;
use hab_mirror::projects::{Project, Projects};
use hab_recipe::{RecipeSet, SourceTable};
use include_dir::{Dir, include_dir};

use crate::error::FarmError;
use crate::folder::DataFolder;
use crate::trust::policies::Policies;

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../mirror/projects");

/// The projects of a farm: files, recipes and configuration.
#[derive(Clone, Copy)]
pub struct ProjectFiles<'a> {
    /// The data folder, with the operator's project files.
    pub data: &'a DataFolder,
    /// The recipes, which name projects too.
    pub recipes: &'a RecipeSet,
    /// The operator's own addresses, by project.
    pub git: &'a BTreeMap<String, GitConfig>,
    /// The configuration of mirrors, which says what may be mirrored.
    pub mirror: &'a MirrorConfig,
    /// The policies, which say who must have signed.
    pub policies: &'a Policies,
}

impl ProjectFiles<'_> {
    /// Every known project. Files in the data folder's `projects/` override the shipped ones, and the configuration
    /// overrides the addresses of both. A recipe adds a project that no file has.
    pub fn all(&self) -> Result<Projects, FarmError> {
        let mut projects = Projects::default();
        for file in SHIPPED.files() {
            if let (Some(name), Some(text)) = (file.path().file_stem(), file.contents_utf8()) {
                projects.add(Project::parse(&name.to_string_lossy(), text)?);
            }
        }
        for entry in fs::read_dir(self.data.projects()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "toml") {
                let text = fs::read_to_string(&path).map_err(FarmError::io(&path))?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                projects.add(Project::parse(&name, &text)?);
            }
        }
        for name in self.recipes.names() {
            // An unreadable recipe reports its error when it is built.
            let Ok(text) = self.recipes.recipe(name) else { continue };
            let SourceTable::Git { project, urls, policy } = &text.recipe.source else { continue };
            if projects.get(project.as_str()).is_none() {
                let policy = Some(policy.clone());
                projects.add(Project { policy, ..Project::new(project.as_str(), urls.clone()) });
            }
        }
        for (name, git) in self.git {
            if git.urls.is_empty() {
                // Only an address in the configuration may get a password. An import and other sources of addresses may
                // not choose who gets it.
                if git.password_file.is_some() {
                    return Err(FarmError::Usage(format!(
                        "[git.{name}] names a password-file and no urls; name the address that it is for: \
                         urls = [\"https://USER@host/project.git\"]"
                    )));
                }
                continue;
            }
            match projects.get_mut(name) {
                Some(project) => project.urls.clone_from(&git.urls),
                None => projects.add(Project::new(name, git.urls.clone())),
            }
            if let Some(project) = projects.get_mut(name) {
                project.password_file.clone_from(&git.password_file);
            }
        }
        projects.check()?;
        Ok(projects)
    }

    /// The project of this name.
    pub fn get(&self, name: &str) -> Result<Project, FarmError> {
        let unknown = || {
            FarmError::Usage(format!(
                "there is no project {name}; `hab-build mirror add {name} URL` adds it, `hab-build mirror list --all` \
                 lists the known ones"
            ))
        };
        self.all()?.get(name).cloned().ok_or_else(unknown)
    }

    /// Adds a project to the data folder.
    pub fn add(&self, project: &Project) -> Result<PathBuf, FarmError> {
        project.check().map_err(|detail| MirrorError::Project { project: project.name.clone(), detail })?;
        for url in &project.urls {
            self.allowed().check(url)?;
        }
        let mut projects = self.all()?;
        if projects.get(&project.name).is_some() {
            return Err(FarmError::Usage(format!(
                "there is a project {} already; its addresses are changed in hab.toml, [git.{}]",
                project.name, project.name
            )));
        }
        if let Some(policy) = &project.policy {
            self.policies.get(policy)?;
        }
        projects.add(project.clone());
        projects.check()?;
        let folder = self.data.projects();
        fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        let path = folder.join(format!("{}.toml", project.name));
        // An address in it may hold a password.
        hab_file::replace_with(&path, 0o600, project.to_text().as_bytes())?;
        Ok(path)
    }

    /// The transports that the operator allows beside https, ssh and git.
    pub fn allowed(&self) -> Allow {
        Allow { file: self.mirror.file, http: self.mirror.http }
    }
}
