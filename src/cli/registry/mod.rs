//! `hab-build registry`: what is in the registry, where tags were, and what may go.

mod care;
mod tags;

use std::str::FromStr;
use std::sync::Arc;

use hab_oci::{RepositoryName, Tag};
use hab_store::{Back, Bytes};

use super::Global;
use crate::farm::Quiet;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The repositories and how much is in them, or the tags of one
    List {
        /// Its tags
        repository: Option<RepositoryName>,
    },
    /// Everywhere a tag ever was
    History {
        /// The tag
        #[arg(value_name = "REPO:TAG")]
        tag: Named,
    },
    /// Move a tag back to where it was, also one that was deleted; this is recorded like any other move
    Rollback {
        /// The tag
        #[arg(value_name = "REPO:TAG")]
        tag: Named,
        /// Where it was, or how many values ago
        #[arg(value_name = "DIGEST|STEPS", default_value = "1")]
        back: Back,
    },
    /// Remove what nothing needs any more: tags by the rules of hab.toml, then manifests, then blobs
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash everything that is kept again; what is damaged is set aside, and served no more until it is pushed again
    Scrub {
        /// How much to read in a second, such as 50MiB; as fast as it goes without
        #[arg(long, value_name = "BYTES")]
        rate: Option<Bytes>,
    },
}

/// A tag of a repository.
#[derive(Clone, Debug)]
struct Named {
    repository: RepositoryName,
    tag: Tag,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (repository, tag) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not REPO:TAG"))?;
        let repository = repository.parse().map_err(|e: hab_oci::ReferenceError| e.to_string())?;
        let tag = tag.parse().map_err(|e: hab_oci::ReferenceError| e.to_string())?;
        Ok(Self { repository, tag })
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let farm = global.open(Arc::new(Quiet::default()))?;
    match &args.what {
        What::List { repository: None } => tags::repositories(global, &farm),
        What::List { repository: Some(repository) } => tags::list(global, &farm, repository),
        What::History { tag } => tags::history(global, &farm, tag),
        What::Gc { dry_run } => care::gc(global, &farm, *dry_run),
        What::Scrub { rate } => care::scrub(global, &farm, *rate),
        What::Rollback { tag, back } => tags::rollback(global, &farm, tag, back),
    }
}
