//! What one can ask of the binary: a module each.

mod account;
mod devnet;
mod import;
mod network_arguments;
mod receive;
mod run;
mod send;
mod top;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Run(run::RunArguments),
    /// Take over the messages of a C++ storage server
    Import(import::ImportArguments),
    /// Run a whole network on this machine, and send a message through it
    Devnet(devnet::DevnetArguments),
    /// Watch a node
    Top(top::TopArguments),
    /// Make an account, or show the id of one
    Account(account::AccountArguments),
    /// Send a message through the network
    Send(send::SendArguments),
    /// Receive an account's messages
    Receive(receive::ReceiveArguments),
}

impl Command {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Run(arguments) => run::run(arguments),
            Self::Import(arguments) => import::run(arguments),
            Self::Devnet(arguments) => devnet::run(arguments),
            Self::Top(arguments) => top::run(arguments),
            Self::Account(arguments) => account::run(arguments),
            Self::Send(arguments) => send::run(arguments),
            Self::Receive(arguments) => receive::run(arguments),
        }
    }
}
