//! `hab-build plan NAME [VERSION]`: what would be built.

use super::{Global, build, print_json, terminal};

pub fn run(global: &Global, args: &build::Args) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let order = farm.finish(farm.orders().resolve(&args.request()))?;
    for plan in order.plans() {
        terminal::say(&format!(
            "{} {} for {}: plan {}",
            plan.recipe,
            plan.version,
            plan.platform,
            plan.digest()
        ));
    }
    if global.json { print_json(&order.plans()) } else { Ok(()) }
}
