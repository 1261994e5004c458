//! The binary `cepa`: it reads the command line, wires the crates together and decides nothing.
#![forbid(unsafe_code)]

mod commands;
mod failure;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

use crate::commands::Command;
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A node of the Session network, and what one needs to try it.
#[derive(Debug, Parser)]
#[command(name = "cepa", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What is logged to standard error: error, warn, info, debug or trace; also by crate, as in
    /// `info,cepa_host=debug`
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    log_level: String,
}

/// The one place that ends the process: 0 when all went well, 1 after a failure, 2 after a command
/// line that is none.
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Help and version come this way too. Nobody is left to tell if printing fails.
            drop(usage.print());
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    match start_log(&arguments.log_level).and_then(|()| arguments.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            drop(writeln!(io::stderr(), "error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn start_log(level: &str) -> Result<(), Failure> {
    // quinn names addresses and what strangers sent at warn; what is given on the command line goes first.
    let filter = EnvFilter::builder()
        .parse(format!("quinn_udp=off,quinn_proto=error,{level}"))
        .map_err(|fault| Failure::new(format!("--log-level {level}: {fault}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}
