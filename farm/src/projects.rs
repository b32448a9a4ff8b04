//! The projects that are mirrored: shipped, the operator's, and those that only a recipe names.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use hab_mirror::MirrorError;
use hab_mirror::git::Allow;
use hab_mirror::projects::{Project, Projects};
use hab_recipe::SourceTable;
use include_dir::{Dir, include_dir};

use super::{Farm, FarmError};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../mirror/projects");

impl Farm {
    /// Every project: the shipped ones, over them those of the data folder's `projects/`, and over their addresses the
    /// configuration's; then what recipes name and no file does.
    pub(super) fn projects(&self) -> Result<Projects, FarmError> {
        let mut projects = Projects::default();
        for file in SHIPPED.files() {
            if let (Some(name), Some(text)) = (file.path().file_stem(), file.contents_utf8()) {
                projects.add(Project::parse(&name.to_string_lossy(), text)?);
            }
        }
        for entry in fs::read_dir(self.project_folder()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "toml") {
                let text = fs::read_to_string(&path).map_err(FarmError::io(&path))?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                projects.add(Project::parse(&name, &text)?);
            }
        }
        for name in self.recipes.names() {
            // A recipe that does not read says so when it is built.
            let Ok(text) = self.recipes.recipe(name) else { continue };
            let SourceTable::Git { project, urls, policy } = &text.recipe.source else { continue };
            if projects.get(project.as_str()).is_none() {
                let policy = Some(policy.clone());
                projects.add(Project { policy, ..Project::new(project.as_str(), urls.clone()) });
            }
        }
        for (name, git) in &self.options.config.git {
            if git.urls.is_empty() {
                // Addresses from elsewhere, an import among them, do not say who gets a password.
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
    pub(super) fn project(&self, name: &str) -> Result<Project, FarmError> {
        let unknown = || {
            FarmError::Usage(format!(
                "there is no project {name}; `hab-build mirror add {name} URL` makes it one, `hab-build mirror list --all` \
                 shows those there are"
            ))
        };
        self.projects()?.get(name).cloned().ok_or_else(unknown)
    }

    /// Adds a project to the data folder.
    pub fn add_project(&self, project: &Project) -> Result<PathBuf, FarmError> {
        project.check().map_err(|detail| MirrorError::Project { project: project.name.clone(), detail })?;
        for url in &project.urls {
            self.allowed().check(url)?;
        }
        let mut projects = self.projects()?;
        if projects.get(&project.name).is_some() {
            return Err(FarmError::Usage(format!(
                "there is a project {} already; its addresses are changed in hab.toml, [git.{}]",
                project.name, project.name
            )));
        }
        if let Some(policy) = &project.policy {
            self.policy(policy)?;
        }
        projects.add(project.clone());
        projects.check()?;
        let folder = self.project_folder();
        fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        let path = folder.join(format!("{}.toml", project.name));
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(FarmError::io(&folder))?;
        file.write_all(project.to_text().as_bytes()).map_err(FarmError::io(&path))?;
        file.as_file().sync_all().map_err(FarmError::io(&path))?;
        file.persist(&path).map_err(|e| FarmError::io(&path)(e.error))?;
        Ok(path)
    }

    /// Which transports the operator allows beside https, ssh and git.
    pub(super) fn allowed(&self) -> Allow {
        let config = &self.options.config.mirror;
        Allow { file: config.file, http: config.http }
    }

    fn project_folder(&self) -> PathBuf {
        self.options.data.join("projects")
    }
}
