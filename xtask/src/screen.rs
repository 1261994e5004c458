//! What is told on the terminal: lines to standard output, progress to standard error.

use core::time::Duration;
use std::io::{Write as _, stdout};

use indicatif::{ProgressBar, ProgressStyle};

use crate::fault::Outcome;

/// Writes a line to standard output, above the bar if there is one.
pub(crate) fn say(bar: Option<&ProgressBar>, line: &str) -> Outcome<()> {
    let write = || writeln!(stdout(), "{line}");
    match bar {
        Some(bar) => bar.suspend(write)?,
        None => write()?,
    }
    Ok(())
}

/// A bar of so many steps; it shows on terminals only.
pub(crate) fn bar(steps: usize, what: &'static str) -> ProgressBar {
    const FORM: &str = "{prefix} {wide_bar} {pos}/{len} {elapsed}, {eta} to go {msg}";
    let bar = ProgressBar::new(steps as u64).with_prefix(what);
    let style = ProgressStyle::with_template(FORM);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
