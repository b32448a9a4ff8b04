//! `hab-build build NAME [VERSION]`.

use std::sync::Arc;

use hab_oci::Platform;

use super::{Global, print_json, terminal};
use crate::farm::pipeline::{self, Request};
use crate::farm::{BuildReport, Progress};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The recipe's name; `hab-build recipes` lists them
    #[arg(value_name = "NAME")]
    pub recipe: String,
    /// The version: a tag, a crate's or a Debian version [default: the newest in the lock]
    pub version: Option<String>,
    /// For which platforms
    #[arg(long, value_delimiter = ',', default_value = "linux/amd64,linux/arm64")]
    pub platform: Vec<Platform>,
    /// Build a tag that nobody signed, of a project whose policy says that it has no signed ones; its image is labelled and
    /// published below unsigned/
    #[arg(long)]
    pub accept_unsigned: bool,
}

impl Args {
    pub fn request(&self) -> Request {
        let mut platforms = self.platform.clone();
        platforms.sort();
        platforms.dedup();
        let (recipe, version) = (self.recipe.clone(), self.version.clone());
        Request { recipe, version, platforms, unsigned: self.accept_unsigned }
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let built = pipeline::run(&farm, &args.request());
    terminal.finish();
    let report = built?;
    summary(&report);
    if global.json { print_json(&report) } else { Ok(()) }
}

fn summary(report: &BuildReport) {
    let how = if report.cached { "already built" } else { "built" };
    let name = &report.index.repository;
    terminal::say(&format!(
        "{} {} {how} from {}",
        report.recipe, report.version, report.source.evidence.asked
    ));
    for platform in &report.platforms {
        let finished = &platform.finished;
        let runs = &finished.runs;
        terminal::say(&format!(
            "  {}  {}  {} runs identical, {}",
            platform.platform, finished.manifest, runs.count, finished.smoke
        ));
    }
    if report.index.tags.is_empty() {
        terminal::say(&format!(
            "  {name}@{}  (its tag keeps an index with more platforms)",
            report.index.digest
        ));
    }
    for tag in &report.index.tags {
        terminal::say(&format!("  {name}:{tag}  {}", report.index.digest));
    }
}
