//! `hab-build registry`: what is in the registry, where tags were, and what may go.

mod care;
mod carry;
mod sync;
mod tags;
mod token;

use std::path::PathBuf;
use std::str::FromStr;

use hab_oci::{RepositoryName, Tag};
use hab_store::{Back, Bytes};

use super::Global;
use hab_farm::Farm;

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
    /// Delete a tag, or all tags of a repository; what they point at goes with a later collection
    Delete {
        /// The tag, or the repository with all its tags
        #[arg(value_name = "REPO[:TAG]")]
        place: carry::Place,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Remove what nothing needs any more: tags by the rules of hab.toml, then manifests, then blobs
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring here what [[registry.upstream.NAME.sync]] in hab.toml selects of other registries
    Sync {
        /// Only of this upstream, or of this repository of it
        #[arg(value_name = "UPSTREAM[/REPOSITORY]")]
        only: Option<String>,
        /// Only say what would be brought
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash everything that is kept again; what is damaged is set aside, and fetched again if an upstream has it
    Scrub {
        /// How much to read in a second, such as 50MiB; as fast as it goes without
        #[arg(long, value_name = "BYTES")]
        rate: Option<Bytes>,
    },
    /// Make tokens for machines, and take them back
    Token(token::Args),
    /// Write images as an OCI layout: a folder, or an oci-archive if its name ends in .tar
    Export {
        /// Images of one repository; without a tag or digest all that have a tag
        #[arg(value_name = "REPO[:TAG|@DIGEST]", required = true)]
        images: Vec<carry::Image>,
        /// The folder or the file, which must not be there yet
        #[arg(value_name = "FOLDER|FILE.tar", required = true)]
        to: PathBuf,
        /// Leave out what says something about the images, such as signatures; podman load wants one image alone
        #[arg(long)]
        no_referrers: bool,
    },
    /// Check an OCI layout and publish what is in it, all at once or not at all
    Import {
        /// The folder, or a tar archive of one
        #[arg(value_name = "FOLDER|FILE.tar")]
        from: PathBuf,
        /// Where to; with a tag only the image that has it in the layout, or its only one
        #[arg(value_name = "REPO[:TAG]")]
        place: carry::Place,
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
    // These read and write files alone.
    if let What::Token(args) = &args.what {
        return token::run(global, args);
    }
    let farm = global.farm()?;
    farm.finish(with(global, &farm, &args.what))
}

fn with(global: &Global, farm: &Farm, what: &What) -> anyhow::Result<()> {
    match what {
        What::List { repository: None } => tags::repositories(global, farm),
        What::List { repository: Some(repository) } => tags::list(global, farm, repository),
        What::History { tag } => tags::history(global, farm, tag),
        What::Gc { dry_run } => care::gc(global, farm, *dry_run),
        What::Sync { only, dry_run } => sync::run(global, farm, only.as_deref(), *dry_run),
        What::Scrub { rate } => care::scrub(global, farm, *rate),
        What::Token(args) => token::run(global, args),
        What::Delete { place, yes } => tags::delete(global, farm, place, *yes),
        What::Export { images, to, no_referrers } => carry::export(global, farm, images, to, !no_referrers),
        What::Import { from, place } => carry::import(global, farm, from, place),
        What::Rollback { tag, back } => tags::rollback(global, farm, tag, back),
    }
}
