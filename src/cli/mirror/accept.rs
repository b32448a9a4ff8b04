//! `hab-build mirror accept`: a person decides about frozen refs.

use hab_oci::shown;

use super::refs::stamp;
use crate::cli::{Global, complete, print_json, terminal, usage};
use hab_farm::Farm;
use hab_farm::mirrors::Waiting;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The project
    #[arg(add = complete::projects())]
    project: String,
    /// The tag or branch, or its full name: v1.0, refs/heads/master; without one, list the refs that wait
    #[arg(conflicts_with = "all")]
    reference: Option<String>,
    /// The id of a value that it was seen to have, or at least the id's first seven digits; without one, the newest
    #[arg(conflicts_with = "all")]
    value: Option<String>,
    /// Accept all refs that wait, each at the newest value that was seen, after listing them
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(long, requires = "all")]
    yes: bool,
}

pub fn run(global: &Global, farm: &Farm, args: &Args) -> anyhow::Result<()> {
    let project = args.project.as_str();
    if let Some(reference) = &args.reference {
        let accepted = farm.mirrors().accept_ref(project, reference, args.value.as_deref())?;
        say(project, &accepted);
        return if global.json { print_json(&accepted) } else { Ok(()) };
    }
    let waiting = farm.mirrors().waiting(project)?;
    for one in &waiting {
        terminal::say(&line(one));
    }
    if waiting.is_empty() {
        terminal::say(&format!("no ref of {project} waits for a decision"));
    }
    if !args.all || waiting.is_empty() {
        return if global.json { print_json(&waiting) } else { Ok(()) };
    }
    if !args.yes && !terminal::agreed(&format!("accept all {} of {project}?", waiting.len()))? {
        return Err(usage(anyhow::anyhow!(
            "nothing was accepted; say `hab-build mirror accept {project} --all --yes` for all of them, or name one"
        )));
    }
    let mut done = Vec::new();
    for one in &waiting {
        // Accept the value that was shown, even if another one came since.
        let accepted = farm.mirrors().accept_ref(project, &one.reference, Some(&one.new))?;
        say(project, &accepted);
        done.push(accepted);
    }
    if global.json { print_json(&done) } else { Ok(()) }
}

fn say(project: &str, accepted: &hab_mirror::git::Accepted) {
    let (name, old, new) = (shown(&accepted.reference), &accepted.old, &accepted.new);
    terminal::say(&if old == new {
        format!("{name} of {project} stays at {new}")
    } else {
        format!("{name} of {project} is {new} from now on; {old} stays in its history")
    });
}

fn line(one: &Waiting) -> String {
    let (name, upstream) = (shown(&one.reference), shown(&one.upstream));
    format!("{name} is {} here; {upstream} said {} at {} ({})", one.old, one.new, stamp(one.at), one.kind)
}
