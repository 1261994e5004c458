//! The outcome of a run as one picture (SVG): latency by quantile; latency, rate, CPU and memory over time.

mod axis;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use self::axis::Axis;
use crate::report::{Outcome, ProcessOutcome, Report};

/// The picture can't be drawn.
#[derive(Debug, Error)]
#[error("cannot draw the plot: {0}")]
pub struct PlotError(String);

const SIZE: (u32, u32) = (1280, 1240);
const HEAD_HEIGHT: i32 = 74;
const FIRST_ROW_HEIGHT: i32 = 400;
/// Lines that are named in a legend; more are drawn without.
const NAMED_COUNT_MAX: usize = 8;
/// An average character of the legend's font, in pixels.
const CHARACTER_WIDTH: i32 = 7;
const FONT: &str = "DejaVu Sans, Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(0x26, 0x2b, 0x33);
const FAINT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
/// Colours that are told apart by most eyes, after Okabe and Ito.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x80, 0x56, 0x2f),
    RGBColor(0x55, 0x55, 0x55),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a chart.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A chart of some lines.
struct Chart {
    title: &'static str,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
}

/// Draws a report.
pub fn svg(report: &Report) -> Result<String, PlotError> {
    let mut text = String::new();
    draw(report, &mut text).map_err(PlotError)?;
    Ok(text)
}

#[expect(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn told(fault: impl ToString) -> String {
    fault.to_string()
}

fn draw(report: &Report, text: &mut String) -> Result<(), String> {
    let whole = SVGBackend::with_string(text, SIZE).into_drawing_area();
    whole.fill(&WHITE).map_err(told)?;
    let (head, rest) = whole.split_vertically(HEAD_HEIGHT);
    draw_head(&head, report)?;
    let (first, rest) = rest.split_vertically(FIRST_ROW_HEIGHT);
    by_quantile(report).draw(&first)?;
    let panels = rest.split_evenly((2, 2));
    let charts = [
        latency_over_time(report),
        rate_over_time(report),
        cpu_over_time(report),
        memory_over_time(report),
    ];
    for (panel, chart) in panels.iter().zip(&charts) {
        chart.draw(panel)?;
    }
    whole.present().map_err(told)
}

fn draw_head(head: &Area<'_>, report: &Report) -> Result<(), String> {
    let (settings, all) = (&report.settings, &report.all);
    let kind = if settings.inside == settings.kind || settings.inside.is_empty() {
        settings.kind.clone()
    } else {
        format!(
            "{} ({}, {} hops)",
            settings.kind, settings.inside, settings.hops
        )
    };
    let title = format!(
        "{kind}: {:.0} requests/s for {:.0} s, {} connections",
        settings.rate, settings.duration_s, settings.connections
    );
    let cpu = report.nodes_cpu;
    let cpu = cpu.map_or_else(String::new, |cpu| {
        format!(", {:.0} us CPU of all nodes per request", cpu.total_us)
    });
    let outcome = format!(
        "{} answered, {} failed, {} not sent{cpu}. {}, {} cores, {}",
        all.answered,
        all.failed,
        report.not_sent,
        report.machine.cpu,
        report.machine.cores,
        report.machine.kernel
    );
    let big = (FONT, 22).into_font().color(&INK);
    let small = (FONT, 13).into_font().color(&FAINT);
    head.draw(&Text::new(title, (24, 16), big)).map_err(told)?;
    head.draw(&Text::new(outcome, (24, 48), small))
        .map_err(told)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Where a share of requests stands: one step further right for each nine.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn by_quantile(report: &Report) -> Chart {
    let outcomes: Vec<&Outcome> = match report.kinds.as_slice() {
        [] => vec![&report.all],
        kinds => kinds.iter().collect(),
    };
    let lines: Vec<Line> = outcomes
        .into_iter()
        .map(|outcome| {
            let points = outcome.distribution_us.iter();
            let points = points.filter(|(share, _)| *share < 1.0);
            let mut points: Vec<_> = points
                .map(|(share, micros)| (nines(*share), millis(*micros)))
                .collect();
            // The largest stands at the end: there is no 100th percentile on this axis.
            if let Some((at, _)) = points.last().copied() {
                points.push((at, millis(outcome.latency_us.max)));
            }
            Line {
                name: outcome.name.clone(),
                points,
            }
        })
        .collect();
    Chart {
        title: "Latency by share of requests, in ms from when they were due",
        x: Axis::nines(widest(&lines, |(x, _)| x)),
        y: Axis::logarithmic(&values(&lines)),
        lines,
    }
}

fn latency_over_time(report: &Report) -> Chart {
    let line = |name: &str, of: fn(&crate::engine::Point) -> u64| Line {
        name: name.to_owned(),
        points: over_time(report, |point| millis(of(point)), |point| of(point) > 0),
    };
    let lines = vec![
        line("p50", |point| point.p50_us),
        line("p99", |point| point.p99_us),
        line("max", |point| point.max_us),
    ];
    Chart {
        title: "Latency in ms, by when requests were due",
        x: time_axis(report),
        y: Axis::logarithmic(&values(&lines)),
        lines,
    }
}

/// Requests of each point, for each second.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn rate_over_time(report: &Report) -> Chart {
    let width = match report.series.as_slice() {
        [first, second, ..] => second.second - first.second,
        _ => 1,
    };
    // The last one may be cut short.
    let end = report.settings.duration_s;
    let line = |name: &str, of: fn(&crate::engine::Point) -> u64| {
        let rate = |point: &crate::engine::Point| {
            let span = (end - point.second as f64).min(width as f64);
            of(point) as f64 / span.max(f64::MIN_POSITIVE)
        };
        Line {
            name: name.to_owned(),
            points: over_time(report, rate, |_| true),
        }
    };
    let lines = vec![
        line("answered", |point| point.answered),
        line("failed", |point| point.failed),
        line("not sent", |point| point.not_sent),
    ];
    Chart {
        title: "Requests a second, by when they were due",
        x: time_axis(report),
        y: Axis::linear(widest(&lines, |(_, y)| y)),
        lines,
    }
}

fn cpu_over_time(report: &Report) -> Chart {
    let lines = by_process(report, |process| {
        let points = process.series.iter();
        points.map(|point| (point.at_s, point.cores)).collect()
    });
    Chart {
        title: "Cores busy, of each process",
        x: time_axis(report),
        y: Axis::linear(widest(&lines, |(_, y)| y)),
        lines,
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn memory_over_time(report: &Report) -> Chart {
    let lines = by_process(report, |process| {
        let points = process.series.iter();
        let mib = |kib: u64| kib as f64 / 1024.0;
        points
            .map(|point| (point.at_s, mib(point.rss_kib)))
            .collect()
    });
    Chart {
        title: "Memory in MiB, of each process",
        x: time_axis(report),
        y: Axis::around(&values(&lines)),
        lines,
    }
}

fn by_process(report: &Report, points: impl Fn(&ProcessOutcome) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |process: &ProcessOutcome| Line {
        name: process.process.name.replace("port ", ":"),
        points: points(process),
    };
    report.processes.iter().map(line).collect()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn over_time(
    report: &Report,
    value: impl Fn(&crate::engine::Point) -> f64,
    is_there: impl Fn(&crate::engine::Point) -> bool,
) -> Vec<(f64, f64)> {
    let points = report.series.iter().filter(|point| is_there(point));
    points
        .map(|point| (point.second as f64, value(point)))
        .collect()
}

fn time_axis(report: &Report) -> Axis {
    Axis::time(report.settings.duration_s)
}

fn values(lines: &[Line]) -> Vec<f64> {
    let points = lines.iter().flat_map(|line| &line.points);
    points.map(|(_, y)| *y).collect()
}

fn widest(lines: &[Line], of: impl Fn((f64, f64)) -> f64) -> f64 {
    let points = lines.iter().flat_map(|line| &line.points);
    points.map(|point| of(*point)).fold(0.0, f64::max)
}

impl Chart {
    fn draw(&self, area: &Area<'_>) -> Result<(), String> {
        self.draw_title(area)?;
        let body = area.margin(44, 12, 14, 22);
        let mut chart = ChartBuilder::on(&body)
            .x_label_area_size(26)
            .y_label_area_size(58)
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(told)?;
        let label = (FONT, 12).into_font().color(&FAINT);
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(FAINT)
            .label_style(label)
            .draw()
            .map_err(told)?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = ShapeStyle::from(colour).stroke_width(2);
            let points = line.points.iter();
            let points = points.map(|(x, y)| (*x, self.y.place(*y)));
            match line.points.as_slice() {
                // A line of one point would not be seen.
                [_] => chart
                    .draw_series(points.map(|at| Circle::new(at, 3, style.filled())))
                    .map_err(told)?,
                _ => chart
                    .draw_series(LineSeries::new(points, style))
                    .map_err(told)?,
            };
        }
        Ok(())
    }

    /// The title on the left, the names of lines in their colours on the right.
    fn draw_title(&self, area: &Area<'_>) -> Result<(), String> {
        let title = (FONT, 15).into_font().color(&INK);
        area.draw(&Text::new(self.title, (24, 16), title))
            .map_err(told)?;
        let (width, _) = area.dim_in_pixel();
        let mut right = i32::try_from(width).unwrap_or(0) - 24;
        let named = if self.lines.len() > NAMED_COUNT_MAX {
            &[]
        } else {
            self.lines.as_slice()
        };
        // The title and as many names as fit beside it.
        let left = 24 + (i32::try_from(self.title.len()).unwrap_or(0) + 2) * 8;
        for (line, colour) in named.iter().zip(&COLOURS).rev() {
            let size = i32::try_from(line.name.len()).unwrap_or(0) * CHARACTER_WIDTH;
            if right - size < left {
                break;
            }
            let style = (FONT, 13).into_font().color(colour);
            let style = style.pos(Pos::new(HPos::Right, VPos::Top));
            area.draw(&Text::new(line.name.clone(), (right, 18), style))
                .map_err(told)?;
            right -= size + 16;
        }
        Ok(())
    }
}
