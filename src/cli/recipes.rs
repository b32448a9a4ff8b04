//! `hab-build recipes`.

use hab_recipe::SourceTable;

use super::{Global, print_json, terminal};
use hab_farm::FarmError;

#[derive(serde::Serialize)]
struct Row {
    name: String,
    summary: String,
    /// Locked versions; empty for a recipe that can build any signed tag.
    versions: Vec<String>,
}

pub fn run(global: &Global) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let set = farm.recipes();
    let mut rows = Vec::new();
    for name in set.names() {
        let text = set.recipe(name).map_err(FarmError::from)?;
        let versions = match text.recipe.source {
            SourceTable::Git { .. } => Vec::new(),
            SourceTable::Crate { .. } | SourceTable::DebianSource { .. } => {
                let toolchain = set.toolchain_lock(&text.toolchain).map_err(FarmError::from)?;
                let lock = set.recipe_lock(&text.recipe, &toolchain).map_err(FarmError::from)?;
                lock.source.into_iter().map(|s| s.version).collect()
            }
        };
        rows.push(Row { name: name.to_owned(), summary: text.recipe.summary, versions });
    }
    for row in &rows {
        let versions =
            if row.versions.is_empty() { "any signed tag".to_owned() } else { row.versions.join(", ") };
        terminal::say(&format!("{:<16} {versions:<20} {}", row.name, row.summary));
    }
    if rows.is_empty() {
        terminal::say("there are no recipes; name a folder of them in hab.toml: recipes = [\"DIR\"]");
    }
    if global.json { print_json(&rows) } else { Ok(()) }
}
