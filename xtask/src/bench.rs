//! `cargo xtask bench`: runs the benchmarks one after the other, writes what they measured, and compares it
//! with what was measured before.

mod figures;
mod report;
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::fault::{Fault, Outcome};
use crate::machine;
use crate::screen::{bar, say};

use self::figures::Figures;
use self::report::{Machine, Results, Section};
use self::suite::{Bench, Kind, SUITE};

/// Runs the benchmarks and writes benches/RESULTS.md and benches/results.json
///
/// Nothing else should run on the machine meanwhile. Each benchmark is built first (fat LTO: a minute or two
/// for each), then all are run in order. What is measured is compared with benches/results.json if the same
/// machine made it: a change beyond 10 %, and for criterion's medians beyond both confidence intervals too, is
/// marked. `node` runs the release binary: `cargo build --release` is part of it.
///
/// One that fails is told at the end; what the others measured is written all the same. Quick figures are kept
/// apart, in the target directory: they never stand in the place of exact ones.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask bench                        all of it: about an hour with the builds
  cargo xtask bench --quick                shorter and less exact, some minutes once it is built
  cargo xtask bench --only packet --only hop
  cargo xtask bench --only store --dry-run   prints the results only")]
pub(crate) struct Options {
    /// Shorter, for a first look: such figures are compared with, and kept beside, quick ones only
    #[arg(long)]
    quick: bool,
    /// Only this benchmark; may be given several times. What others measured before is kept
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(options: &Options) -> Outcome<()> {
    let chosen = choose(&options.only)?;
    let directory = if options.quick {
        home().join("quick")
    } else {
        machine::root().join("benches")
    };
    let kept = directory.join("results.json");
    let before = Results::read(&kept)?;
    let mut results = Results::new(Machine::describe()?, options.quick);
    if let Some(before) = &before
        && !options.only.is_empty()
        && !options.dry_run
        && !before.is_like(&results)
    {
        let advice = "holds all results of another machine, and would keep only these: run all, or --dry-run";
        return Err(Fault::of(&kept, advice));
    }
    let (sections, failed) = measure_all(&chosen, options.quick);
    results.sections = sections;
    let comparison = before
        .as_ref()
        .map(|before| report::compare(before, &results));
    let comparison = comparison.unwrap_or_else(|| "There are no earlier results.\n".to_owned());
    say(None, &comparison)?;
    if options.dry_run {
        say(None, &results.markdown(&comparison))?;
    } else if !results.sections.is_empty() {
        keep(&directory, &results.with_rest_of(before), &comparison)?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Fault(failed.join("\n")))
}

fn keep(directory: &Path, results: &Results, comparison: &str) -> Outcome<()> {
    fs::create_dir_all(directory).map_err(|error| Fault::of(directory, error))?;
    let text = results.markdown(comparison);
    write(&directory.join("RESULTS.md"), &text)?;
    write(&directory.join("results.json"), &results.json()?)?;
    let directory = directory.display();
    say(
        None,
        &format!("written: {directory}/RESULTS.md, {directory}/results.json"),
    )
}

/// What each measured, and how some failed: an hour of others is not lost with one of them.
fn measure_all(chosen: &[&'static Bench], quick: bool) -> (Vec<Section>, Vec<String>) {
    let (mut sections, mut failed) = (Vec::new(), Vec::new());
    let chosen: Vec<_> = build(chosen, &mut failed);
    let bar = bar(chosen.len(), "benchmarks");
    for bench in chosen {
        let name = bench.name;
        bar.set_message(name);
        let measured = measure(bench, quick).and_then(|section| {
            let count = section.figures.len();
            say(Some(&bar), &format!("{name}: {count} figures"))?;
            if count == 0 {
                return Err(Fault("it printed no figures".to_owned()));
            }
            Ok(section)
        });
        match measured {
            Ok(section) => sections.push(section),
            Err(fault) => failed.push(format!("{name}: {fault}")),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    (sections, failed)
}

/// Where benchmarks leave what need not be kept.
fn home() -> PathBuf {
    machine::target_directory().join("bench-results")
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).map_err(|error| Fault::of(path, error))
}

fn choose(names: &[String]) -> Outcome<Vec<&'static Bench>> {
    let known = SUITE.map(|bench| bench.name);
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let known = known.join(", ");
        return Err(Fault(format!(
            "there is no benchmark {name}: there are {known}"
        )));
    }
    let is_chosen = |bench: &&Bench| names.is_empty() || names.iter().any(|it| it == bench.name);
    Ok(SUITE.iter().filter(is_chosen).collect())
}

/// Builds everything before anything is measured; gives those that could be built.
fn build(chosen: &[&'static Bench], failed: &mut Vec<String>) -> Vec<&'static Bench> {
    let bar = bar(chosen.len(), "building");
    let mut built = Vec::new();
    for bench in chosen {
        bar.set_message(bench.name);
        match bar.suspend(|| build_one(bench)) {
            Ok(()) => built.push(*bench),
            Err(fault) => failed.push(format!("{}: {fault}", bench.name)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    built
}

fn build_one(bench: &Bench) -> Outcome<()> {
    let mut command = machine::cargo(None);
    command.args([
        "bench", "--quiet", "-p", "benches", "--no-run", "--bench", bench.name,
    ]);
    machine::run(&mut command)?;
    if bench.needs_release {
        let mut command = machine::cargo(None);
        machine::run(command.args(["build", "--quiet", "--release"]))?;
    }
    Ok(())
}

fn measure(bench: &Bench, quick: bool) -> Outcome<Section> {
    let home = home().join("of").join(bench.name);
    if home.is_dir() {
        fs::remove_dir_all(&home).map_err(|error| Fault::of(&home, error))?;
    }
    let mut command = machine::cargo(None);
    command.args(["bench", "--quiet", "-p", "benches", "--bench", bench.name]);
    let arguments = if quick { bench.quick } else { &[] };
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    command.env("CRITERION_HOME", &home);
    let told = told(&command);
    let output = machine::output_of(&mut command)?;
    let (figures, tables) = match bench.kind {
        Kind::Criterion => (Figures::of_criterion(&home)?, None),
        Kind::Tables => (Figures::of_tables(&output), Some(output)),
    };
    Ok(Section {
        name: bench.name.to_owned(),
        command: told,
        measured: Machine::describe()?.when(),
        figures: figures.named(bench.name),
        tables,
    })
}

/// The command as one would type it.
fn told(command: &Command) -> String {
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy());
    let arguments: Vec<_> = arguments.filter(|argument| argument != "--quiet").collect();
    format!("cargo {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_is_in_the_suite() {
        let manifest = machine::read(&machine::root().join("benches/Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let benches = manifest["bench"].as_array().unwrap();
        let mut there: Vec<_> = benches
            .iter()
            .filter_map(|it| it["name"].as_str())
            .collect();
        let mut known = SUITE.map(|bench| bench.name);
        there.sort_unstable();
        known.sort_unstable();
        assert_eq!(there, known);
        assert!(choose(&["none".to_owned()]).is_err());
        assert_eq!(choose(&["hop".to_owned()]).unwrap().len(), 1);
    }
}
