//! `cargo xtask bench`: runs the benchmarks one after the other, writes what they measured, and compares it
//! with what was measured before.

mod figures;
mod report;
mod suite;

use std::fs;
use std::path::Path;
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
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask bench                        all of it: about an hour with the builds
  cargo xtask bench --quick                shorter and less exact, some minutes once it is built
  cargo xtask bench --only packet --only hop
  cargo xtask bench --only store --dry-run   prints the results only")]
pub(crate) struct Options {
    /// Shorter, for a first look: such figures are compared with, and kept as, quick ones only
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
    let directory = machine::root().join("benches");
    let kept = directory.join("results.json");
    let before = Results::read(&kept)?;
    let mut results = Results::new(Machine::describe()?, options.quick);
    build(&chosen)?;
    let bar = bar(chosen.len(), "benchmarks");
    for bench in chosen {
        bar.set_message(bench.name);
        let section = measure(bench, options.quick)?;
        let name = bench.name;
        let count = section.figures.len();
        say(Some(&bar), &format!("{name}: {count} figures"))?;
        results.sections.push(section);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let comparison = before
        .as_ref()
        .map(|before| report::compare(before, &results));
    let comparison = comparison.unwrap_or_else(|| "There are no earlier results.\n".to_owned());
    say(None, &comparison)?;
    if options.dry_run {
        return say(None, &results.markdown(&comparison));
    }
    let results = results.with_rest_of(before);
    write(
        &directory.join("RESULTS.md"),
        &results.markdown(&comparison),
    )?;
    write(&kept, &results.json()?)?;
    say(None, "written: benches/RESULTS.md, benches/results.json")
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

/// Builds everything before anything is measured.
fn build(chosen: &[&Bench]) -> Outcome<()> {
    let bar = bar(chosen.len(), "building");
    for bench in chosen {
        bar.set_message(bench.name);
        let mut command = machine::cargo(None);
        command.args([
            "bench", "--quiet", "-p", "benches", "--no-run", "--bench", bench.name,
        ]);
        bar.suspend(|| machine::run(&mut command))?;
        if bench.needs_release {
            let mut command = machine::cargo(None);
            bar.suspend(|| machine::run(command.args(["build", "--quiet", "--release"])))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn measure(bench: &Bench, quick: bool) -> Outcome<Section> {
    let home = machine::target_directory()
        .join("bench-results")
        .join(bench.name);
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
