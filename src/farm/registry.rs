//! The registry, tended: `hab-build registry`.

use hab_oci::{Digest, RepositoryName, Tag};
use hab_store::{Back, RepositoryRow, TagMove, TagRow};

use super::{Farm, FarmError, open};

impl Farm {
    /// Every repository.
    pub fn repositories(&self) -> Result<Vec<RepositoryRow>, FarmError> {
        Ok(self.runtime.block_on(self.store.catalog.repositories())?)
    }

    /// Every tag of a repository.
    pub fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagRow>, FarmError> {
        if !self.runtime.block_on(self.store.catalog.has_repository(repository))? {
            return Err(FarmError::Usage(format!("there is no repository {repository}")));
        }
        Ok(self.runtime.block_on(self.store.catalog.tag_rows(repository))?)
    }

    /// Every move of a tag, the first one first.
    pub fn tag_history(&self, repository: &RepositoryName, tag: &Tag) -> Result<Vec<TagMove>, FarmError> {
        let moves = self.runtime.block_on(self.store.catalog.tag_history(repository, tag))?;
        if moves.is_empty() {
            return Err(FarmError::Usage(format!("{repository} never had a tag {tag}")));
        }
        Ok(moves)
    }

    /// Moves a tag back to where it was.
    pub fn rollback(&self, repository: &RepositoryName, tag: &Tag, back: &Back) -> Result<Digest, FarmError> {
        Ok(self.runtime.block_on(self.store.catalog.rollback_tag(repository, tag, back, open::now()))?)
    }
}
