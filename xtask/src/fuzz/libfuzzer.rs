//! What libFuzzer says while it runs.

use std::path::PathBuf;

use super::run::Job;

/// What came of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Seeds of the target.
    pub(super) seed_count: usize,
    /// Inputs that were run.
    pub(super) executions: u64,
    /// Inputs in a second.
    pub(super) speed: u64,
    /// Edges of the program that were reached, of `edges_all`.
    pub(super) edges: u64,
    /// Edges that are counted, those of libraries included.
    pub(super) edges_all: u64,
    /// Edges with how often each was taken, and what was compared.
    pub(super) features: u64,
    /// The input that crashed it, when it did.
    pub(super) crash: Option<Crash>,
    /// What it said.
    pub(super) log: String,
}

/// What made a target fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// An input, kept in this file.
    Input(PathBuf),
    /// It failed without keeping one.
    Unknown,
}

impl Report {
    /// Reads the log of a run that succeeded or not.
    pub(super) fn read(log: String, has_succeeded: bool, seed_count: usize) -> Self {
        let mut report = Self {
            seed_count,
            ..Self::default()
        };
        let mut input = None;
        for line in log.lines() {
            report.read_line(line);
            if let Some((_, path)) = line.split_once("Test unit written to ") {
                input = Some(PathBuf::from(path.trim()));
            } else if let Some(path) = line.strip_prefix("Running: ") {
                // A run of one file keeps no other.
                input = Some(PathBuf::from(path.trim()));
            }
        }
        if !has_succeeded {
            report.crash = Some(input.map_or(Crash::Unknown, Crash::Input));
        }
        report.log = log;
        report
    }

    fn read_line(&mut self, line: &str) {
        if line.starts_with("INFO: Loaded") && line.contains("inline 8-bit counters") {
            let count = line
                .split('(')
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            self.edges_all = count
                .and_then(|count| count.parse().ok())
                .unwrap_or_default();
        }
        if let Some(rest) = line.strip_prefix('#') {
            let mut words = rest.split_whitespace();
            self.executions = words.next().map_or(self.executions, |word| number(word, 0));
            self.edges = field(line, "cov:", self.edges);
            self.features = field(line, "ft:", self.features);
            self.speed = field(line, "exec/s:", self.speed);
        }
        let (executed, speed) = (
            "stat::number_of_executed_units:",
            "stat::average_exec_per_sec:",
        );
        self.executions = field(line, executed, self.executions);
        self.speed = field(line, speed, self.speed);
    }

    /// A line about it.
    pub(super) fn line(&self, job: Job) -> String {
        let seeds = self.seed_count;
        let is_well = if self.crash.is_none() { "" } else { ", FAILED" };
        match job {
            Job::Seeds => format!("{seeds} seeds{is_well}"),
            Job::Corpus => format!("{} edges of {seeds} seeds{is_well}", self.edges),
            Job::Time(_) | Job::Canary(_) => format!(
                "{} inputs, {} in a second, {} edges of {}{is_well}",
                self.executions, self.speed, self.edges, self.edges_all
            ),
        }
    }

    /// The last lines of what it said, without how often each input was mutated.
    pub(super) fn end(&self) -> String {
        const LINES: usize = 40;
        let lines: Vec<_> = self
            .log
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("stat::"))
            .collect();
        let first = lines.len().saturating_sub(LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }
}

/// The number behind `name`, or what was there before.
fn field(line: &str, name: &str, before: u64) -> u64 {
    line.split_once(name)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .map_or(before, |word| number(word, before))
}

fn number(word: &str, otherwise: u64) -> u64 {
    word.parse().unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: Running with entropic power schedule (0xFF, 100).
INFO: Loaded 1 modules   (69001 inline 8-bit counters): 69001 [0x5, 0x6),
#17\tINITED cov: 512 ft: 1301 corp: 15/2Kb exec/s: 0 rss: 40Mb
#9000\tDONE   cov: 640 ft: 2001 corp: 70/9Kb lim: 4096 exec/s: 3000 rss: 45Mb
stat::number_of_executed_units: 9001
stat::average_exec_per_sec:     3001
";

    #[test]
    fn a_run_is_read() {
        let report = Report::read(LOG.to_owned(), true, 17);
        assert_eq!((report.edges, report.edges_all), (640, 69_001));
        assert_eq!((report.features, report.executions), (2001, 9001));
        assert_eq!((report.speed, report.crash.clone()), (3001, None));
        assert_eq!(report.line(Job::Seeds), "17 seeds");
    }

    #[test]
    fn a_crash_is_read() {
        let written = "artifact_prefix='a/'; Test unit written to a/crash-01\n";
        let report = Report::read(format!("{LOG}{written}"), false, 1);
        assert_eq!(report.crash, Some(Crash::Input("a/crash-01".into())));
        let seed = Report::read(
            "Running: s/one\nRunning: s/two\npanic\n".to_owned(),
            false,
            2,
        );
        assert_eq!(seed.crash, Some(Crash::Input("s/two".into())));
        assert!(seed.line(Job::Seeds).ends_with("FAILED"));
        assert_eq!(
            Report::read(String::new(), false, 0).crash,
            Some(Crash::Unknown)
        );
    }
}
