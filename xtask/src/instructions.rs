//! `cargo xtask instructions`: counts with callgrind, and compares with what is kept in git.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use crate::fault::{Fault, Outcome};
use crate::machine;
use crate::screen::say;

/// Counts the instructions of the parsers, of the relay's core and of the storage engine
///
/// The counts are compared with benches/instructions.toml: more than the tolerance above what stands there
/// is a failure, less is told. A count does not depend on what else the machine does, and so CI notices a
/// regression that no clock would show. It does depend on compiler and C library: with another one than the
/// baseline's, more may differ. callgrind's processor
/// has no AVX-512, so that X25519 is the scalar one.
///
/// Needs valgrind and gungraun-runner; with CI=true both are installed.
#[derive(Args)]
pub(crate) struct Options {
    /// Write what is counted to benches/instructions.toml
    #[arg(long)]
    update: bool,
}

const BASELINE: &str = "benches/instructions.toml";
/// Instructions above the baseline that are let pass whatever share they are: what is counted begins and
/// ends in code that the compiler inlines otherwise when something else in the binary changes, which moved
/// counts of some hundred by 30.
const SLACK: u64 = 64;

/// Per cent above the baseline that are let pass, unless the table `tolerance` says otherwise.
const TOLERANCE: f64 = 3.0;
/// The same where C library or valgrind are others than those that the baseline was counted with: copying, which
/// the library picks by what valgrind's processor can do, costs other instructions there.
const TOLERANCE_ELSEWHERE: f64 = 10.0;
/// Per cent that arithmetic may be off by.
const ROUNDING: f64 = 1e-6;

type Counts = BTreeMap<String, u64>;

pub(crate) fn run(options: &Options) -> Outcome<()> {
    need_tools()?;
    let counts = count()?;
    let path = machine::root().join(BASELINE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let baseline = Baseline::parse(&text)?;
    let made_with = made_with();
    let tolerance = if baseline.made_with == made_with {
        TOLERANCE
    } else {
        let (then, now) = (list(&baseline.made_with), list(&made_with));
        let told = format!(
            "counted with {now}, the baseline with {then}: {TOLERANCE_ELSEWHERE} % may differ"
        );
        say(None, &told)?;
        TOLERANCE_ELSEWHERE
    };
    let (lines, has_risen) = compare(&baseline, &counts, tolerance);
    for line in lines {
        say(None, &line)?;
    }
    if options.update {
        let text = baseline.with(&counts, &made_with);
        fs::write(&path, text).map_err(|error| Fault::of(&path, error))?;
        return say(None, &format!("written: {BASELINE}"));
    }
    if has_risen {
        let advice =
            "instruction counts rose: find out why, or `cargo xtask instructions --update`";
        return Err(Fault(advice.to_owned()));
    }
    Ok(())
}

/// What counts depend on, beside the compiler that is pinned.
fn made_with() -> BTreeMap<String, String> {
    let told = |program: &str, argument: &str| {
        let told = machine::output_of(Command::new(program).arg(argument));
        told.map_or_else(|_| String::new(), |told| told.trim().to_owned())
    };
    BTreeMap::from([
        ("c_library".to_owned(), told("getconf", "GNU_LIBC_VERSION")),
        ("valgrind".to_owned(), told("valgrind", "--version")),
    ])
}

fn list(made_with: &BTreeMap<String, String>) -> String {
    let versions: Vec<_> = made_with.values().map(String::as_str).collect();
    versions.join(", ")
}

fn need_tools() -> Outcome<()> {
    machine::need_package("valgrind", "valgrind", "callgrind counts instructions")?;
    let lock = machine::read(&machine::root().join("Cargo.lock"))?;
    let version = locked_version(&lock, "gungraun")
        .ok_or_else(|| Fault("Cargo.lock names no gungraun".to_owned()))?;
    let installed = machine::output_of(machine::cargo(None).args(["install", "--list"]))?;
    if installed.contains(&format!("gungraun-runner v{version}:")) {
        return Ok(());
    }
    let package = format!("gungraun-runner@{version}");
    if machine::is_ci() {
        let mut install = machine::cargo(None);
        // It only reads what callgrind wrote: a build without optimization is a minute, with it several.
        install.env("CARGO_PROFILE_DEV_DEBUG", "0");
        return machine::run(install.args(["install", "--locked", "--debug", &package]));
    }
    Err(Fault(format!(
        "missing: gungraun-runner {version} (cargo install --locked {package})"
    )))
}

fn locked_version(lock: &str, name: &str) -> Option<String> {
    let lock: toml::Table = lock.parse().ok()?;
    let packages = lock.get("package")?.as_array()?;
    let package = packages
        .iter()
        .find(|package| package.get("name").and_then(|it| it.as_str()) == Some(name))?;
    Some(package.get("version")?.as_str()?.to_owned())
}

fn count() -> Outcome<Counts> {
    let mut command = machine::cargo(None);
    command.args([
        "bench",
        "--quiet",
        "-p",
        "instructions",
        "--bench",
        "instructions",
    ]);
    command.args(["--", "--output-format=json"]);
    let counts = parse(&machine::output_of(&mut command)?);
    if counts.is_empty() {
        return Err(Fault("gungraun counted nothing".to_owned()));
    }
    Ok(counts)
}

/// A line for each benchmark: `function id`, and what it counted.
fn parse(output: &str) -> Counts {
    let summaries = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    summaries
        .filter_map(|summary| {
            let name = summary.get("function_name")?.as_str()?;
            let id = summary.get("id").and_then(Value::as_str);
            let id = id.unwrap_or_default();
            let total = find(summary.get("profiles")?, "total")?;
            let count = first_number(find(total, "Ir")?)?;
            Some((format!("{name} {id}"), count))
        })
        .collect()
}

/// The first value of this name, wherever it stands.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) => object
            .get(name)
            .or_else(|| object.values().find_map(|inner| find(inner, name))),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}

/// What was counted now, which may stand beside what was counted before.
fn first_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::Object(object) => match object.get("new") {
            Some(new) => first_number(new),
            None => object.values().find_map(first_number),
        },
        Value::Array(list) => list.iter().find_map(first_number),
        _ => None,
    }
}

/// What is kept in git.
#[derive(Default)]
struct Baseline {
    /// What they were counted with.
    made_with: BTreeMap<String, String>,
    counts: Counts,
    tolerances: BTreeMap<String, f64>,
}

impl Baseline {
    fn parse(text: &str) -> Outcome<Self> {
        let table: toml::Table = text
            .parse()
            .map_err(|error| Fault(format!("{BASELINE}: {error}")))?;
        let section = |name: &str| {
            let section = table.get(name).and_then(|section| section.as_table());
            section.into_iter().flatten()
        };
        let counts = section("counts")
            .filter_map(|(name, value)| Some((name.clone(), value.as_integer()?.try_into().ok()?)));
        let mut tolerances = BTreeMap::new();
        for (name, value) in section("tolerance") {
            let number = value.clone().try_into::<f64>().ok();
            let number = number.ok_or_else(|| Fault(format!("{BASELINE}: {name} is no number")))?;
            tolerances.insert(name.clone(), number);
        }
        let made_with = section("made_with")
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        Ok(Self {
            made_with: made_with.collect(),
            counts: counts.collect(),
            tolerances,
        })
    }

    /// The file with other counts and the same tolerances.
    fn with(&self, counts: &Counts, made_with: &BTreeMap<String, String>) -> String {
        let mut text = String::from(
            "# Instructions of each benchmark: `cargo xtask instructions` compares, `--update` writes.\n\
             # [tolerance] may let one rise by more than 3 per cent: name = 5.0\n\n[made_with]\n",
        );
        for (name, what) in made_with {
            let written = writeln!(text, "{name} = {what:?}");
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        text.push_str("\n[counts]\n");
        for (name, count) in counts {
            let written = writeln!(text, "\"{name}\" = {count}");
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        if !self.tolerances.is_empty() {
            text.push_str("\n[tolerance]\n");
        }
        for (name, tolerance) in &self.tolerances {
            let written = writeln!(text, "\"{name}\" = {tolerance:?}");
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        text
    }
}

/// A line for each, and whether one rose by more than it may.
fn compare(baseline: &Baseline, counts: &Counts, tolerance: f64) -> (Vec<String>, bool) {
    let mut has_risen = false;
    let mut lines = Vec::new();
    for (name, count) in counts {
        let Some(before) = baseline.counts.get(name) else {
            lines.push(format!("{name}: {count}, new: --update"));
            continue;
        };
        let change = per_cent(*before, *count);
        let own = baseline.tolerances.get(name).copied().unwrap_or(TOLERANCE);
        let tolerance = own.max(tolerance);
        let verdict = if change > tolerance + ROUNDING && *count > before + SLACK {
            has_risen = true;
            format!(", ROSE from {before} by {change:.2} %, more than {tolerance} %")
        } else if change < -tolerance - ROUNDING {
            format!(", fell from {before} by {:.2} %: --update", -change)
        } else if change == 0.0 {
            String::new()
        } else {
            format!(", {change:+.2} %")
        };
        lines.push(format!("{name}: {count}{verdict}"));
    }
    for name in baseline.counts.keys() {
        if !counts.contains_key(name) {
            has_risen = true;
            lines.push(format!("{name}: is gone: --update"));
        }
    }
    (lines, has_risen)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_cent(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: u64) -> Counts {
        Counts::from([("bt store".to_owned(), count)])
    }

    #[test]
    fn rises_fail_and_falls_are_told() {
        let baseline = Baseline::parse("[counts]\n\"bt store\" = 10000\n").unwrap();
        for (count, has_risen, told) in [
            (10_000, false, "bt store: 10000"),
            (10_300, false, "bt store: 10300, +3.00 %"),
            (
                10_310,
                true,
                "bt store: 10310, ROSE from 10000 by 3.10 %, more than 3 %",
            ),
            (
                9000,
                false,
                "bt store: 9000, fell from 10000 by 10.00 %: --update",
            ),
        ] {
            assert_eq!(
                compare(&baseline, &counts(count), TOLERANCE),
                (vec![told.to_owned()], has_risen)
            );
        }
        assert!(
            compare(&baseline, &Counts::new(), TOLERANCE).1,
            "one is gone"
        );
        assert!(!compare(&baseline, &counts(11_000), TOLERANCE_ELSEWHERE).1);
        assert!(compare(&baseline, &counts(11_010), TOLERANCE_ELSEWHERE).1);
    }

    #[test]
    fn what_the_compiler_moves_is_no_rise() {
        let baseline = Baseline::parse("[counts]\n\"bt store\" = 200\n").unwrap();
        assert!(!compare(&baseline, &counts(264), TOLERANCE).1);
        assert!(compare(&baseline, &counts(265), TOLERANCE).1);
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "[counts]\n\"bt store\" = 1\n\n[tolerance]\n\"bt store\" = 5\n";
        let baseline = Baseline::parse(text).unwrap();
        let made_with = BTreeMap::from([("valgrind".to_owned(), "valgrind-3".to_owned())]);
        let again = Baseline::parse(&baseline.with(&counts(10_400), &made_with)).unwrap();
        assert_eq!(again.made_with, made_with);
        assert!(Baseline::parse("[tolerance]\na = \"5\"\n").is_err());
        assert_eq!(again.counts, counts(10_400));
        assert!(
            !compare(&again, &counts(10_900), TOLERANCE).1,
            "within its tolerance"
        );
        assert!(compare(&again, &counts(10_930), TOLERANCE).1);
    }

    #[test]
    fn summaries_are_read() {
        let line = r#"{"function_name":"bt","id":"store","profiles":[{"data":{"total":
            {"metrics":{"Ir":{"new":42,"old":41}}}}}]}"#;
        let counted = parse(&line.replace('\n', " "));
        assert_eq!(counted, counts(42));
    }

    #[test]
    fn the_locked_version_is_found() {
        let lock = "[[package]]\nname = \"gungraun\"\nversion = \"0.20.0\"\n";
        assert_eq!(locked_version(lock, "gungraun").as_deref(), Some("0.20.0"));
        assert_eq!(locked_version(lock, "valgrind"), None);
    }
}
