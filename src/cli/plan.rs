//! `hab-build plan NAME [VERSION]`: what would be built.

use std::sync::Arc;

use super::{Global, build, print_json, terminal};
use hab_farm::Progress;

pub fn run(global: &Global, args: &build::Args) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let order = farm.order(&args.request());
    terminal.finish();
    let order = order?;
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
