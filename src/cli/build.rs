//! `hab-build build NAME [VERSION]`.

use hab_builder::Trials;
use hab_oci::Platform;
use hab_sandbox::{Varied, Vary};

use super::{Global, Session, complete, print_json, terminal};
use hab_farm::build::order::Request;
use hab_farm::build::report::BuildReport;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The recipe's name; `hab-build recipes` lists them
    #[arg(value_name = "NAME", add = complete::recipes())]
    pub recipe: String,
    /// The version: a git tag, or the version of a crate or Debian package [default: the newest in the lock]
    pub version: Option<String>,
    /// The platforms to build for
    #[arg(long, value_delimiter = ',', default_value = "linux/amd64,linux/arm64")]
    pub platform: Vec<Platform>,
    /// Build a tag that nobody signed, if the project's policy says that it has no signed ones; the image is labelled,
    /// and published below unsigned/
    #[arg(long)]
    pub accept_unsigned: bool,
    /// How many times to run each plan; all runs but the first change everything that must not matter, and more runs
    /// find a difference that two hide by luck
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=i64::from(Trials::MOST)))]
    pub check_runs: u32,
    /// Change only these in the later runs, and publish nothing; shows which of them makes a difference
    #[arg(long, value_name = "FACTOR", value_delimiter = ',')]
    pub vary: Vec<Vary>,
}

impl Args {
    pub fn request(&self) -> Request {
        let mut platforms = self.platform.clone();
        platforms.sort();
        platforms.dedup();
        let (recipe, version) = (self.recipe.clone(), self.version.clone());
        let varied = if self.vary.is_empty() { Varied::all() } else { self.vary.iter().copied().collect() };
        let trials = Trials { count: self.check_runs, varied };
        Request { recipe, version, platforms, unsigned: self.accept_unsigned, trials }
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let farm = global.farm()?;
    if !args.vary.is_empty() {
        return experiment(global, &farm, args);
    }
    let report = farm.finish(farm.builds().run(&args.request()))?;
    summary(&report);
    if global.json { print_json(&report) } else { Ok(()) }
}

fn experiment(global: &Global, farm: &Session, args: &Args) -> anyhow::Result<()> {
    let report = farm.finish(farm.builds().experiment(&args.request()))?;
    for platform in &report.platforms {
        let runs = &platform.finished.runs;
        let varied: Vec<_> = runs.varied.iter().map(Vary::name).collect();
        let varied = if varied.is_empty() { "nothing".to_owned() } else { varied.join(", ") };
        let (recipe, version, on, count) = (&report.recipe, &report.version, platform.platform, runs.count);
        terminal::say(&format!("{recipe} {version} for {on}: {count} runs identical with {varied} changed"));
    }
    terminal::say("nothing was published: an image needs runs with everything changed");
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
