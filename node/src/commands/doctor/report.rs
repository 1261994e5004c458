//! How findings are shown: a line each, as they come, or one JSON object at the end.

use core::time::Duration;
use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Group;
use super::finding::{Finding, Verdict};
use crate::failure::Failure;

/// Width of a check's name, before what it found.
const NAME_WIDTH: usize = 20;
/// What stands before the lines of advice: as wide as verdict and name.
const INDENT_WIDTH: usize = NAME_WIDTH + 8;
/// The status line turns so often.
const TICK: Duration = Duration::from_millis(100);

/// The report, while it is made.
pub(super) struct Report {
    as_json: bool,
    has_colours: bool,
    /// On standard error, and only when that is a terminal.
    progress: ProgressBar,
    findings: Vec<(Group, Finding)>,
}

impl Report {
    /// Of so many groups.
    pub(super) fn new(as_json: bool, group_count: usize) -> Self {
        let progress = if io::stderr().is_terminal() {
            let progress = ProgressBar::new(u64::try_from(group_count).unwrap_or_default());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} [{bar:20}] {pos}/{len} {msg} ({elapsed})")
            {
                progress.set_style(style);
            }
            progress.enable_steady_tick(TICK);
            progress
        } else {
            ProgressBar::hidden()
        };
        Self {
            as_json,
            has_colours: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none(),
            progress,
            findings: Vec::new(),
        }
    }

    /// What is looked at now.
    pub(super) fn begin(&self, group: Group) {
        self.progress.set_message(group.about());
    }

    /// Takes the findings of a group, and shows them.
    pub(super) fn add(&mut self, group: Group, findings: Vec<Finding>) -> Result<(), Failure> {
        self.progress.inc(1);
        if !self.as_json && !findings.is_empty() {
            self.print(&self.paint("1", group.name()))?;
            for finding in &findings {
                self.print(&self.lines(finding))?;
            }
        }
        let of_group = findings.into_iter().map(|finding| (group, finding));
        self.findings.extend(of_group);
        Ok(())
    }

    /// Shows the rest.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.progress.finish_and_clear();
        if self.as_json {
            self.print(&format!("{:#}", self.to_json()))
        } else {
            self.print(&self.paint("1", &self.summary()))
        }
    }

    /// The worst of all verdicts.
    pub(super) fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|(_, finding)| finding.verdict);
        verdicts
            .max()
            .map_or(Verdict::Pass, |worst| worst.max(Verdict::Pass))
    }

    /// The names of those that ended so, with their groups.
    pub(super) fn names(&self, verdict: Verdict) -> Vec<String> {
        let of_it = self
            .findings
            .iter()
            .filter(|(_, finding)| finding.verdict == verdict);
        of_it
            .map(|(group, finding)| format!("{}/{}", group.name(), finding.name))
            .collect()
    }

    fn count(&self, verdict: Verdict) -> usize {
        let of_it = self.findings.iter();
        of_it.filter(|(_, one)| one.verdict == verdict).count()
    }

    fn summary(&self) -> String {
        let [passed, warned, failed, skipped] =
            [Verdict::Pass, Verdict::Warn, Verdict::Fail, Verdict::Skip]
                .map(|verdict| self.count(verdict));
        let plural = if warned == 1 { "" } else { "s" };
        format!("{passed} passed, {warned} warning{plural}, {failed} failed, {skipped} skipped")
    }

    fn to_json(&self) -> Value {
        let checks = self.findings.iter();
        let checks: Vec<Value> = checks
            .map(|(group, finding)| finding.to_json(group.name()))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "verdict": self.verdict().name(),
            "checks": checks,
        })
    }

    /// A finding, and below it what to do.
    fn lines(&self, finding: &Finding) -> String {
        let (mark, colour) = match finding.verdict {
            Verdict::Skip => ("--", "2"),
            Verdict::Pass => ("ok", "32"),
            Verdict::Warn => ("warn", "33"),
            Verdict::Fail => ("FAIL", "31"),
        };
        let mark = self.paint(colour, &format!("{mark:<4}"));
        let Finding { name, found, .. } = finding;
        let mut lines = format!("  {mark}  {name:<NAME_WIDTH$} {found}");
        if let Some(advice) = &finding.advice {
            lines.push('\n');
            lines.push_str(&" ".repeat(INDENT_WIDTH));
            lines.push_str(&self.paint("36", "-> "));
            lines.push_str(advice);
        }
        lines
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        self.progress
            .suspend(|| writeln!(io::stdout(), "{text}"))
            .map_err(|fault| Failure::new(format!("cannot print: {fault}")))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            as_json: true,
            has_colours: false,
            progress: ProgressBar::hidden(),
            findings: Vec::new(),
        }
    }

    #[test]
    fn the_worst_counts_and_all_are_told() {
        let mut report = report();
        assert_eq!(report.verdict(), Verdict::Pass);
        report
            .add(Group::Cpu, vec![Finding::skip("a", "not asked")])
            .unwrap();
        assert_eq!(report.verdict(), Verdict::Pass);
        let of_disk = vec![
            Finding::pass("b", "good"),
            Finding::warn("c", "slow", "buy another"),
        ];
        report.add(Group::Disk, of_disk).unwrap();
        assert_eq!(report.verdict(), Verdict::Warn);
        report
            .add(Group::Ports, vec![Finding::fail("d", "taken", "stop it")])
            .unwrap();
        assert_eq!(report.verdict(), Verdict::Fail);
        assert_eq!(report.names(Verdict::Fail), ["ports/d"]);
        assert_eq!(report.summary(), "1 passed, 1 warning, 1 failed, 1 skipped");
        let json = report.to_json();
        assert_eq!(json["verdict"], "fail");
        assert_eq!(
            json["checks"][2],
            json!({"group": "disk", "name": "c", "verdict": "warn", "found": "slow",
                   "advice": "buy another"})
        );
        assert_eq!(json["checks"][0]["advice"], Value::Null);
    }

    #[test]
    fn advice_stands_below_what_was_found() {
        let lines = report().lines(&Finding::warn("name", "found", "do it"));
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines[0], "  warn  name                 found");
        assert_eq!(lines[1], "                            -> do it");
    }
}
