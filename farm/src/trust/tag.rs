//! A mirrored tag, in the form that a judge takes.

use hab_keys::tag::Claimed;
use hab_mirror::git::TagBytes;

/// What a mirror claims about a value of a tag.
pub fn claimed<'t>(project: &'t str, tag: &'t TagBytes) -> Claimed<'t> {
    Claimed {
        project,
        name: &tag.name,
        id: &tag.id,
        object: tag.object.as_deref(),
        commit: (&tag.commit_id, &tag.commit),
    }
}
