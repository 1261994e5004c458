//! The command line of `cepa run`, and the config that it stands for.

use std::env;
use std::path::{self, Path, PathBuf};

use cepa_control::config::ConfigError;
use cepa_control::options::names::{CONFIG_FILE, Known, LOG_LEVEL, NAMES};
use cepa_control::options::{FILE_NAMES, Options, OptionsError};
use cepa_control::{Config, NetworkSource};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use tracing::warn;

use super::advice;
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
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// Stop when standard input ends, as it does when the process that started this one is gone
    #[arg(long, hide = true)]
    pub(super) exit_with_parent: bool,
}

/// What says where the config of a node comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigArguments {
    /// The node's config, with all that can be set; config/cepa.toml explains every key. Not together
    /// with the options below
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: ServerArguments,
}

/// The options of the C++ storage server, by the table of their names.
#[derive(Clone, Debug)]
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

impl ConfigArguments {
    /// Reads the config that is meant, and refuses what can't work. The log is as the config has it
    /// from then on, and warnings are in it.
    pub(super) fn read(&self) -> Result<Config, Failure> {
        let examined = self.examine();
        let (place, warnings) = (examined.level_place.clone(), examined.warnings.clone());
        let config = examined
            .sound()
            .map_err(|problems| self.refusal(&problems))?;
        logging::configure(&place, &config.log_level, config.log_format)?;
        for warning in warnings {
            warn!("{warning}");
        }
        Ok(config)
    }

    /// The first thing that is wrong, and how to learn of the others.
    fn refusal(&self, problems: &[Problem]) -> Failure {
        let first = problems.first().map_or("", |first| &first.message);
        match problems.len().saturating_sub(1) {
            0 => Failure::new(first),
            more => {
                let of = self.config.as_ref().map_or_else(
                    || "with these options".to_owned(),
                    |file| format!("--config {}", file.display()),
                );
                let noun = if more == 1 { "problem" } else { "problems" };
                Failure::new(format!(
                    "{first} (and {more} {noun} more: `cepa check-config {of}` tells all)"
                ))
            }
        }
    }

    /// Reads the config that is meant, as `cepa run` does, and tells all that is wrong with it. Nothing is
    /// changed and nothing logged.
    pub(in super::super) fn examine(&self) -> Examined {
        let mut examined = match &self.config {
            Some(file) => examine_file(file),
            None => self.options.examine(),
        };
        if let Some(draft) = &examined.draft {
            let refused = logging::check_level(&examined.level_place, &draft.log_level);
            let of_level = refused.err().map(|refused| Problem {
                file: self.config.clone(),
                line: examined.level_line,
                key: Some("log_level".to_owned()),
                ..Problem::new(refused.to_string())
            });
            examined.problems.extend(of_level);
        }
        if let Some(config) = &examined.config {
            let refusals = advice::refusals(config).into_iter().map(Problem::new);
            examined.problems.extend(refusals);
        }
        examined
    }

    /// Every file that reading the config again would read, whether it is there or not: for who fences the
    /// process in after it has started. `config` is what was read.
    pub(in super::super) fn files_read(&self, config: &Config) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = match (&self.config, &self.options.config_file) {
            (Some(file), _) | (None, Some(file)) => vec![file.clone()],
            (None, None) => FILE_NAMES
                .iter()
                .map(|name| config.data_dir.join(name))
                .collect(),
        };
        if let NetworkSource::File(file) = &config.network {
            files.push(file.clone());
        }
        let absolute = files.iter().map(path::absolute);
        absolute.filter_map(Result::ok).collect()
    }
}

/// What was read of a config, and what is wrong with it.
pub(in super::super) struct Examined {
    /// None if something is missing that has no default; else with defaults where a key is wrong.
    pub(in super::super) config: Option<Config>,
    /// The same with stand-ins for what is missing; none if nothing can be read.
    pub(in super::super) draft: Option<Config>,
    pub(in super::super) problems: Vec<Problem>,
    /// What the operator should change, a sentence each.
    pub(in super::super) warnings: Vec<String>,
    /// The keys that were given, by their names in `cepa.toml`.
    pub(in super::super) set: Vec<&'static str>,
    /// Where the level of the log stands.
    level_place: String,
    level_line: Option<usize>,
}

impl Examined {
    /// The config, if nothing is wrong with it.
    pub(in super::super) fn sound(self) -> Result<Config, Vec<Problem>> {
        match self.config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(self.problems),
        }
    }

    /// Where the level of the log stands.
    pub(super) fn level_place(&self) -> &str {
        &self.level_place
    }
}

/// One thing that is wrong with a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Problem {
    pub(in super::super) file: Option<PathBuf>,
    /// Counted from 1.
    pub(in super::super) line: Option<usize>,
    pub(in super::super) key: Option<String>,
    /// What should stand there.
    pub(in super::super) expected: Option<String>,
    /// The whole of it, for people.
    pub(in super::super) message: String,
}

impl Problem {
    pub(in super::super) fn new(message: String) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }

    fn of_config(problem: &ConfigError) -> Self {
        Self {
            file: Some(problem.file().to_owned()),
            line: problem.line(),
            key: problem.key().map(ToOwned::to_owned),
            expected: problem.expected().map(ToOwned::to_owned),
            message: problem.to_string(),
        }
    }

    fn of_options(problem: &OptionsError) -> Self {
        let (file, line) = problem.file().unzip();
        Self {
            file: file.map(ToOwned::to_owned),
            line: line.flatten(),
            key: problem.place().map(|place| place.name().to_owned()),
            expected: problem.expected().map(ToOwned::to_owned),
            message: problem.to_string(),
        }
    }
}

fn examine_file(file: &Path) -> Examined {
    let reading = Config::examine(file);
    let level_line = reading.lines.get("log_level").copied();
    Examined {
        config: reading.config,
        draft: reading.draft,
        problems: reading.problems.iter().map(Problem::of_config).collect(),
        warnings: Vec::new(),
        set: reading.set,
        level_place: match level_line {
            Some(line) => format!("{}, line {line}: the key `log_level`", file.display()),
            None => format!("{}: the key `log_level`", file.display()),
        },
        level_line,
    }
}

/// Where the reference's files stand below. Without a home, where we are, as the reference does.
pub(in super::super) fn home_dir() -> PathBuf {
    let is_one = |home: &PathBuf| home.is_absolute();
    let home = env::home_dir().filter(is_one);
    home.or_else(|| env::current_dir().ok()).unwrap_or_default()
}

impl ServerArguments {
    fn examine(&self) -> Examined {
        let home = home_dir();
        let mut options = Options::default();
        let mut problems = Vec::new();
        for (name, value) in &self.given {
            problems.extend(options.add(name, value).err());
        }
        // If the data directory is at fault, the config tells it.
        if let Ok(Some(file)) = self.config_file(&options, home.as_path()) {
            problems.extend(options.examine_file(&file));
        }
        let (reading, more) = options.examine(&home);
        problems.extend(more);
        let place = options.log_level().map(|(place, _)| place.to_string());
        Examined {
            config: reading.config,
            draft: reading.draft,
            problems: problems.iter().map(Problem::of_options).collect(),
            warnings: options.warnings().to_vec(),
            set: reading.set,
            level_place: place.unwrap_or_else(|| format!("--{LOG_LEVEL}")),
            level_line: None,
        }
    }

    /// The file that was named, or the one in the data directory.
    fn config_file(&self, options: &Options, home: &Path) -> Result<Option<PathBuf>, OptionsError> {
        if let Some(file) = &self.config_file {
            return Ok(Some(file.clone()));
        }
        let data_dir = options.data_dir(home)?;
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
        parsed.map(|line| line.run.config.options)
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
