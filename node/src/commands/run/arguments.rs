//! The command line of `cepa run`, and the config that it stands for.

use std::env;
use std::path::{Path, PathBuf};

use cepa_control::Config;
use cepa_control::options::names::{CONFIG_FILE, Known, LOG_LEVEL, NAMES};
use cepa_control::options::{FILE_NAMES, Options};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use tracing::warn;

use crate::failure::Failure;
use crate::logging;

const EXAMPLES: &str = "\
Without --config the node takes the options of the C++ storage server, its storage-server.conf and
its defaults: on a machine that ran that one, `cepa run` takes its place.

Examples:
  cepa run --config /etc/cepa/cepa.toml      every setting in a file; config/cepa.toml explains them
  cepa run                                   beside an oxend of the same user, on ports 22021, 22020
  cepa run --oxend-rpc ipc:///var/lib/oxen/oxend.sock --data-dir /var/lib/oxen/storage
  cepa run --testnet --log-level debug
  cepa run --config-file /etc/oxen/storage.conf --omq-port 22020

What the command line says counts before what the file says. Stop it with Ctrl-C or SIGTERM: what was
begun is finished. A second time ends it at once.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArguments {
    /// The node's config, with all that can be set; config/cepa.toml explains every key. Not together
    /// with the options below
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: ServerArguments,
    /// Stop when standard input ends, as it does when the process that started this one is gone
    #[arg(long, hide = true)]
    pub(super) exit_with_parent: bool,
}

/// The options of the C++ storage server, by the table of their names.
#[derive(Debug)]
struct ServerArguments {
    /// Names and values, in the order of the table.
    given: Vec<(&'static str, String)>,
    config_file: Option<PathBuf>,
}

/// Positional arguments that the reference once took: an address, which it ignores, and a port.
const POSITIONAL: &str = "positional";
const POSITIONAL_NAMES: [&str; 2] = ["ip", "port"];

/// What `--help` says of each; what is not here is hidden.
const HELP: [(&str, &str, &str); 9] = [
    (
        "oxend-rpc",
        "ADDRESS",
        "Where oxend answers: ipc:///PATH of its socket, or tcp://HOST:PORT [default: \
         ipc://~/.oxen/oxend.sock]",
    ),
    (
        "network-file",
        "FILE",
        "For labs, instead of oxend: a network.json that lists the service nodes",
    ),
    (
        "bind-ip",
        "IP",
        "The IPv4 address to listen on [default: 0.0.0.0]",
    ),
    (
        "https-port",
        "PORT",
        "TCP port of HTTPS, for clients [default: 22021, on testnet 38155]",
    ),
    (
        "omq-port",
        "PORT",
        "TCP port of OMQ, for service nodes, and UDP port of QUIC [default: 22020, on testnet \
         38154]",
    ),
    (
        "data-dir",
        "DIRECTORY",
        "Where messages are kept [default: ~/.oxen/storage, on testnet ~/.oxen/testnet/storage]",
    ),
    ("testnet", "BOOL", "The network is the testnet"),
    (
        "stats-access-key",
        "KEY",
        "An X25519 key in hex that may ask for statistics over OMQ; may be given more than once",
    ),
    (
        CONFIG_FILE,
        "FILE",
        "More of these options, as `key = value` lines [default: storage-server.conf or \
         storage.conf in the data directory, if it is there]",
    ),
];

fn argument(known: &Known) -> Arg {
    let argument = Arg::new(known.name)
        .long(known.name)
        .conflicts_with("config")
        .action(ArgAction::Append);
    let argument = if known.is_flag {
        argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        argument.num_args(1)
    };
    match HELP.iter().find(|(name, ..)| *name == known.name) {
        Some((_, value, help)) => argument.value_name(value).help(help),
        None => argument.hide(true),
    }
}

/// What the table of names has, but for the level of the log, which all commands take.
fn arguments() -> impl Iterator<Item = &'static Known> {
    NAMES.iter().filter(|known| known.name != LOG_LEVEL)
}

impl clap::Args for ServerArguments {
    fn augment_args(command: Command) -> Command {
        let positional = Arg::new(POSITIONAL)
            .num_args(0..=POSITIONAL_NAMES.len())
            .conflicts_with("config")
            .hide(true);
        // In the order of the help; what it does not have stands behind.
        let place = |known: &&Known| HELP.iter().position(|(name, ..)| *name == known.name);
        let mut ordered: Vec<_> = arguments().collect();
        ordered.sort_by_key(|known| place(known).unwrap_or(HELP.len()));
        command
            .args(ordered.into_iter().map(argument))
            .arg(positional)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServerArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = |name: &str| -> Vec<String> {
            let is_given = matches.value_source(name) == Some(ValueSource::CommandLine);
            let values = matches.get_many::<String>(name).filter(|_| is_given);
            values.into_iter().flatten().cloned().collect()
        };
        let mut given = Vec::new();
        for known in arguments().filter(|known| known.name != CONFIG_FILE) {
            given.extend(
                values(known.name)
                    .into_iter()
                    .map(|value| (known.name, value)),
            );
        }
        let positional = POSITIONAL_NAMES.into_iter().zip(values(POSITIONAL));
        given.extend(positional);
        let config_file = values(CONFIG_FILE).pop().map(PathBuf::from);
        Ok(Self { given, config_file })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl RunArguments {
    /// The file that the command line names, of whichever kind.
    pub(super) fn config_file(&self) -> Option<&Path> {
        let of_options = self.options.config_file.as_deref();
        self.config.as_deref().or(of_options)
    }

    /// Reads the config that is meant. The level of the log is taken from a file of options, and
    /// warnings are logged.
    pub(super) fn read(&self) -> Result<Config, Failure> {
        match &self.config {
            Some(file) => Config::read(file).map_err(Failure::new),
            None => self.options.read(),
        }
    }
}

/// Where the reference's files stand below. Without a home, where we are, as the reference does.
pub(in super::super) fn home_dir() -> PathBuf {
    let is_one = |home: &PathBuf| home.is_absolute();
    let home = env::home_dir().filter(is_one);
    home.or_else(|| env::current_dir().ok()).unwrap_or_default()
}

impl ServerArguments {
    fn read(&self) -> Result<Config, Failure> {
        let home = home_dir();
        let mut options = Options::default();
        for (name, value) in &self.given {
            options.add(name, value).map_err(Failure::new)?;
        }
        if let Some(file) = self.config_file(&options, home.as_path())? {
            options.read_file(&file).map_err(Failure::new)?;
        }
        if let Some((place, level)) = options.log_level() {
            logging::take(&place.to_string(), level)?;
        }
        for warning in options.warnings() {
            warn!("{warning}");
        }
        options.config(&home).map_err(Failure::new)
    }

    /// The file that was named, or the one in the data directory.
    fn config_file(&self, options: &Options, home: &Path) -> Result<Option<PathBuf>, Failure> {
        if let Some(file) = &self.config_file {
            return Ok(Some(file.clone()));
        }
        let data_dir = options.data_dir(home).map_err(Failure::new)?;
        let mut files = FILE_NAMES.iter().map(|name| data_dir.join(name));
        Ok(files.find(|file| file.is_file()))
    }
}

#[cfg(test)]
mod tests {
    use cepa_control::options::names::Meaning;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArguments,
    }

    fn take(line: &str) -> Result<ServerArguments, String> {
        let words = ["cepa"].into_iter().chain(line.split_whitespace());
        let parsed = Line::try_parse_from(words).map_err(|fault| fault.to_string());
        parsed.map(|line| line.run.options)
    }

    #[test]
    fn every_option_of_the_reference_is_taken() {
        for known in arguments() {
            let line = if known.is_flag {
                format!("--{}", known.name)
            } else {
                format!("--{} 7", known.name)
            };
            let read = take(&line).unwrap();
            if known.name == CONFIG_FILE {
                assert_eq!(read.config_file, Some("7".into()));
                continue;
            }
            let value = if known.is_flag { "true" } else { "7" };
            assert_eq!(read.given, [(known.name, value.to_owned())]);
            let refusal = take(&format!("{line} --config x")).unwrap_err();
            assert!(refusal.contains("cannot be used with"), "{refusal}");
        }
    }

    #[test]
    fn what_the_help_explains_is_known() {
        for (name, ..) in HELP {
            let known = NAMES.iter().find(|known| known.name == name).unwrap();
            let is_shown = known.meaning == Meaning::Option || name == CONFIG_FILE;
            assert!(is_shown, "{name}");
        }
    }

    #[test]
    fn flags_lists_and_positional_arguments_are_as_the_reference_has_them() {
        let given = |line: &str| take(line).unwrap().given;
        let pair = |name: &'static str, value: &str| (name, value.to_owned());
        let keys = "--stats-access-key a --stats-access-key=b";
        let expected = [pair("stats-access-key", "a"), pair("stats-access-key", "b")];
        assert_eq!(given(keys), expected);
        assert_eq!(given("--testnet=false"), [pair("testnet", "false")]);
        let expected = [
            pair("testnet", "true"),
            pair("ip", "0.0.0.0"),
            pair("port", "8"),
        ];
        assert_eq!(given("--testnet 0.0.0.0 8"), expected);
        assert!(take("a 1 b").is_err());
        assert!(take("--fast").is_err());
        assert!(given("").is_empty());
    }
}
