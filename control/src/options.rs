//! The options of the C++ storage server, from its command line and its config file, as a [`Config`]:
//! a machine that ran that one runs this one without a change. Defaults are the reference's too.

pub mod ini;
pub mod names;

use core::fmt;
use core::net::Ipv4Addr;
use core::num::NonZeroU16;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::names::{
    BIND_IP, DATA_DIR, HTTPS_PORT, LOG_LEVEL, Meaning, NETWORK_FILE, OMQ_PORT, OXEND_RPC,
    STATS_ACCESS_KEY, TESTNET,
};
use crate::config::{
    Config, ConfigError, LIST_COUNT_MAX, NetworkSource, Reading, is_oxend_rpc, nearest, read_key,
    read_text,
};

/// What the config file is called, below the data directory; the first that is there counts.
pub const FILE_NAMES: [&str; 2] = ["storage-server.conf", "storage.conf"];

/// Homes of an oxend that is run by the system: its files stand there, not in `.oxen` below.
const SYSTEM_HOMES: [&str; 2] = ["/var/lib/oxen", "/var/lib/loki"];

/// HTTPS port and OMQ port where none is given.
const PORTS: [u16; 2] = [22_021, 22_020];
/// The same on testnet.
const TESTNET_PORTS: [u16; 2] = [38_155, 38_154];

/// Where an option was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `--name value`.
    CommandLine,
    /// `name = value`.
    File {
        /// In which file.
        file: PathBuf,
        /// In which line, counted from 1.
        line: usize,
    },
}

/// An option as it was given: what errors begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
    origin: Origin,
}

impl Place {
    /// The name as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::CommandLine => write!(f, "--{}", self.name),
            Origin::File { file, line } => {
                write!(f, "{}, line {line}: `{}`", file.display(), self.name)
            }
        }
    }
}

/// Why options are refused.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// The config file can't be read.
    #[error(transparent)]
    File(ConfigError),
    /// It is not one of [`names::NAMES`].
    #[error("{0} is unknown: {meant}", meant = meant(.0))]
    Unknown(Place),
    /// A line of the file is none.
    #[error(
        "{}, line {line}: this must be `key = value`; a comment begins with #",
        file.display()
    )]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
    /// An option that has one value was given two.
    #[error("{0} is given a second time: give it once")]
    Twice(Place),
    /// A value is none.
    #[error("{place} must be {expected}, not {found:?}")]
    Malformed {
        /// Which option.
        place: Place,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// HTTPS and OMQ are both on TCP.
    #[error("HTTPS and OMQ can't both listen on port {0}: give another --https-port or --omq-port")]
    SamePorts(NonZeroU16),
    /// The view can't come from two places.
    #[error("{0} and --oxend-rpc both say where the network comes from: give one of them")]
    TwoNetworks(Place),
}

/// What to write instead of an unknown option.
fn meant(place: &Place) -> String {
    match nearest_of(place) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the options are {}", names::present()),
    }
}

fn nearest_of(place: &Place) -> Option<&'static str> {
    nearest(&place.name, names::NAMES.iter().map(|known| known.name))
}

impl OptionsError {
    /// The option that is at fault, if it is one.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Unknown(place)
            | Self::Twice(place)
            | Self::TwoNetworks(place)
            | Self::Malformed { place, .. } => Some(place),
            Self::File(_) | Self::Line { .. } | Self::SamePorts(_) => None,
        }
    }

    /// The file and the line that are at fault, if it is in a file.
    pub fn file(&self) -> Option<(&Path, Option<usize>)> {
        match self {
            Self::File(fault) => Some((fault.file(), fault.line())),
            Self::Line { file, line } => Some((file, Some(*line))),
            _ => match &self.place()?.origin {
                Origin::CommandLine => None,
                Origin::File { file, line } => Some((file, Some(*line))),
            },
        }
    }

    /// What should stand there, if that is known.
    pub fn expected(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { expected, .. } => Some(expected),
            Self::Unknown(place) => nearest_of(place),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    place: Place,
    values: Vec<String>,
}

/// Options that were given. The command line is read first: what it says counts, whatever the file
/// says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    given: BTreeMap<&'static str, Given>,
    warnings: Vec<String>,
}

impl Options {
    /// Takes an option of the command line; `name` without dashes.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let place = Place {
            name: name.to_owned(),
            origin: Origin::CommandLine,
        };
        self.put(place, value)
    }

    /// Takes what the text of a config file says and the command line does not. The error is the
    /// first thing that is wrong with it; what is right is taken.
    pub fn add_file(&mut self, text: &str, file: &Path) -> Result<(), OptionsError> {
        first(self.examine_text(text, file))
    }

    /// As [`Self::add_file`]; tells all that is wrong.
    pub fn examine_text(&mut self, text: &str, file: &Path) -> Vec<OptionsError> {
        let pairs = match ini::parse(text) {
            Ok(pairs) => pairs,
            Err(bad) => {
                return vec![OptionsError::Line {
                    file: file.into(),
                    line: bad.line,
                }];
            }
        };
        let mut read = Self::default();
        let mut problems = Vec::new();
        for pair in pairs {
            let origin = Origin::File {
                file: file.into(),
                line: pair.line,
            };
            let name = pair.key.to_owned();
            problems.extend(read.put(Place { name, origin }, pair.value).err());
        }
        self.warnings.append(&mut read.warnings);
        for (name, given) in read.given {
            self.given.entry(name).or_insert(given);
        }
        problems
    }

    /// Takes what a config file says and the command line does not.
    pub fn read_file(&mut self, file: &Path) -> Result<(), OptionsError> {
        first(self.examine_file(file))
    }

    /// As [`Self::read_file`]; tells all that is wrong.
    pub fn examine_file(&mut self, file: &Path) -> Vec<OptionsError> {
        match read_text(file) {
            Ok(text) => self.examine_text(&text, file),
            Err(fault) => vec![OptionsError::File(fault)],
        }
    }

    fn put(&mut self, place: Place, value: &str) -> Result<(), OptionsError> {
        let Some(known) = names::find(&place.name) else {
            return Err(OptionsError::Unknown(place));
        };
        let name = match known.meaning {
            Meaning::Option => known.name,
            Meaning::Alias(of) => {
                self.warn(format!("{place} is the old name of --{of}: use that"));
                of
            }
            Meaning::Ignored(why) => {
                self.warn(format!("{place} has no effect: {why}"));
                return Ok(());
            }
        };
        let is_list = name == STATS_ACCESS_KEY;
        if !is_list && self.given.contains_key(name) {
            return Err(OptionsError::Twice(place));
        }
        let empty = || Given {
            place,
            values: Vec::new(),
        };
        let given = self.given.entry(name).or_insert_with(empty);
        if is_list {
            let values = value.split([',', ' ']).filter(|value| !value.is_empty());
            given.values.extend(values.map(ToOwned::to_owned));
        } else {
            given.values.push(value.to_owned());
        }
        Ok(())
    }

    /// Each is said once, however often the option is given.
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What the operator should change, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The level of the log as it was given, with its place.
    pub fn log_level(&self) -> Option<(&Place, &str)> {
        let given = self.given.get(LOG_LEVEL)?;
        Some((&given.place, given.values.first()?))
    }

    /// The data directory: the one that was given, or that of the reference below `home`.
    pub fn data_dir(&self, home: &Path) -> Result<PathBuf, OptionsError> {
        let given = self.take(DATA_DIR, "the path of a directory", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        })?;
        Ok(match given {
            Some(path) => path,
            None => self.base_dir(home)?.join("storage"),
        })
    }

    /// The config that these options stand for, on a machine where `home` is the home directory. The
    /// error is the first.
    pub fn config(&self, home: &Path) -> Result<Config, OptionsError> {
        let (reading, problems) = self.examine(home);
        first(problems)?;
        // Options have defaults: without a problem there is a config.
        reading
            .config
            .ok_or(OptionsError::SamePorts(NonZeroU16::MIN))
    }

    /// As [`Self::config`]; tells all that is wrong. What was given is told by the keys of `cepa.toml`.
    pub fn examine(&self, home: &Path) -> (Reading, Vec<OptionsError>) {
        let mut problems = Vec::new();
        let config = self.take_all(home, &mut problems);
        let keys = [
            (BIND_IP, "bind_ip"),
            (HTTPS_PORT, "https_port"),
            (OMQ_PORT, "omq_port"),
            (DATA_DIR, "data_dir"),
            (NETWORK_FILE, "network_file"),
            (OXEND_RPC, "oxend_rpc"),
            (TESTNET, "testnet"),
            (STATS_ACCESS_KEY, "stats_access_keys"),
            (LOG_LEVEL, "log_level"),
        ];
        let given = keys
            .iter()
            .filter(|(name, _)| self.given.contains_key(name));
        let reading = Reading {
            draft: config.clone(),
            config,
            problems: Vec::new(),
            set: given.map(|(_, key)| *key).collect(),
            lines: BTreeMap::new(),
        };
        (reading, problems)
    }

    fn take_all(&self, home: &Path, problems: &mut Vec<OptionsError>) -> Option<Config> {
        let is_testnet = note(self.is_testnet(), problems).unwrap_or(false);
        let [https_default, omq_default] = if is_testnet { TESTNET_PORTS } else { PORTS };
        let https_port = note(self.port(HTTPS_PORT, https_default), problems);
        let omq_port = note(self.port(OMQ_PORT, omq_default), problems);
        if let Some(port) = https_port
            && omq_port == Some(port)
        {
            problems.push(OptionsError::SamePorts(port));
        }
        let bind_ip = self.take(BIND_IP, "an IPv4 address such as 0.0.0.0", parse);
        let bind_ip = note(bind_ip, problems).flatten();
        let data_dir = note(self.data_dir(home), problems);
        let network = note(self.network(home), problems);
        let stats_access_keys = self.take_list(
            STATS_ACCESS_KEY,
            "an X25519 key of 64 hex digits (64 keys at most)",
            read_key,
        );
        let stats_access_keys = note(stats_access_keys, problems).unwrap_or_default();
        let mut config = Config::new(
            bind_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            [https_port?, omq_port?],
            data_dir?,
            network?,
        );
        config.testnet = is_testnet;
        config.stats_access_keys = stats_access_keys;
        if let Some((_, level)) = self.log_level() {
            level.clone_into(&mut config.log_level);
        }
        Some(config)
    }

    /// Where oxend keeps its files, and the reference keeps its own below.
    fn base_dir(&self, home: &Path) -> Result<PathBuf, OptionsError> {
        let is_system = SYSTEM_HOMES.iter().any(|system| home == Path::new(system));
        let base = if is_system {
            home.to_owned()
        } else {
            home.join(".oxen")
        };
        let is_testnet = self.is_testnet()?;
        Ok(if is_testnet {
            base.join("testnet")
        } else {
            base
        })
    }

    fn network(&self, home: &Path) -> Result<NetworkSource, OptionsError> {
        let expected = "ipc:///PATH of oxend's socket, or tcp://HOST:PORT";
        let address = self.take(OXEND_RPC, expected, |text| {
            is_oxend_rpc(text).then(|| text.to_owned())
        })?;
        let file = self.take(NETWORK_FILE, "the path of a file", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        })?;
        match (file, address) {
            (Some(_), Some(_)) => {
                let place = self
                    .given
                    .get(NETWORK_FILE)
                    .map(|given| given.place.clone());
                Err(OptionsError::TwoNetworks(place.unwrap_or_else(|| Place {
                    name: NETWORK_FILE.to_owned(),
                    origin: Origin::CommandLine,
                })))
            }
            (Some(file), None) => Ok(NetworkSource::File(file)),
            (None, Some(address)) => Ok(NetworkSource::Oxend(address)),
            (None, None) => {
                let socket = self.base_dir(home)?.join("oxend.sock");
                Ok(NetworkSource::Oxend(format!("ipc://{}", socket.display())))
            }
        }
    }

    fn is_testnet(&self) -> Result<bool, OptionsError> {
        let flag = self.take(TESTNET, "true or false", read_flag)?;
        Ok(flag.unwrap_or(false))
    }

    fn port(&self, name: &str, default: u16) -> Result<NonZeroU16, OptionsError> {
        let given = self.take(name, "a port from 1 to 65535", parse)?;
        Ok(given.unwrap_or_else(|| NonZeroU16::new(default).unwrap_or(NonZeroU16::MIN)))
    }

    fn take<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, OptionsError> {
        Ok(self.take_list(name, expected, read)?.pop())
    }

    fn take_list<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, OptionsError> {
        let Some(given) = self.given.get(name) else {
            return Ok(Vec::new());
        };
        let values = given.values.iter().enumerate().map(|(index, value)| {
            let read = read(value).filter(|_| index < LIST_COUNT_MAX);
            read.ok_or_else(|| OptionsError::Malformed {
                place: given.place.clone(),
                expected,
                found: value.clone(),
            })
        });
        values.collect()
    }
}

/// What was read; what is wrong with it is noted.
fn note<T>(read: Result<T, OptionsError>, problems: &mut Vec<OptionsError>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

fn first(problems: Vec<OptionsError>) -> Result<(), OptionsError> {
    problems.into_iter().next().map_or(Ok(()), Err)
}

fn parse<T: core::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A flag as the reference's config files have it.
fn read_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
