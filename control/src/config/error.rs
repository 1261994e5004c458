//! Why a config is refused.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::FILE_SIZE_MAX;
use super::keys::{NETWORK_FILE, OXEND_RPC, key_names};

/// Why `cepa.toml` is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the config {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`FILE_SIZE_MAX`]: not a config.
    #[error("{} is larger than {FILE_SIZE_MAX} bytes: this is no config", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// The file is no TOML.
    #[error("{}, line {line}: {reason}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the TOML parser says.
        reason: String,
    },
    /// A key that has no default is not there.
    #[error("{}: the key `{key}` is missing: it must be {expected}", file.display())]
    Missing {
        /// Which file.
        file: PathBuf,
        /// Which key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A key has a value that it can't have.
    #[error("{}, line {line}: the key `{key}` must be {expected}, not {found}", file.display())]
    Malformed {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Which key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, as TOML.
        found: String,
    },
    /// It is not said where the network view comes from, or it is said twice.
    #[error(
        "{}: give one of `network_file` ({}) and `oxend_rpc` ({}){}",
        file.display(),
        NETWORK_FILE.expected,
        OXEND_RPC.expected,
        if *is_twice { ", not both" } else { "" }
    )]
    Network {
        /// Which file.
        file: PathBuf,
        /// Both are given, not none.
        is_twice: bool,
    },
    /// A key that means nothing here.
    #[error("{}, line {line}: the key `{key}` is unknown: {}", file.display(), meant(*nearest))]
    Unknown {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Which key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
}

/// What to write instead of an unknown key.
fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("the keys are {}", key_names()),
    }
}

impl ConfigError {
    /// The file that is at fault.
    pub fn file(&self) -> &Path {
        match self {
            Self::Read { file, .. }
            | Self::TooLarge { file }
            | Self::Syntax { file, .. }
            | Self::Missing { file, .. }
            | Self::Malformed { file, .. }
            | Self::Network { file, .. }
            | Self::Unknown { file, .. } => file,
        }
    }

    /// The line that is at fault, counted from 1, if it is one.
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. }
            | Self::Malformed { line, .. }
            | Self::Unknown { line, .. } => Some(*line),
            _ => None,
        }
    }

    /// The key that is at fault, if it is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing { key, .. } | Self::Malformed { key, .. } => Some(key),
            Self::Unknown { key, .. } => Some(key),
            _ => None,
        }
    }

    /// What should stand there, if that is known: a value, or for an unknown key the one that was
    /// probably meant.
    pub const fn expected(&self) -> Option<&'static str> {
        match self {
            Self::Missing { expected, .. } | Self::Malformed { expected, .. } => Some(expected),
            Self::Unknown { nearest, .. } => *nearest,
            _ => None,
        }
    }
}
