//! What is written about a run, and how it compares with the last one.

use core::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::figures::{Figure, Figures};
use crate::fault::{Fault, Outcome};
use crate::machine;

/// Per cent beyond which a figure differs.
const NOISE: f64 = 10.0;

/// Where and of what figures were measured: names and what they are, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine(Vec<(String, String)>);

impl Machine {
    /// This machine, and this revision.
    pub(super) fn describe() -> Outcome<Self> {
        let of = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            let found = found
                .unwrap_or_default()
                .trim_start_matches([':', '\t', ' ']);
            found.trim().to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(0, core::num::NonZeroUsize::get);
        let governor = of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let governor = Some(governor.trim()).filter(|governor| !governor.is_empty());
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.current_dir(machine::root()).args(arguments);
            machine::output_of(&mut command).map(|output| output.trim().to_owned())
        };
        let dirt = run("git", &["status", "--porcelain", "--untracked-files=no"])?;
        let revision = run("git", &["rev-parse", "HEAD"])?;
        let dirty = if dirt.is_empty() {
            ""
        } else {
            ", with changes"
        };
        let config = of(&machine::root()
            .join(".cargo/config.toml")
            .display()
            .to_string());
        let flags = config.lines().find(|line| line.starts_with("rustflags"));
        let environment = std::env::var("RUSTFLAGS").unwrap_or_default();
        Ok(Self(
            [
                ("processor", line(&of("/proc/cpuinfo"), "model name")),
                ("cores", cores.to_string()),
                ("memory", line(&of("/proc/meminfo"), "MemTotal")),
                ("kernel", of("/proc/sys/kernel/osrelease").trim().to_owned()),
                ("governor", governor.unwrap_or("not shown").to_owned()),
                ("compiler", run("rustc", &["-V"])?),
                ("RUSTFLAGS", environment),
                ("config", flags.unwrap_or_default().to_owned()),
                (
                    "profile",
                    "release: fat LTO, one codegen unit, overflow checks".to_owned(),
                ),
                ("revision", format!("{revision}{dirty}")),
                ("date", run("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?),
            ]
            .map(|(name, what)| (name.to_owned(), what))
            .to_vec(),
        ))
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, what)| what)
    }

    /// Of which revision, and when.
    pub(super) fn when(&self) -> String {
        format!("revision {}, {}", self.get("revision"), self.get("date"))
    }

    /// What else may have made figures differ.
    fn differences(&self, other: &Self) -> Vec<String> {
        let names = [
            "kernel",
            "governor",
            "compiler",
            "RUSTFLAGS",
            "config",
            "profile",
        ];
        let differs = names
            .iter()
            .filter(|name| self.get(name) != other.get(name));
        differs
            .map(|name| format!("{name} `{}`, now `{}`", self.get(name), other.get(name)))
            .collect()
    }

    /// Whether its figures may be compared with another's.
    fn is_like(&self, other: &Self) -> bool {
        ["processor", "cores"]
            .iter()
            .all(|name| self.get(name) == other.get(name))
    }
}

/// What one benchmark measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) command: String,
    /// Of which revision, and when: sections of one file may be of several.
    pub(super) measured: String,
    pub(super) figures: Figures,
    /// What it printed, when that is more than the figures.
    pub(super) tables: Option<String>,
}

/// What a run measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Results {
    machine: Machine,
    quick: bool,
    pub(super) sections: Vec<Section>,
}

impl Results {
    pub(super) fn new(machine: Machine, quick: bool) -> Self {
        Self {
            machine,
            quick,
            sections: Vec::new(),
        }
    }

    /// The results that are kept, if there are any.
    pub(super) fn read(path: &Path) -> Outcome<Option<Self>> {
        let Ok(text) = fs::read_to_string(path) else {
            return Ok(None);
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| Fault::of(path, error))?;
        Ok(Some(Self::from_json(&value)))
    }

    fn from_json(value: &Value) -> Self {
        let text = |value: &Value, name: &str| {
            let text = value.get(name).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        let machine = value.get("machine").and_then(Value::as_object);
        let machine = machine.into_iter().flatten();
        let machine =
            machine.filter_map(|(name, what)| Some((name.clone(), what.as_str()?.into())));
        let sections = value.get("sections").and_then(Value::as_array);
        let sections = sections.into_iter().flatten().map(|section| Section {
            name: text(section, "name").unwrap_or_default(),
            command: text(section, "command").unwrap_or_default(),
            measured: text(section, "measured").unwrap_or_default(),
            figures: section
                .get("figures")
                .map(Figures::from_json)
                .unwrap_or_default(),
            tables: text(section, "tables"),
        });
        Self {
            machine: Machine(machine.collect()),
            quick: value
                .get("quick")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            sections: sections.collect(),
        }
    }

    pub(super) fn json(&self) -> Outcome<String> {
        let machine = self.machine.0.iter();
        let machine: Map<_, _> = machine
            .map(|(name, what)| (name.clone(), what.as_str().into()))
            .collect();
        let sections = self.sections.iter().map(|section| {
            json!({
                "name": section.name,
                "command": section.command,
                "measured": section.measured,
                "figures": section.figures.to_json(),
                "tables": section.tables,
            })
        });
        let sections: Vec<_> = sections.collect();
        let value = json!({"machine": machine, "quick": self.quick, "sections": sections});
        let text = serde_json::to_string_pretty(&value);
        text.map_err(|error| Fault(error.to_string()))
    }

    /// Whether these may be compared with, and stand beside, others.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.quick == other.quick && self.machine.is_like(&other.machine)
    }

    /// With the sections of earlier results that were not measured anew, if they may stand beside it.
    pub(super) fn with_rest_of(mut self, before: Option<Self>) -> Self {
        let Some(before) = before.filter(|before| before.is_like(&self)) else {
            return self;
        };
        for section in before.sections {
            if !self.sections.iter().any(|known| known.name == section.name) {
                self.sections.push(section);
            }
        }
        self
    }

    /// benches/RESULTS.md.
    pub(super) fn markdown(&self, comparison: &str) -> String {
        let mut text = "# Measured\n\nWritten by `cargo xtask bench`.".to_owned();
        if self.quick {
            text.push_str(" Quick: durations are too short for exact figures.");
        }
        text.push_str("\n\n| | |\n| --- | --- |\n");
        for (name, what) in &self.machine.0 {
            add(&mut text, format_args!("| {name} | {what} |\n"));
        }
        for section in &self.sections {
            add(
                &mut text,
                format_args!(
                    "\n## {}\n\n`{}`, {}\n\n",
                    section.name, section.command, section.measured
                ),
            );
            if let Some(tables) = &section.tables {
                text.push_str(tables.trim());
                text.push('\n');
                continue;
            }
            text.push_str("| benchmark | median of one, ns |\n| --- | ---: |\n");
            for (name, figure) in section.figures.iter() {
                add(
                    &mut text,
                    format_args!("| {name} | {:.1} |\n", figure.value),
                );
            }
        }
        add(
            &mut text,
            format_args!("\n## Against the results before\n\n{comparison}"),
        );
        text
    }
}

fn add(text: &mut String, what: core::fmt::Arguments<'_>) {
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok(), "a string takes everything");
}

/// A table of what both measured.
pub(super) fn compare(before: &Results, now: &Results) -> String {
    if !before.machine.is_like(&now.machine) {
        let (other, this) = (
            before.machine.get("processor"),
            now.machine.get("processor"),
        );
        return format!("The last results are of another machine ({other}, this is {this}).\n");
    }
    if before.quick != now.quick {
        return "The last results were measured for another time (--quick).\n".to_owned();
    }
    let mut text = String::new();
    for difference in before.machine.differences(&now.machine) {
        add(&mut text, format_args!("Not the same: {difference}.\n\n"));
    }
    text.push_str("| | before | now | ratio | |\n| --- | ---: | ---: | ---: | --- |\n");
    for section in &now.sections {
        compare_section(before, section, &mut text);
    }
    text
}

/// Its rows: what was measured before as well, and what is measured no more.
fn compare_section(before: &Results, section: &Section, text: &mut String) {
    let mut known = before.sections.iter();
    let Some(old) = known.find(|old| old.name == section.name) else {
        return;
    };
    let (name, measured) = (&section.name, &old.measured);
    add(
        text,
        format_args!("| **{name}**, before: {measured} | | | | |\n"),
    );
    for (name, figure) in section.figures.iter() {
        let Some(old) = old.figures.get(name) else {
            continue;
        };
        let ratio = figure.value / old.value;
        let mark = if differs(old, figure) { "differs" } else { "" };
        let (old, new) = (old.value, figure.value);
        add(
            text,
            format_args!("| {name} | {old:.2} | {new:.2} | {ratio:.2} | {mark} |\n"),
        );
    }
    for (name, old) in old.figures.iter() {
        if section.figures.get(name).is_none() {
            let old = old.value;
            add(text, format_args!("| {name} | {old:.2} | | | is gone |\n"));
        }
    }
}

/// Whether a figure changed by more than noise explains.
fn differs(old: &Figure, new: &Figure) -> bool {
    let change = (new.value - old.value).abs();
    let is_large = change > old.value.abs() * NOISE / 100.0;
    let is_apart = match (old.interval, new.interval) {
        (Some((low, high)), Some((new_low, new_high))) => new_low > high || new_high < low,
        _ => true,
    };
    is_large && is_apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(processor: &str, value: u32) -> Results {
        let table = format!("| a | ns |\n| --- | --- |\n| x | {value} |\n");
        let machine = Machine(vec![("processor".to_owned(), processor.to_owned())]);
        let mut results = Results::new(machine, false);
        results.sections.push(Section {
            name: "hop".to_owned(),
            command: "cargo bench".to_owned(),
            measured: "revision 1".to_owned(),
            figures: Figures::of_tables(&table).named("hop"),
            tables: Some(table),
        });
        results
    }

    #[test]
    fn only_what_is_beyond_noise_is_marked() {
        let before = results("one", 100);
        assert!(compare(&before, &results("one", 112)).contains("| 1.12 | differs |"));
        assert!(compare(&before, &results("one", 109)).contains("| 1.09 |  |"));
        assert!(compare(&before, &results("other", 500)).contains("another machine"));
        let mut other = results("one", 100);
        other.machine.0.push(("compiler".into(), "rustc 2".into()));
        other.sections[0].figures = Figures::default();
        let told = compare(&before, &other);
        assert!(told.contains("Not the same: compiler ``, now `rustc 2`"));
        assert!(
            told.contains("before: revision 1") && told.contains("is gone"),
            "{told}"
        );
        let interval = |value, interval| Figure {
            value,
            unit: "ns".to_owned(),
            interval: Some(interval),
        };
        let old = interval(100.0, (90.0, 130.0));
        assert!(!differs(&old, &interval(120.0, (110.0, 140.0))));
        assert!(differs(&old, &interval(150.0, (140.0, 160.0))));
    }

    #[test]
    fn results_are_kept() {
        let results = results("one", 100);
        let value = serde_json::from_str(&results.json().unwrap()).unwrap();
        assert_eq!(Results::from_json(&value), results);
        let other = Results::new(results.machine.clone(), false);
        assert_eq!(other.with_rest_of(Some(results.clone())), results);
        let text = results.markdown("");
        assert!(text.contains("## hop\n\n`cargo bench`, revision 1\n\n| a | ns |"));
    }
}
