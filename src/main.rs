//! `hab-build`: mirror, verify, build twice, compare, serve. This file only dispatches.

// Text for people goes through src/cli/terminal.rs, which escapes what strangers wrote.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod front;
mod given;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The sandbox executes this program again. That process must become the sandbox's helper, or a worker in it, before
    // anything else.
    hab_sandbox::init_if_requested_with(hab_builder::worker);
    match given::prepare() {
        Ok(()) => cli::run(),
        Err(sentence) => cli::too_little(&sentence),
    }
}
