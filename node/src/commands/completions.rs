//! `cepa completions`: what a shell needs to complete the command line.

use std::io::{self, Write as _};

use clap_complete::Shell;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Prints a script for the shell to standard output. Where it goes, and that a new shell reads it:

Examples:
  cepa completions bash > /etc/bash_completion.d/cepa
  cepa completions zsh > /usr/local/share/zsh/site-functions/_cepa
  cepa completions fish > ~/.config/fish/completions/cepa.fish
  source <(cepa completions bash)            for this shell alone

Print it anew after an update: commands and options may have changed.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// Of which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = crate::command();
    clap_complete::generate(arguments.shell, &mut command, "cepa", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|fault| Failure::new(format!("cannot print: {fault}")))
}
