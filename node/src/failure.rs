//! Why a command ends without having done what it was asked for.

use core::fmt;

/// One line for a person: what is wrong and, where one can, what to do. `main` prints it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
}

impl Failure {
    /// From an error, or from words.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        // An error from below may have lines of its own: here it becomes one.
        let message = message.to_string();
        let lines: Vec<&str> = message.lines().map(str::trim).collect();
        Self {
            message: lines.join(" "),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
