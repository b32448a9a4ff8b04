//! Tokens for machines, which replace passwords.

use std::fs;

use anyhow::Context as _;
use hab_registry::{AccessError, Account, Action, Grant, Issue, NewToken};
use hab_store::{Pattern, Span};
use serde_json::json;

use crate::cli::{Global, print_json, terminal, usage};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Issue a token that itself says what it allows, until it expires or is revoked
    Issue {
        /// The account that it is for; the token serves as its password
        #[arg(long)]
        name: Account,
        /// The repositories that it is for; * is any run of characters
        #[arg(long, required = true, value_name = "PATTERN")]
        repository: Vec<Pattern>,
        /// The actions that it allows there
        #[arg(long, required = true, value_name = "pull|push|delete")]
        action: Vec<Action>,
        /// How long it is good, such as 12h or 30d; at most 3650d
        #[arg(long, value_name = "TIME", default_value = "30d")]
        expires: Span,
    },
    /// Revoke an issued token
    Revoke {
        /// Its id, as `issue` printed it
        id: String,
    },
    /// Make a token for the file that `tokens` in [registry.access] names; prints the token, and the line for the file
    New {
        /// The account that it is for
        name: Account,
    },
}

/// The longest time that a token is good, in seconds: ten years.
const LONGEST: i64 = 3650 * 24 * 3600;

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Issue { name, repository, action, expires } => {
            let seconds = expires.seconds();
            if !(1..=LONGEST).contains(&seconds) {
                return Err(usage(anyhow::anyhow!("a token is good for at least 1s and at most 3650d")));
            }
            let grant = |pattern: &Pattern| Grant { repository: pattern.clone(), actions: action.clone() };
            let grants = repository.iter().map(grant).collect();
            issue(global, Issue { name: name.clone(), grants, seconds })
        }
        What::Revoke { id } => {
            let data = global.data()?;
            hab_registry::revoke(&data, id).map_err(of_access)?;
            terminal::say(&format!("{id} is revoked"));
            if global.json { print_json(&json!({ "revoked": id })) } else { Ok(()) }
        }
        What::New { name } => {
            let made = NewToken::make(name)?;
            if global.json {
                return print_json(&json!({ "token": made.token, "line": made.line }));
            }
            terminal::print(&made.token);
            terminal::say(&format!("the line for the file of tokens: {}", made.line));
            Ok(())
        }
    }
}

fn issue(global: &Global, what: Issue) -> anyhow::Result<()> {
    let (data, name) = (global.data()?, what.name.clone());
    fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
    let issued = hab_registry::issue(&data, what).map_err(of_access)?;
    let expires = jiff::Timestamp::from_second(issued.expires)?;
    if global.json {
        return print_json(&json!({
            "name": name, "token": issued.token, "id": issued.id, "expires": expires.to_string(),
        }));
    }
    terminal::print(&issued.token);
    terminal::say(&format!(
        "{name}'s until {expires}; to revoke it: hab-build registry token revoke {}",
        issued.id
    ));
    if global.configuration()?.registry.access.is_none() {
        terminal::say("it is good once hab.toml has a table [registry.access], which may be empty");
    }
    Ok(())
}

/// An unusable file is for the operator to mend. A file that cannot be written is not.
fn of_access(error: AccessError) -> anyhow::Error {
    match error {
        AccessError::Write { .. } | AccessError::Random(_) => error.into(),
        _ => usage(error),
    }
}
