//! `cepa account`: make an account, restore one from its 13 words, show its id.

use std::io::{self, Read as _, Write as _};

use cepa_client::state::State;
use cepa_crypto::Account;
use clap::Subcommand;
use zeroize::Zeroizing;

use super::network_arguments::StateArguments;
use crate::failure::Failure;

/// Thirteen words are some hundred letters; whoever sends more sends something else.
const WORDS_SIZE_MAX: u64 = 4096;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cepa account new\n  cepa account restore --dir /tmp/alice \
                        < words.txt\n  cepa account show"
)]
pub(crate) struct AccountArguments {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Make an account and print its id and its 13 words
    New {
        #[command(flatten)]
        state: StateArguments,
        /// Replace an account that is there: without its 13 words it is lost
        #[arg(long)]
        force: bool,
    },
    /// Restore an account from its 13 words
    Restore {
        #[command(flatten)]
        state: StateArguments,
        /// Replace an account that is there: without its 13 words it is lost
        #[arg(long)]
        force: bool,
        /// The 13 words; without them they are read from standard input, where other users of the
        /// machine do not see them
        #[arg(value_name = "WORD")]
        words: Vec<String>,
    },
    /// Print the id of the account
    Show {
        #[command(flatten)]
        state: StateArguments,
        /// Print the 13 words as well: whoever has them has the account
        #[arg(long)]
        words: bool,
    },
}

pub(super) fn run(arguments: &AccountArguments) -> Result<(), Failure> {
    match &arguments.command {
        AccountCommand::New { state, force } => make(&state.open()?, *force),
        AccountCommand::Restore {
            state,
            force,
            words,
        } => restore(&state.open()?, *force, words),
        AccountCommand::Show { state, words } => show(&state.open()?, *words),
    }
}

fn make(state: &State, force: bool) -> Result<(), Failure> {
    check_free(state, force)?;
    let mut entropy = Zeroizing::new([0; 16]);
    getrandom::fill(entropy.as_mut_slice()).map_err(Failure::new)?;
    let account = Account::from_entropy(*entropy);
    state.write_account(&account).map_err(Failure::new)?;
    print(&format!("account id      {}\n", account.id()))?;
    print_words(&account)?;
    print("\nWrite the 13 words down: they are the account, on any device.\n")
}

fn restore(state: &State, force: bool, words: &[String]) -> Result<(), Failure> {
    check_free(state, force)?;
    let mut phrase = Zeroizing::new(words.join(" "));
    if words.is_empty() {
        io::stdin()
            .take(WORDS_SIZE_MAX)
            .read_to_string(&mut phrase)
            .map_err(Failure::new)?;
    }
    let account = Account::from_mnemonic(&phrase).map_err(Failure::new)?;
    state.write_account(&account).map_err(Failure::new)?;
    print(&format!("account id      {}\n", account.id()))
}

fn show(state: &State, words: bool) -> Result<(), Failure> {
    let account = state.read_account().map_err(Failure::new)?;
    print(&format!("account id      {}\n", account.id()))?;
    if words { print_words(&account) } else { Ok(()) }
}

fn check_free(state: &State, force: bool) -> Result<(), Failure> {
    if !force && state.has_account().map_err(Failure::new)? {
        let path = state.account_path();
        let path = path.display();
        return Err(Failure::new(format!(
            "there is an account in {path}; give another --dir, or --force to replace it"
        )));
    }
    Ok(())
}

fn print_words(account: &Account) -> Result<(), Failure> {
    let line = Zeroizing::new(format!("recovery words  {}\n", *account.mnemonic()));
    print(&line)
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::new)
}
