//! `cepa send`: write to an account.

use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};

use cepa_wire::{Mailbox, ServiceNode};
use indicatif::ProgressBar;

use super::network_arguments::{NetworkArguments, StateArguments};
use super::run::control_runtime;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cepa send --network devnet/network.json --to 05... 'Hello'
  cepa send --lane packet --to 05... 'Hello'                     packets of one size, over UDP
  cepa send --lane packet --delay-ms 200 --to 05... 'Hello'      each relay waits 200 ms on average
  cepa send --lane auto --to 05... 'Hello'                       packets where they lead, else onions";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SendArguments {
    /// Whom to write to: an account id, 66 hex digits that begin with 05
    #[arg(long, value_name = "ACCOUNT_ID")]
    to: String,
    /// What to write
    #[arg(value_name = "TEXT")]
    text: String,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    state: StateArguments,
}

pub(super) fn run(arguments: &SendArguments) -> Result<(), Failure> {
    let recipient = read_account_id(&arguments.to)?;
    let sender = arguments
        .state
        .open()?
        .read_account()
        .map_err(Failure::new)?;
    let report = control_runtime()?.block_on(async {
        let waiting = waiting("finding the network");
        let mut client = arguments.network.connect().await?;
        waiting.set_message("sending through three relays");
        let report = client.send_text(&sender, &recipient, &arguments.text).await;
        waiting.finish_and_clear();
        report.map_err(Failure::new)
    })?;
    let (signed, members) = (report.signed_count, report.member_count);
    let path = show_path(&report.path);
    let millis = report.elapsed.as_millis();
    let hash = &report.hash;
    writeln!(
        io::stdout(),
        "hash    {hash}\npath    {path}\nstored  by {signed} of {members} members, signed\n\
         took    {millis} ms"
    )
    .map_err(Failure::new)
}

/// A spinner on standard error, if that is a terminal.
pub(super) fn waiting(text: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(text);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// The relays of a path, guard first.
pub(super) fn show_path(path: &[ServiceNode]) -> String {
    let hops: Vec<String> = path
        .iter()
        .map(|relay| format!("{}:{}", relay.ip, relay.port))
        .collect();
    hops.join(" > ")
}

fn read_account_id(text: &str) -> Result<Mailbox, Failure> {
    match Mailbox::from_hex(text.as_bytes()) {
        Some(mailbox) if mailbox.prefix == Mailbox::ACCOUNT => Ok(mailbox),
        _ => Err(Failure::new(format!(
            "--to {text}: an account id is 66 hex digits that begin with 05"
        ))),
    }
}
