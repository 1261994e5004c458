//! The binary `cepa`: it reads the command line, wires the crates together and decides nothing.
#![forbid(unsafe_code)]

mod commands;
mod failure;
mod logging;

use std::process::ExitCode;

use cepa_control::config::LogFormat;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory as _, Parser};
use mimalloc::MiMalloc;

use crate::commands::Command;
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const EXAMPLES: &str = "\
Examples:
  cepa devnet --once                         a whole network on this machine, and a message through it
  cepa check-config --config cepa.toml       what is wrong with a config
  cepa run --config /etc/cepa/cepa.toml      run a node
  cepa help run                              what a command takes, with examples

Exit codes: 0 all went well, 1 it failed and the last line says why, 2 the command line is none.";

/// A node of the Session network, and what one needs to try it.
#[derive(Debug, Parser)]
#[command(name = "cepa", version, about, propagate_version = true, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What is logged to standard error: off, error, warn, info, debug or trace; also by crate, as in
    /// `info,cepa_host=debug`. The C++ storage server's words are taken too: `warning,db=trace`
    /// [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How it is logged: as lines for people, as a JSON object a line, or to systemd's journal
    /// [default: text, without time and colours where standard error is the journal]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = log_formats())]
    log_format: Option<LogFormat>,
    /// Let the kernel write a core file when the process ends badly, and debuggers attach. It has the
    /// node's keys and accounts in it
    #[arg(long, global = true, hide_short_help = true)]
    allow_core_dumps: bool,
}

fn log_formats() -> impl TypedValueParser<Value = LogFormat> {
    const FORMATS: [LogFormat; 3] = [LogFormat::Text, LogFormat::Json, LogFormat::Journald];
    PossibleValuesParser::new(FORMATS.map(LogFormat::name)).map(|name| {
        let mut formats = FORMATS.into_iter();
        let found = formats.find(|format| format.name() == name);
        found.unwrap_or_default()
    })
}

/// The whole command line, for completions and manual pages.
fn command() -> clap::Command {
    Arguments::command()
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
    let started = logging::start(arguments.log_level.as_deref(), arguments.log_format);
    let guarded = started.and_then(|()| guard(arguments.allow_core_dumps));
    match guarded.and_then(|()| arguments.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            logging::tell_failure(&failure);
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
