//! What is shown of a node: pages of panels of rows of numbers, whoever draws them.

mod alarms;
mod log;
mod network;
mod overview;
mod packets;
mod requests;

use super::names::{BUILD, CLOCK, HEIGHT, PROCESS_CPU, START, VIEW_AGE};
use super::names::{ONION_SECONDS, PACKET_PEELED, REQUEST_SECONDS, STORE_COMMITS};
use super::rates::{Histogram, Interval, Trail, Trails};
use super::units::Unit;

/// How much a row asks for attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    #[default]
    Plain,
    /// An operator should look when there is time.
    Warn,
    /// Something is broken, or the node is about to be voted out.
    Bad,
}

impl Tone {
    /// What stands before such a row, also where there are no colours.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Warn => "!",
            Self::Bad => "!!",
        }
    }
}

/// One thing of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// `None` is what the node does not tell.
    Number(Option<f64>, Unit),
    /// A share of a whole.
    Bar(Option<f64>),
    /// The last values, as wide as there is room.
    Trail(Trail),
}

/// A line of a panel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
    pub(super) tone: Tone,
}

impl Row {
    fn new(name: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self {
            name: name.into(),
            cells,
            tone: Tone::Plain,
        }
    }

    /// Whether it needs the width of the screen.
    pub(super) fn has_trail(&self) -> bool {
        self.cells.iter().any(|cell| matches!(cell, Cell::Trail(_)))
    }

    /// A name and a number.
    fn number(name: impl Into<String>, value: Option<f64>, unit: Unit) -> Self {
        Self::new(name, vec![Cell::Number(value, unit)])
    }

    /// A name and a rate.
    fn rate(name: impl Into<String>, value: Option<f64>) -> Self {
        Self::number(name, value, Unit::PerSecond)
    }

    /// The same, of this tone if it is so.
    fn toned(mut self, tone: Tone, is_so: bool) -> Self {
        if is_so {
            self.tone = self.tone.max(tone);
        }
        self
    }

    /// The same, of this tone if its first number is not nought.
    fn toned_if_any(self, tone: Tone) -> Self {
        let is_any =
            matches!(self.cells.first(), Some(Cell::Number(Some(value), _)) if *value > 0.0);
        self.toned(tone, is_any)
    }
}

/// Rows under a title.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What stands above the cells of rows.
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Row>,
}

/// What is seen at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) title: &'static str,
    /// As wide as the screen.
    pub(super) wide: Option<Panel>,
    /// In columns.
    pub(super) panels: Vec<Panel>,
}

/// What is above every page.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Header {
    pub(super) version: Option<String>,
    /// Seconds.
    pub(super) up_time: Option<f64>,
    /// Of the chain, as the view has it.
    pub(super) height: Option<f64>,
    /// Seconds.
    pub(super) view_age: Option<f64>,
    /// What is wrong, the worst first.
    pub(super) alarms: Vec<Alarm>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alarm {
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// How many pages there are.
pub(super) const PAGE_COUNT: usize = 5;

/// All that is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) header: Header,
    pub(super) pages: [Page; PAGE_COUNT],
}

impl View {
    /// What an interval tells; it goes on with the trails.
    pub(super) fn make(interval: &Interval<'_>, trails: &mut Trails) -> Self {
        follow(interval, trails);
        Self {
            header: header(interval),
            pages: [
                overview::page(interval, trails),
                requests::page(interval),
                packets::page(interval),
                log::page(interval),
                network::page(interval),
            ],
        }
    }
}

/// Something that has a trail.
struct Trailed {
    /// Its name on the screen.
    name: &'static str,
    find: fn(&Interval<'_>) -> Option<f64>,
    unit: Unit,
}

const TRAILS: [Trailed; 5] = [
    Trailed {
        name: "requests",
        find: |interval| per_second(interval, REQUEST_SECONDS),
        unit: Unit::PerSecond,
    },
    Trailed {
        name: "onions",
        find: |interval| per_second(interval, ONION_SECONDS),
        unit: Unit::PerSecond,
    },
    Trailed {
        name: "packets",
        find: |interval| interval.rate(PACKET_PEELED),
        unit: Unit::PerSecond,
    },
    Trailed {
        name: "commits",
        find: |interval| interval.rate(STORE_COMMITS),
        unit: Unit::PerSecond,
    },
    Trailed {
        name: "cpu",
        find: |interval| interval.rate(PROCESS_CPU),
        unit: Unit::Percent,
    },
];

fn follow(interval: &Interval<'_>, trails: &mut Trails) {
    for Trailed { name, find, .. } in TRAILS {
        trails.push(name, find(interval));
    }
}

fn header(interval: &Interval<'_>) -> Header {
    let now = interval.now();
    // Both are of the node's clock.
    let up_time = now.sum(CLOCK).zip(now.sum(START));
    Header {
        version: now.text(BUILD, "version"),
        up_time: up_time.map(|(clock, start)| (clock - start).max(0.0)),
        height: now.sum(HEIGHT),
        view_age: now.sum(VIEW_AGE),
        alarms: alarms::find(interval),
    }
}

/// How many a second a histogram counted.
fn per_second(interval: &Interval<'_>, histogram: &str) -> Option<f64> {
    let histogram = interval.histogram(histogram, None)?;
    Some(histogram.per_second)
}

/// What stands above the cells of [`latency_cells`].
const LATENCY_COLUMNS: &[&str] = &["per s", "p50", "p99"];

/// Rate, half of all, nearly all.
fn latency_cells(histogram: Option<&Histogram>) -> Vec<Cell> {
    let quantile = |quantile| histogram.and_then(|histogram| histogram.quantile(quantile));
    vec![
        Cell::Number(
            histogram.map(|histogram| histogram.per_second),
            Unit::PerSecond,
        ),
        Cell::Number(quantile(0.5), Unit::Latency),
        Cell::Number(quantile(0.99), Unit::Latency),
    ]
}

/// A row of a histogram by a label, for each value that is told.
fn latency_rows(interval: &Interval<'_>, name: &str, label: &str) -> Vec<Row> {
    let values = interval.values(name, label).into_iter();
    let rows = values.map(|value| {
        let histogram = interval.histogram(name, Some((label, &value)));
        let cells = latency_cells(histogram.as_ref());
        Row::new(value, cells)
    });
    rows.collect()
}

/// A row of a histogram.
fn latency_row(interval: &Interval<'_>, row: &str, name: &str) -> Row {
    let histogram = interval.histogram(name, None);
    Row::new(row, latency_cells(histogram.as_ref()))
}

/// How large batches were: the mean, and a bar for each size that there was.
fn batch_panel(interval: &Interval<'_>, title: &'static str, name: &str) -> Panel {
    let histogram = interval.histogram(name, None);
    let rate = histogram.as_ref().map(|histogram| histogram.per_second);
    let mean = histogram.as_ref().and_then(|histogram| histogram.mean);
    let mut rows = vec![
        Row::rate("per second", rate),
        Row::number("mean", mean, Unit::Mean),
    ];
    let mut below = 0.0;
    for (limit, share) in histogram.iter().flat_map(Histogram::shares) {
        if share > 0.0 {
            let cells = vec![
                Cell::Number(Some(share), Unit::Percent),
                Cell::Bar(Some(share)),
            ];
            rows.push(Row::new(size_range(below, limit), cells));
        }
        below = limit;
    }
    Panel {
        title,
        columns: &[],
        rows,
    }
}

/// The whole numbers above one limit and not above the next.
fn size_range(below: f64, limit: f64) -> String {
    let first = below + 1.0;
    if limit.is_infinite() {
        format!("{first:.0} and more")
    } else if first < limit {
        format!("{first:.0} to {limit:.0}")
    } else {
        format!("{limit:.0}")
    }
}

/// The share of a whole that is used.
fn ratio(used: Option<f64>, whole: Option<f64>) -> Option<f64> {
    let (used, whole) = used.zip(whole)?;
    (whole > 0.0).then_some(used / whole)
}

#[cfg(test)]
pub(super) mod tests;
