//! `hotpath`: settings in, exit status out. Everything else is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use hotpath_server::{args::Cli, config::Faults, program::execute};

/// `EX_USAGE` of sysexits: the command line or the settings are wrong.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => execute(cli.command),
        Err(error) => {
            let _ = error.print(); // if that fails there is nobody to tell
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Faults>() => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
        Err(error) => {
            tracing::error!(%error, "failed");
            ExitCode::FAILURE
        }
    }
}
