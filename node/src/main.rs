//! The binary `cepa`: it reads the command line, wires the crates together and decides nothing.
#![forbid(unsafe_code)]

mod commands;
mod failure;
mod logging;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

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
    /// What is logged to standard error: off, error, warn, info, debug or trace; also by crate, as in
    /// `info,cepa_host=debug`. The C++ storage server's words are taken too: `warning,db=trace`
    /// [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Let the kernel write a core file when the process ends badly, and debuggers attach. It has the
    /// node's keys and accounts in it
    #[arg(long, global = true, hide_short_help = true)]
    allow_core_dumps: bool,
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
    let started = logging::start(arguments.log_level.as_deref());
    let guarded = started.and_then(|()| guard(arguments.allow_core_dumps));
    match guarded.and_then(|()| arguments.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            drop(writeln!(io::stderr(), "error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Keeps keys out of core files: before any is read.
fn guard(allow_core_dumps: bool) -> Result<(), Failure> {
    if allow_core_dumps {
        return Ok(());
    }
    let forbidden = cepa_host::sandbox::forbid_core_dumps();
    forbidden.map_err(|fault| Failure::new(format!("cannot forbid core dumps: {fault}")))
}
