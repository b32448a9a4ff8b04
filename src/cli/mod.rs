//! The command line, with one file for each subcommand. This file parses and dispatches.

mod about;
mod build;
mod cluster;
mod complete;
mod failure;
mod keys;
mod lock;
mod mirror;
mod plan;
mod recipes;
mod registry;
mod serve;
mod session;
mod store;
mod terminal;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use failure::too_little;
use failure::{AlreadyPrinted, AlreadyShown, ExitStatus};
use hab_farm::{Farm, FarmError};
use session::Session;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    this machine's or this program's fault: a full disk, a bug
  2    usage: arguments, a recipe, a lock or a configuration cannot be used
  3    refused: a digest, a signature or a policy says no, or a build that fails
  4    no upstream answers, and there is no mirrored copy
  5    not reproducible: two runs had different outputs
  130  interrupted

`hab-build NAME VERSION` is short for `hab-build build NAME VERSION`.";

/// Mirror, verify, build twice, compare and serve: Bitcoin node images you can check.
#[derive(Debug, Parser)]
#[command(name = "hab-build", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every subcommand has.
#[derive(Clone, Debug, Args)]
struct Global {
    /// The data folder [default: the platform's, such as ~/.local/share/hab-build]
    #[arg(long, global = true, value_name = "DIR", env = "HAB_DATA")]
    data: Option<PathBuf>,
    /// The configuration [default: hab.toml in the data folder]
    #[arg(long, global = true, value_name = "FILE", env = "HAB_CONFIG")]
    config: Option<PathBuf>,
    /// A folder of recipes that override the built-in ones and those that `recipes` in hab.toml names
    #[arg(long, global = true, value_name = "DIR", env = "HAB_RECIPES")]
    recipes: Option<PathBuf>,
    /// A folder of policies that override the built-in ones and those that `trust` in hab.toml names
    #[arg(long, global = true, value_name = "DIR", env = "HAB_TRUST")]
    trust: Option<PathBuf>,
    /// Fetch nothing; use only what is mirrored
    #[arg(long, global = true)]
    offline: bool,
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror, verify, build twice, compare and publish an image
    Build(build::Args),
    /// Print what would be built, without building it
    Plan(build::Args),
    /// Serve what was built as an OCI registry
    Serve(serve::Args),
    /// Resolve a toolchain or a recipe's sources into a lock
    Lock(lock::Args),
    /// Say who signed something, and whether a policy accepts it
    Verify(verify::Args),
    /// Look after the pinned keys and their certificates
    Keys(keys::Args),
    /// Mirror projects, packages and releases, and show what upstreams changed
    Mirror(mirror::Args),
    /// Make hosts pull from this registry and from nowhere else, and check that they do
    Cluster(cluster::Args),
    /// Look after the registry's images: tags, their history, and what may be removed
    Registry(registry::Args),
    /// Look after the data folder: check that its halves belong together, or make the catalog again
    Store(store::Args),
    /// List the recipes and their locked versions
    Recipes,
    /// Print the program's version
    Version,
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a folder
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
    #[command(external_subcommand)]
    Recipe(Vec<OsString>),
}

/// Parses the arguments, runs the subcommand and turns its result into an exit code.
pub fn run() -> ExitCode {
    // A shell that completes a word asks by a variable; then nothing else is done.
    clap_complete::CompleteEnv::with_factory(Cli::command).var(about::COMPLETE).complete();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        // clap prints help to stdout with code 0 and errors to stderr with code 2, which are this program's codes too.
        Err(e) => {
            if !e.use_stderr() {
                e.exit();
            }
            let text = said(e, &arguments);
            terminal::usage(&text);
            if arguments.iter().any(|a| a == "--json") {
                failure::print(text.lines().next().unwrap_or_default(), &[&text], None, ExitStatus::Usage);
            }
            return ExitCode::from(ExitStatus::Usage as u8);
        }
    };
    terminal::start_log();
    let json = cli.global.json;
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::told(&error, json),
    }
}

/// clap's message about a command line, made again from escaped words, so that no word can pretend to be a line of its
/// own.
fn said(error: clap::Error, arguments: &[OsString]) -> String {
    let clean = arguments.iter().map(|word| hab_oci::shown(&word.to_string_lossy()).to_string().into());
    parse(&clean.collect::<Vec<_>>()).err().unwrap_or(error).to_string()
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(arguments)?;
    let Command::Recipe(rest) = &cli.command else { return Ok(cli) };
    // An external subcommand takes all words after it, so the words before it are the others.
    let before = &arguments[..arguments.len() - rest.len()];
    let build = [OsString::from("build")];
    Cli::try_parse_from(before.iter().chain(&build).chain(rest))
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Build(args) => build::run(&cli.global, &args),
        Command::Plan(args) => plan::run(&cli.global, &args),
        Command::Serve(args) => serve::run(&cli.global, &args),
        Command::Lock(args) => lock::run(&cli.global, &args),
        Command::Verify(args) => verify::run(&cli.global, &args),
        Command::Keys(args) => keys::run(&cli.global, &args),
        Command::Mirror(args) => mirror::run(&cli.global, &args),
        Command::Cluster(args) => cluster::run(&cli.global, &args),
        Command::Registry(args) => registry::run(&cli.global, &args),
        Command::Store(args) => store::run(&cli.global, &args),
        Command::Recipes => recipes::run(&cli.global),
        Command::Version => about::version(&cli.global),
        Command::Completions { shell } => about::completions(shell),
        Command::Man { folder } => about::man(folder.as_deref(), Cli::command()),
        // `parse` has turned it into `build`.
        Command::Recipe(_) => anyhow::bail!("a recipe's name was not understood"),
    }
}

impl Global {
    /// The data folder, which need not exist yet.
    fn data(&self) -> anyhow::Result<PathBuf> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => hab_config::default_data_dir().map_err(usage),
        }
    }
}

/// Refuses a recipe that is named like a subcommand, because its name alone could never build it.
fn reserved(farm: &Farm) -> anyhow::Result<()> {
    let command = Cli::command();
    let taken = |name: &&str| *name == "help" || command.get_subcommands().any(|c| c.get_name() == *name);
    match farm.recipes().names().into_iter().find(taken) {
        Some(name) => Err(usage(anyhow::anyhow!("recipe {name} has a subcommand's name; rename its folder"))),
        None => Ok(()),
    }
}

/// Marks an error as the request's fault.
fn usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    FarmError::Usage(format!("{:#}", error.into())).into()
}

fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    use std::io::Write as _;
    let text = escaped(&serde_json::to_string_pretty(document)?);
    terminal::aside(|| writeln!(std::io::stdout().lock(), "{text}"))?;
    Ok(())
}

/// The same document, made safe for a terminal. Characters that deceive a reader occur only in its strings, and are
/// escaped there (RFC 8259, section 7).
fn escaped(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if hab_oci::deceives(c) && c != '\n' {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_document_says_the_same_without_a_character_that_turns_or_hides() {
        let text = serde_json::json!({ "name": "a\u{202e}b\u{9b}31m\u{e0041}\n\"\\" });
        let shown = escaped(&serde_json::to_string_pretty(&text).unwrap());
        assert!(!shown.chars().any(|c| hab_oci::deceives(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), text);
    }

    #[test]
    fn a_word_of_the_command_line_cannot_forge_what_is_said_of_it() {
        let odd = "x/y:\u{1b}[2J\u{1b}[32mok\u{1b}[0m\nserving \u{202e}abc\u{1b}]0;title\u{7}";
        for words in [vec!["registry", "history", odd], vec!["serve", "--listen", odd], vec!["serve", odd]] {
            let arguments: Vec<OsString> = ["hab-build"].iter().chain(&words).map(OsString::from).collect();
            let text = said(parse(&arguments).unwrap_err(), &arguments);
            assert!(!text.chars().any(|c| hab_oci::deceives(c) && c != '\n'), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("serving")), "{text}");
        }
    }

    #[test]
    fn a_typing_error_gets_the_command_or_the_recipe_that_was_meant() {
        let unknown = |name: &str| {
            let known = "bitcoin, secp256k1".to_owned();
            FarmError::Recipe(hab_recipe::RecipeError::UnknownRecipe { name: name.to_owned(), known })
        };
        let meant = |name: &str| failure::command_meant(&unknown(name));
        assert_eq!(meant("biuld").as_deref(), Some("did you mean build?"));
        assert_eq!(meant("secp256k").as_deref(), Some("did you mean secp256k1?"));
        assert_eq!(meant("something"), None);
        // clap itself suggests subcommands of subcommands.
        let arguments = words("hab-build registry histroy a:b");
        assert!(said(parse(&arguments).unwrap_err(), &arguments).contains("'history'"));
    }

    #[test]
    fn a_name_alone_is_short_for_build() {
        for text in ["hab-build --data d secp256k1 --json", "hab-build --data d --json build secp256k1"] {
            let cli = parse(&words(text)).unwrap();
            let Command::Build(args) = cli.command else { panic!("{text}") };
            assert_eq!(args.recipe, "secp256k1");
            assert!(cli.global.json && cli.global.data.is_some());
        }
    }
}
