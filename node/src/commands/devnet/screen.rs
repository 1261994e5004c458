//! What a devnet shows: one line for each thing that was proven, and a status line while one waits.

use core::fmt::Display;
use core::time::Duration;
use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;

/// Width of what was proven, before the proof.
const TITLE_WIDTH: usize = 24;
/// The status line turns so often.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Screen {
    has_colours: bool,
    /// On standard error, and only when that is a terminal.
    status: ProgressBar,
}

impl Screen {
    pub(super) fn new() -> Self {
        let status = if io::stderr().is_terminal() {
            let status = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                status.set_style(style);
            }
            status.enable_steady_tick(TICK);
            status
        } else {
            ProgressBar::hidden()
        };
        Self {
            has_colours: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none(),
            status,
        }
    }

    /// What is waited for.
    pub(super) fn status(&self, text: String) {
        self.status.set_message(text);
    }

    /// Nothing is waited for any more.
    pub(super) fn end_status(&self) {
        self.status.finish_and_clear();
    }

    /// A line as it is.
    pub(super) fn line(&self, line: &str) -> Result<(), Failure> {
        self.status
            .suspend(|| writeln!(io::stdout(), "{line}"))
            .map_err(|fault| Failure::new(format!("cannot print: {fault}")))
    }

    /// Something that held, with what proves it.
    pub(super) fn proven(&self, title: &str, proof: impl Display) -> Result<(), Failure> {
        let mark = self.paint("32", "ok");
        self.line(&format!("{mark}  {title:<TITLE_WIDTH$} {proof}"))
    }

    /// More about the line before.
    pub(super) fn detail(&self, title: &str, text: impl Display) -> Result<(), Failure> {
        let title = self.paint("2", &format!("{title:<TITLE_WIDTH$}"));
        self.line(&format!("    {title} {text}"))
    }

    /// A command that can be copied.
    pub(super) fn command(&self, command: &str) -> Result<(), Failure> {
        self.line(&format!("  {}", self.paint("36", command)))
    }

    /// A heading.
    pub(super) fn heading(&self, text: &str) -> Result<(), Failure> {
        self.line(&self.paint("1", text))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
