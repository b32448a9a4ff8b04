//! `hab-build registry`: the registry's images, the history of tags, and what may be removed.

mod care;
mod carry;
mod sync;
mod tags;
mod token;

use std::path::PathBuf;
use std::str::FromStr;

use hab_oci::{RepositoryName, Tag};
use hab_store::{Back, Bytes};

use super::{Global, complete};
use hab_farm::Farm;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the repositories and how much is in them, or the tags of one
    List {
        /// The repository whose tags to list
        #[arg(add = complete::repositories())]
        repository: Option<RepositoryName>,
    },
    /// List every value that a tag ever had
    History {
        /// The tag
        #[arg(value_name = "REPO:TAG", add = complete::tags())]
        tag: TagName,
    },
    /// Move a tag, even a deleted one, back to where it was; this is recorded like any other move
    Rollback {
        /// The tag
        #[arg(value_name = "REPO:TAG", add = complete::tags())]
        tag: TagName,
        /// The digest where it was, or how many values to go back
        #[arg(value_name = "DIGEST|STEPS", default_value = "1")]
        back: Back,
    },
    /// Delete a tag, or all tags of a repository; a later collection removes what they point at
    Delete {
        /// The tag, or the repository with all its tags
        #[arg(value_name = "REPO[:TAG]", add = complete::tags())]
        place: carry::TagOrRepository,
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
    /// Sync the images that [[registry.upstream.NAME.sync]] in hab.toml selects from other registries
    Sync {
        /// Sync only this upstream, or this repository of it
        #[arg(value_name = "UPSTREAM[/REPOSITORY]")]
        only: Option<String>,
        /// Only say what would be synced
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash every blob again; damaged ones are set aside, and fetched again if an upstream has them
    Scrub {
        /// How much to read in a second, such as 50MiB; without it, as fast as possible
        #[arg(long, value_name = "BYTES")]
        rate: Option<Bytes>,
    },
    /// Make tokens for machines, and revoke them
    Token(token::Args),
    /// Write images as an OCI layout: a folder, or an oci-archive if its name ends in .tar
    Export {
        /// Images of one repository; without a tag or digest, all that have a tag
        #[arg(value_name = "REPO[:TAG|@DIGEST]", required = true, add = complete::tags())]
        images: Vec<carry::Image>,
        /// The folder or the file to write, which must not exist yet
        #[arg(value_name = "FOLDER|FILE.tar", required = true)]
        to: PathBuf,
        /// Leave out the images' referrers, such as signatures; podman load wants one image alone
        #[arg(long)]
        no_referrers: bool,
    },
    /// Check an OCI layout and publish its images, all at once or not at all
    Import {
        /// The folder, or a tar archive of one
        #[arg(value_name = "FOLDER|FILE.tar")]
        from: PathBuf,
        /// Where to publish; with a tag, only the image that has it in the layout, or the layout's only one
        #[arg(value_name = "REPO[:TAG]", add = complete::tags())]
        place: carry::TagOrRepository,
    },
}

/// A tag of a repository.
#[derive(Clone, Debug)]
struct TagName {
    repository: RepositoryName,
    tag: Tag,
}

impl FromStr for TagName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (repository, tag) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not REPO:TAG"))?;
        let repository = repository.parse().map_err(|e: hab_oci::ReferenceError| e.to_string())?;
        let tag = tag.parse().map_err(|e: hab_oci::ReferenceError| e.to_string())?;
        Ok(Self { repository, tag })
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    // Commands about tokens only read and write files, so they need no farm.
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
