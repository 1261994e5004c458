//! What a benchmark measured, by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::fault::{Fault, Outcome};
use crate::machine;

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// The median, or what the table says.
    pub(super) value: f64,
    /// `ns`, or the column's head.
    pub(super) unit: String,
    /// Between these lies the median, says criterion.
    pub(super) interval: Option<(f64, f64)>,
}

/// Figures by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures(BTreeMap<String, Figure>);

impl Figures {
    /// All that criterion wrote below a directory; of one element, where several are measured at once.
    pub(super) fn of_criterion(home: &Path) -> Outcome<Self> {
        let mut figures = BTreeMap::new();
        let mut directories = vec![home.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory).map_err(|error| Fault::of(&directory, error))?;
            let entries = entries.flatten().map(|entry| entry.path());
            directories.extend(entries.filter(|path| path.is_dir()));
            if directory.ends_with("new") {
                let (name, figure) = read_criterion(&directory)?;
                figures.insert(name, figure);
            }
        }
        Ok(Self(figures))
    }

    /// All numbers in the Markdown tables of a text; what stands before the first number names a row.
    pub(super) fn of_tables(text: &str) -> Self {
        let mut figures = BTreeMap::new();
        let mut heads: Vec<&str> = Vec::new();
        for line in text.lines() {
            let Some(cells) = cells(line) else {
                heads.clear();
                continue;
            };
            if heads.is_empty() {
                heads = cells;
                continue;
            }
            let mut label: Vec<&str> = Vec::new();
            for (index, (cell, head)) in cells.iter().zip(&heads).enumerate() {
                match number(cell) {
                    Some(value) if index > 0 => {
                        let name = free_name(&figures, &format!("{} / {head}", label.join(" ")));
                        let figure = Figure {
                            value,
                            unit: (*head).to_owned(),
                            interval: None,
                        };
                        figures.insert(name, figure);
                    }
                    _ => label.push(cell),
                }
            }
        }
        Self(figures)
    }

    /// With the benchmark's name before each.
    pub(super) fn named(self, bench: &str) -> Self {
        let named = self.0.into_iter();
        Self(
            named
                .map(|(name, figure)| (format!("{bench}: {name}"), figure))
                .collect(),
        )
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Figure)> {
        self.0.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Figure> {
        self.0.get(name)
    }

    /// As it is kept.
    pub(super) fn to_json(&self) -> Value {
        let figures = self.0.iter().map(|(name, figure)| {
            let mut value = json!({"value": figure.value, "unit": figure.unit});
            if let (Some((low, high)), Some(object)) = (figure.interval, value.as_object_mut()) {
                object.insert("interval".to_owned(), json!([low, high]));
            }
            (name.clone(), value)
        });
        Value::Object(figures.collect::<Map<_, _>>())
    }

    /// What [`Self::to_json`] wrote.
    pub(super) fn from_json(value: &Value) -> Self {
        let figures = value.as_object().into_iter().flatten();
        let figures = figures.filter_map(|(name, figure)| {
            let interval = figure.get("interval");
            let bound = |index: usize| interval?.get(index)?.as_f64();
            let figure = Figure {
                value: figure.get("value")?.as_f64()?,
                unit: figure.get("unit")?.as_str()?.to_owned(),
                interval: bound(0).zip(bound(1)),
            };
            Some((name.clone(), figure))
        });
        Self(figures.collect())
    }
}

/// A name, with a number behind it if there is a figure of that name: rows of several tables may be called the
/// same.
fn free_name(figures: &BTreeMap<String, Figure>, name: &str) -> String {
    let names = (1..).map(|number| match number {
        1 => name.to_owned(),
        _ => format!("{name} ({number})"),
    });
    let mut free = names.filter(|name| !figures.contains_key(name));
    free.next().unwrap_or_default()
}

fn read_criterion(directory: &Path) -> Outcome<(String, Figure)> {
    let file = |name: &str| -> Outcome<Value> {
        let path: PathBuf = directory.join(name);
        serde_json::from_str(&machine::read(&path)?).map_err(|error| Fault::of(path, error))
    };
    let (benchmark, estimates) = (file("benchmark.json")?, file("estimates.json")?);
    criterion_figure(&benchmark, &estimates)
        .ok_or_else(|| Fault::of(directory, "criterion wrote something else than expected"))
}

fn criterion_figure(benchmark: &Value, estimates: &Value) -> Option<(String, Figure)> {
    let name = benchmark.get("full_id")?.as_str()?.to_owned();
    let elements = benchmark.pointer("/throughput/Elements");
    let count = elements.and_then(Value::as_f64).unwrap_or(1.0);
    let of_one = |pointer: &str| Some(estimates.pointer(pointer)?.as_f64()? / count);
    let low = of_one("/median/confidence_interval/lower_bound");
    let high = of_one("/median/confidence_interval/upper_bound");
    let figure = Figure {
        value: of_one("/median/point_estimate")?,
        unit: "ns".to_owned(),
        interval: low.zip(high),
    };
    Some((name, figure))
}

/// The cells of a row; none of a line that is no row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// A cell's first word, when it is a number.
fn number(cell: &str) -> Option<f64> {
    let word = cell.split_whitespace().next()?;
    word.replace(',', "")
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let text = "Measured.\n\n| whole hop | ns a packet | packets/s a core |\n| --- | ---: | ---: |\n\
                    | batch 64 | 1,234.5 | 800000 |\n| one | skipped: no root | |\n\nafter\n";
        let figures = Figures::of_tables(text).named("hop");
        let values: Vec<_> = figures
            .iter()
            .map(|(name, it)| (name.as_str(), it.value))
            .collect();
        let expected = [
            ("hop: batch 64 / ns a packet", 1234.5),
            ("hop: batch 64 / packets/s a core", 800_000.0),
        ];
        assert_eq!(values, expected);
        assert_eq!(Figures::from_json(&figures.to_json()), figures);
    }

    #[test]
    fn rows_of_the_same_name_are_all_kept() {
        let table = "| engine | us |\n| --- | ---: |\n| cepa | 3 |\n";
        let figures = Figures::of_tables(&format!("{table}\n{}", table.replace('3', "4")));
        let value = |name: &str| figures.get(name).unwrap().value.to_string();
        assert_eq!(value("cepa / us"), "3");
        assert_eq!(value("cepa / us (2)"), "4");
    }

    #[test]
    fn estimates_are_of_one_element() {
        let benchmark = json!({"full_id": "packet, peel/batch/64", "throughput": {"Elements": 64}});
        let estimates = json!({"median": {
            "confidence_interval": {"lower_bound": 640.0, "upper_bound": 1280.0},
            "point_estimate": 960.0,
        }});
        let (name, figure) = criterion_figure(&benchmark, &estimates).unwrap();
        assert_eq!(name, "packet, peel/batch/64");
        assert_eq!((figure.value, figure.interval), (15.0, Some((10.0, 20.0))));
    }
}
