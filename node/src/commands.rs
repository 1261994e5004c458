//! What one can ask of the binary: a module each.

mod account;
mod devnet;
mod doctor;
mod import;
mod network_arguments;
mod receive;
mod run;
mod send;

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
    /// See whether this machine can run a node well, and whether the node here is reached
    Doctor(doctor::DoctorArguments),
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
            Self::Doctor(arguments) => doctor::run(arguments),
            Self::Account(arguments) => account::run(arguments),
            Self::Send(arguments) => send::run(arguments),
            Self::Receive(arguments) => receive::run(arguments),
        }
    }
}
