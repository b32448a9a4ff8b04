//! What people and scripts learn about a failed command: a sentence, a hint, an exit code.

use std::process::ExitCode;

use clap::CommandFactory as _;
use hab_cluster::PlanError;
use hab_cluster::place::PlaceError;
use hab_farm::{FarmError, Fault};

use super::{Cli, print_json, terminal};

/// The program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Our fault: a full disk, a bug.
    Ours = 1,
    /// The request cannot be understood: arguments, a recipe or a configuration.
    Usage = 2,
    /// A digest, a signature or a policy says no.
    Refused = 3,
    /// No upstream answers and there is no mirrored copy.
    Upstream = 4,
    /// Two runs of one plan had different outputs.
    NotReproducible = 5,
    /// The person asked to stop.
    Interrupted = 130,
}

impl From<Fault> for ExitStatus {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Ours => Self::Ours,
            Fault::Request => Self::Usage,
            Fault::Refused => Self::Refused,
            Fault::Upstream => Self::Upstream,
            Fault::NotReproducible => Self::NotReproducible,
            Fault::Cancelled => Self::Interrupted,
        }
    }
}

impl ExitStatus {
    /// The exit code for an error of the farm.
    pub fn of(error: &FarmError) -> Self {
        error.fault().into()
    }

    /// The exit code for any error.
    fn of_any(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref::<FarmError>() {
            return Self::of(error);
        }
        match error.downcast_ref::<PlaceError>() {
            Some(error) if error.is_input() => Self::Usage,
            _ if error.is::<PlanError>() => Self::Usage,
            _ => Self::Ours,
        }
    }
}

/// An error whose document is on stdout already.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct AlreadyPrinted(pub FarmError);

/// An error that was shown already, on stderr and stdout.
#[derive(Debug, thiserror::Error)]
#[error("it was shown")]
pub struct AlreadyShown(pub ExitStatus);

/// The most causes that a document has. No error of ours has as many.
const CAUSES: usize = 20;

/// Reports why a command failed, and with `json` also as a document on stdout.
pub fn told(error: &anyhow::Error, json: bool) -> ExitCode {
    if let Some(AlreadyShown(status)) = error.downcast_ref::<AlreadyShown>() {
        return ExitCode::from(*status as u8);
    }
    if let Some(AlreadyPrinted(error)) = error.downcast_ref::<AlreadyPrinted>() {
        terminal::error(&error.to_string());
        return ExitCode::from(ExitStatus::of(error) as u8);
    }
    let status = ExitStatus::of_any(error);
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let sentence = chain.join(": ");
    terminal::error(&sentence);
    let hint = hint(error);
    if let Some(hint) = &hint {
        terminal::hint(hint);
    }
    if json {
        let causes: Vec<_> = chain.iter().take(CAUSES).map(|cause| terminal::bounded(cause)).collect();
        let causes: Vec<_> = causes.iter().map(String::as_str).collect();
        print(&terminal::bounded(&sentence), &causes, hint.as_deref(), status);
    }
    ExitCode::from(status as u8)
}

/// Reports that this process has too little of something to run, and returns the exit code for that.
pub fn too_little(sentence: &str) -> ExitCode {
    terminal::error(sentence);
    if std::env::args_os().any(|word| word == "--json") {
        print(sentence, &[sentence], None, ExitStatus::Ours);
    }
    ExitCode::from(ExitStatus::Ours as u8)
}

/// Prints the document of an error.
pub fn print(sentence: &str, causes: &[&str], hint: Option<&str>, status: ExitStatus) {
    let mut document = serde_json::json!({ "error": sentence, "causes": causes, "exit": status as u8 });
    if let Some(hint) = hint {
        document["hint"] = hint.into();
    }
    // If stdout is closed, there is no better way.
    let _ = print_json(&document);
}

/// What a person can do about the error.
fn hint(error: &anyhow::Error) -> Option<String> {
    let farm = error.downcast_ref::<FarmError>();
    let farm = farm.and_then(|error| command_meant(error).or_else(|| error.hint()));
    farm.or_else(|| hint_for_a_host(error)).or_else(|| limited(error))
}

fn hint_for_a_host(error: &anyhow::Error) -> Option<String> {
    let plan = error.downcast_ref::<PlanError>().and_then(PlanError::hint);
    plan.or_else(|| error.downcast_ref::<PlaceError>()?.hint())
}

/// A suggestion for a word that is no recipe, because it may be a misspelt subcommand.
pub fn command_meant(error: &FarmError) -> Option<String> {
    let FarmError::Recipe(hab_recipe::RecipeError::UnknownRecipe { name, known }) = error else {
        return None;
    };
    let command = Cli::command();
    let words = command.get_subcommands().map(clap::Command::get_name).chain(known.split(", "));
    hab_farm::near(name, words).map(|word| format!("did you mean {word}?"))
}

/// A hint for the system's "file too large", which does not say that the limit is the caller's.
fn limited(error: &anyhow::Error) -> Option<String> {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>())?;
    (io.kind() == std::io::ErrorKind::FileTooLarge)
        .then(|| "the size of a file is limited where this is started: raise `ulimit -f`".to_owned())
}
