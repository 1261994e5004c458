//! What developers and CI run: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod bench;
mod fault;
mod fuzz;
mod instructions;
mod machine;
mod screen;

use std::io::{Write as _, stderr};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What developers and CI run.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fuzz(fuzz::Options),
    Bench(bench::Options),
    Instructions(instructions::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Instructions(options) => instructions::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let told = writeln!(stderr(), "error: {fault}");
            if told.is_err() {
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}
