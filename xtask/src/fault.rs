//! Why a task failed, as it is told to whoever ran it.

use std::io;
use std::path::Path;

use thiserror::Error;

/// A sentence about what went wrong and what to do about it.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) String);

pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault of what was to be done with a file or a command.
    pub(crate) fn of(what: impl AsRef<Path>, error: impl core::fmt::Display) -> Self {
        Self(format!("{}: {error}", what.as_ref().display()))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
