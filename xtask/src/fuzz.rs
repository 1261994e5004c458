//! `cargo xtask fuzz`: every target over its seeds, or for a time; crashes are kept and told; the canary
//! must crash.

mod build;
mod coverage;
mod libfuzzer;
mod run;
mod targets;

use core::num::NonZeroUsize;
use core::time::Duration;
use std::fs;

use clap::{Args, ValueEnum};

use crate::fault::{Fault, Outcome};
use crate::machine;
use crate::screen::{bar, say};

use self::build::Engine;
use self::libfuzzer::{Crash, Report};
use self::run::{Job, Runner};
use self::targets::Target;

/// Runs the fuzz targets: over their seeds, or for a time
///
/// Without a time, each target is run once over each of its seeds: the regression test of CI, on the
/// stable toolchain. With one, libFuzzer looks for inputs that crash, beginning with the seeds and with
/// what earlier runs found (fuzz/corpus, not kept in git), with the dictionary of
/// fuzz/dictionaries/targets.toml.
///
/// An input that crashes is kept below fuzz/artifacts; the others are run all the same, and the task fails
/// at the end. Once mended, the input is kept below fuzz/seeds/TARGET and gets a plain test.
///
/// In every mode the target `canary` is fuzzed as well, which has a bug planted: the task fails when
/// nobody notices.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                           seeds only: some seconds once it is built
  cargo xtask fuzz --seconds 60              each target for a minute
  cargo xtask fuzz --total-minutes 30        half an hour, shared among the targets
  cargo xtask fuzz --target bt --seconds 600
  cargo xtask fuzz --engine nightly --seconds 60     with AddressSanitizer
  cargo xtask fuzz --coverage                writes fuzz/COVERAGE.md
  cargo +nightly fuzz run bt                 with cargo-fuzz, on one target")]
pub(crate) struct Options {
    /// Fuzz each target for so many seconds
    #[arg(long, value_name = "N", conflicts_with = "total_minutes")]
    seconds: Option<u64>,
    /// Fuzz all targets in so many minutes together, one as long as the other
    #[arg(long, value_name = "N")]
    total_minutes: Option<u64>,
    /// Only this target; may be given several times
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Targets that run at the same time [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// stable: coverage only. nightly: coverage and an address sanitizer
    #[arg(long, value_enum, default_value_t = Choice::Stable)]
    engine: Choice,
    /// Write fuzz/COVERAGE.md: what the seeds reach, and what some seconds of fuzzing add (5 for each
    /// target, unless a time is given)
    #[arg(long)]
    coverage: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    Stable,
    Nightly,
}

/// Longer than the canary ever took: some seconds on a busy machine.
const CANARY_TIME_MAX: Duration = Duration::from_mins(2);
/// What the canary's panic says.
const SONG: &str = "the canary sings";
/// For each target, when coverage is asked for and no time is.
const COVERAGE_TIME: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Options) -> Outcome<()> {
    let all = targets::load()?;
    let chosen = choose(all, &options.targets)?;
    let engine = match options.engine {
        Choice::Stable => Engine::Stable,
        Choice::Nightly => Engine::Nightly,
    };
    let jobs = jobs(options.jobs).min(chosen.len().max(1));
    say(None, &format!("building {} fuzz targets", chosen.len()))?;
    let binaries = build::build(engine, &options.targets)?;
    let runner = Runner::new(binaries)?;

    check_canary(&runner)?;
    let time = time(options, chosen.len(), jobs);
    let job = time.map_or(Job::Seeds, Job::Time);
    let seeds = if options.coverage {
        run_all(&runner, &chosen, Job::Corpus, jobs)?
    } else {
        Vec::new()
    };
    let reports = run_all(&runner, &chosen, job, jobs)?;
    if options.coverage {
        let text = coverage::table(&chosen, &seeds, &reports, time.unwrap_or_default());
        let path = machine::root().join("fuzz/COVERAGE.md");
        fs::write(&path, text).map_err(|error| Fault::of(&path, error))?;
        say(None, &format!("written: {}", path.display()))?;
    }
    conclude(&chosen, &reports)
}

/// The targets of these names; all, if none is named.
fn choose(all: Vec<Target>, names: &[String]) -> Outcome<Vec<Target>> {
    for name in names {
        if !all.iter().any(|target| target.name == *name) {
            let known: Vec<_> = all.iter().map(|target| target.name.as_str()).collect();
            let known = known.join(", ");
            return Err(Fault(format!(
                "there is no fuzz target {name}: the targets are {known}"
            )));
        }
    }
    let is_chosen = |target: &Target| names.is_empty() || names.contains(&target.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

fn jobs(given: Option<NonZeroUsize>) -> usize {
    let cores = || std::thread::available_parallelism().ok();
    given.or_else(cores).map_or(1, NonZeroUsize::get)
}

/// How long each target is fuzzed, if at all.
fn time(options: &Options, count: usize, jobs: usize) -> Option<Duration> {
    let each = options.seconds.map(Duration::from_secs);
    let shared = options
        .total_minutes
        .map(|minutes| share(minutes, count, jobs));
    let for_coverage = options.coverage.then_some(COVERAGE_TIME);
    each.or(shared).or(for_coverage)
}

/// What each of `count` targets gets of so many minutes if `jobs` run at a time.
fn share(minutes: u64, count: usize, jobs: usize) -> Duration {
    let rounds = count.div_ceil(jobs.max(1)).max(1);
    let seconds = minutes.saturating_mul(60) / rounds as u64;
    Duration::from_secs(seconds.max(1))
}

/// The bug of the canary is found, or nothing here can be believed.
fn check_canary(runner: &Runner) -> Outcome<()> {
    let canary = Target {
        name: "canary".to_owned(),
        dictionary: "canary".to_owned(),
    };
    let report = runner.run(&canary, Job::Canary(CANARY_TIME_MAX))?;
    let Some(crash) = &report.crash else {
        return Err(Fault(format!(
            "the canary did not crash within {} s: crashes are not noticed here\n{}",
            CANARY_TIME_MAX.as_secs(),
            report.end()
        )));
    };
    if !report.log.contains(SONG) {
        return Err(Fault(format!(
            "the canary crashed of something else:\n{}",
            report.end()
        )));
    }
    // Nor is it enough that it crashed: its input must be kept, and be noticed among seeds too.
    let Crash::Input(input) = crash else {
        return Err(Fault("the canary crashed and kept no input".to_owned()));
    };
    let again = runner.replay(&canary, core::slice::from_ref(input))?;
    if again.crash.is_none() || !again.log.contains(SONG) {
        let end = again.end();
        return Err(Fault(format!(
            "the canary's input crashes it no more: crashes of seeds are not noticed here\n{end}"
        )));
    }
    // Each run finds one; nobody looks at them.
    fs::remove_file(input).map_err(|error| Fault::of(input, error))?;
    let inputs = report.executions;
    let line = format!("canary: its planted bug is found, as it must be, in {inputs} inputs");
    say(None, &line)
}

fn run_all(runner: &Runner, targets: &[Target], job: Job, jobs: usize) -> Outcome<Vec<Report>> {
    let bar = bar(targets.len(), job.name());
    let reports = run::run_all(targets, jobs, |target| {
        let report = runner.run(target, job)?;
        say(
            Some(&bar),
            &format!("{}: {}", target.name, report.line(job)),
        )?;
        if let Some(crash) = &report.crash {
            say(Some(&bar), &runner.crash_text(target, crash, &report))?;
        }
        bar.inc(1);
        Ok(report)
    });
    bar.finish_and_clear();
    reports
}

fn conclude(targets: &[Target], reports: &[Report]) -> Outcome<()> {
    let crashed: Vec<_> = targets
        .iter()
        .zip(reports)
        .filter(|(_, report)| report.crash.is_some())
        .map(|(target, _)| target.name.as_str())
        .collect();
    let passed = targets.len() - crashed.len();
    say(None, &format!("{passed} passed, {} failed", crashed.len()))?;
    if crashed.is_empty() {
        return Ok(());
    }
    Err(Fault(format!(
        "these fuzz targets failed: {}",
        crashed.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shared_evenly() {
        assert_eq!(share(30, 36, 2), Duration::from_secs(100));
        assert_eq!(share(30, 37, 2), Duration::from_secs(94));
        assert_eq!(share(0, 36, 2), Duration::from_secs(1));
        assert_eq!(share(1, 1, 1), Duration::from_mins(1));
    }

    #[test]
    fn unknown_targets_are_refused() {
        let target = |name: &str| Target {
            name: name.to_owned(),
            dictionary: name.to_owned(),
        };
        let all = || vec![target("bt"), target("omq")];
        assert_eq!(choose(all(), &[]).unwrap().len(), 2);
        let one = choose(all(), &["omq".to_owned()]).unwrap();
        assert_eq!((one.len(), one[0].name.as_str()), (1, "omq"));
        let fault = choose(all(), &["zmtp".to_owned()]).unwrap_err();
        assert!(fault.to_string().ends_with("the targets are bt, omq"));
    }
}
