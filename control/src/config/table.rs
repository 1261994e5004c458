//! The keys of a config file, taken one after the other; what is wrong is noted, and the rest still
//! read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Value;
use toml::de::DeTable;

use super::keys::{BOOTSTRAP_NODES, KEYS, Key, NETWORK_FILE, OXEND_RPC, nearest};
use super::{ConfigError, LIST_COUNT_MAX, NetworkSource, is_oxend_rpc};
use crate::oxend::BootstrapNode;

/// The keys of the file that have not been taken yet.
pub(super) struct Table<'a> {
    file: &'a Path,
    keys: toml::Table,
    pub(super) lines: BTreeMap<String, usize>,
    /// The keys of ours that were there.
    pub(super) set: Vec<&'static str>,
    pub(super) problems: Vec<ConfigError>,
}

impl<'a> Table<'a> {
    /// Reads the text. What is no TOML is noted, all of it, and then no key is there.
    pub(super) fn parse(text: &str, file: &'a Path) -> Self {
        let line_of = |at: usize| {
            let before = text.as_bytes().iter().take(at);
            1 + before.filter(|byte| **byte == b'\n').count()
        };
        let (spanned, faults) = DeTable::parse_recoverable(text);
        let to_problem = |fault: &toml::de::Error| ConfigError::Syntax {
            file: file.into(),
            line: line_of(fault.span().map_or(0, |span| span.start)),
            reason: fault.message().lines().collect::<Vec<_>>().join("; "),
        };
        let mut problems: Vec<_> = faults.iter().map(to_problem).collect();
        let keys = match text.parse() {
            Ok(keys) if problems.is_empty() => keys,
            Ok(_) => toml::Table::new(),
            Err(fault) => {
                if problems.is_empty() {
                    problems.push(to_problem(&fault));
                }
                toml::Table::new()
            }
        };
        let lines = spanned.get_ref().keys();
        let lines = lines.map(|key| (key.get_ref().to_string(), line_of(key.span().start)));
        Self {
            file,
            keys,
            lines: lines.collect(),
            set: Vec::new(),
            problems,
        }
    }

    /// Whether the text is TOML.
    pub(super) const fn is_readable(&self) -> bool {
        self.problems.is_empty()
    }

    fn line(&self, key: &str) -> usize {
        self.lines.get(key).copied().unwrap_or(1)
    }

    /// The key's value, if it is there and `accept` accepts it.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        key: &Key,
        accept: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let value = self.keys.remove(key.name)?;
        self.set.push(key.name);
        let found = value.to_string();
        match value.try_into() {
            Ok(value) if accept(&value) => Some(value),
            _ => {
                self.problems.push(ConfigError::Malformed {
                    file: self.file.into(),
                    line: self.line(key.name),
                    key: key.name,
                    expected: key.expected,
                    found,
                });
                None
            }
        }
    }

    pub(super) fn take_bootstrap_nodes(&mut self) -> Option<Vec<BootstrapNode>> {
        let read = |text: &String| text.parse::<BootstrapNode>().ok();
        let texts = self.take(&BOOTSTRAP_NODES, |texts: &Vec<String>| {
            texts.len() <= LIST_COUNT_MAX && texts.iter().all(|text| read(text).is_some())
        })?;
        Some(texts.iter().filter_map(read).collect())
    }

    /// As [`Self::take`]; that the key is not there is noted.
    pub(super) fn require<T: DeserializeOwned>(
        &mut self,
        key: &Key,
        accept: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        if !self.keys.contains_key(key.name) {
            self.problems.push(ConfigError::Missing {
                file: self.file.into(),
                key: key.name,
                expected: key.expected,
            });
        }
        self.take(key, accept)
    }

    /// Replaces the default if the key is there.
    pub(super) fn put<T: DeserializeOwned>(
        &mut self,
        key: &Key,
        place: &mut T,
        accept: impl FnOnce(&T) -> bool,
    ) {
        if let Some(value) = self.take(key, accept) {
            *place = value;
        }
    }

    pub(super) fn require_path(&mut self, key: &Key) -> Option<PathBuf> {
        let path = self.require(key, is_path)?;
        Some(self.absolute(path))
    }

    /// One of the two keys that say where the view comes from.
    pub(super) fn take_network(&mut self) -> Option<NetworkSource> {
        let given = [NETWORK_FILE, OXEND_RPC].map(|key| self.keys.contains_key(key.name));
        let file = self.take(&NETWORK_FILE, is_path);
        let address = self.take(&OXEND_RPC, |text: &String| is_oxend_rpc(text));
        match (given, file, address) {
            ([true, false], file, _) => Some(NetworkSource::File(self.absolute(file?))),
            ([false, true], _, address) => address.map(NetworkSource::Oxend),
            ([is_twice, _], ..) => {
                self.problems.push(ConfigError::Network {
                    file: self.file.into(),
                    is_twice,
                });
                None
            }
        }
    }

    /// Paths are relative to the directory of the file.
    fn absolute(&self, path: PathBuf) -> PathBuf {
        match self.file.parent() {
            Some(directory) => directory.join(path),
            None => path,
        }
    }

    /// What is left is unknown.
    pub(super) fn finish(&mut self) {
        let keys: toml::map::Map<String, Value> = core::mem::take(&mut self.keys);
        for (key, _) in keys {
            self.problems.push(ConfigError::Unknown {
                file: self.file.into(),
                line: self.line(&key),
                nearest: nearest(&key, KEYS.map(|key| key.name)),
                key,
            });
        }
    }
}

#[expect(clippy::ptr_arg, reason = "it is asked of what TOML gives")]
fn is_path(path: &PathBuf) -> bool {
    !path.as_os_str().is_empty()
}
