//! What one can ask of the binary: a module each.

mod account;
mod bench;
mod check_config;
mod completions;
mod devnet;
mod doctor;
mod import;
mod man;
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
    /// Tell all that is wrong with a config, without starting anything
    CheckConfig(check_config::CheckConfigArguments),
    /// Take over the messages of a C++ storage server
    Import(import::ImportArguments),
    /// Run a whole network on this machine, and send a message through it
    Devnet(devnet::DevnetArguments),
    /// See whether this machine can run a node well, and whether the node here is reached
    Doctor(doctor::DoctorArguments),
    /// Watch a node
    Top(top::TopArguments),
    /// Make an account, or show the id of one
    Account(account::AccountArguments),
    /// Send a message through the network
    Send(send::SendArguments),
    /// Receive an account's messages
    Receive(receive::ReceiveArguments),
    /// Send load to nodes of one's own, and measure latency, CPU and memory
    Bench(Box<bench::BenchArguments>),
    /// Print what a shell needs to complete the command line
    Completions(completions::CompletionsArguments),
    /// Write the manual pages
    Man(man::ManArguments),
}

impl Command {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Run(arguments) => run::run(arguments),
            Self::CheckConfig(arguments) => check_config::run(arguments),
            Self::Import(arguments) => import::run(arguments),
            Self::Devnet(arguments) => devnet::run(arguments),
            Self::Doctor(arguments) => doctor::run(arguments),
            Self::Top(arguments) => top::run(arguments),
            Self::Account(arguments) => account::run(arguments),
            Self::Send(arguments) => send::run(arguments),
            Self::Receive(arguments) => receive::run(arguments),
            Self::Bench(arguments) => bench::run(arguments),
            Self::Completions(arguments) => completions::run(arguments),
            Self::Man(arguments) => man::run(arguments),
        }
    }
}
