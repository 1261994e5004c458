//! The outcome of a run as text for a terminal.

use core::fmt::Write as _;

use crate::report::{Outcome, Report};

/// More than so many cores of its own, and the generator may be what is slow.
const CORES_MAX: f64 = 0.9;
/// Handed over later than so many microseconds, one in a hundred: the latencies are partly the generator's.
const LAG_US_MAX: u64 = 2000;
/// Processes that are shown; all are in the document.
const PROCESS_COUNT_MAX: usize = 16;

/// Tables in Markdown, and below them what is to be known before the figures are believed.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    if write_all(&mut text, report).is_err() {
        // Writing into a String does not fail.
        text.clear();
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn write_all(text: &mut String, report: &Report) -> core::fmt::Result {
    let settings = &report.settings;
    writeln!(
        text,
        "{} {:.0}/s for {:.0} s over {} connections; latency in ms from when a request was due",
        settings.kind, settings.rate, settings.duration_s, settings.connections
    )?;
    writeln!(text)?;
    writeln!(
        text,
        "| request         | answered |  failed |      /s |     p50 |     p90 |     p99 |   p99.9 |     max |"
    )?;
    writeln!(
        text,
        "| --------------- | -------: | ------: | ------: | ------: | ------: | ------: | ------: | ------: |"
    )?;
    for outcome in report.kinds.iter().chain([&report.all]) {
        write_outcome(text, outcome)?;
    }
    write_processes(text, report)?;
    write_warnings(text, report)
}

fn write_outcome(text: &mut String, outcome: &Outcome) -> core::fmt::Result {
    let latency = &outcome.latency_us;
    let [p50, p90, p99, p99_9, max] = [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p99_9,
        latency.max,
    ]
    .map(millis);
    writeln!(
        text,
        "| {:<15} | {:>8} | {:>7} | {:>7.1} | {p50:>7.2} | {p90:>7.2} | {p99:>7.2} | {p99_9:>7.2} | {max:>7.2} |",
        outcome.name, outcome.answered, outcome.failed, outcome.answered_per_s,
    )
}

fn write_processes(text: &mut String, report: &Report) -> core::fmt::Result {
    let Some(all) = report.nodes_cpu else {
        return writeln!(
            text,
            "\nno process of a node was found on this machine: no CPU and memory (--pid names one)"
        );
    };
    writeln!(text)?;
    writeln!(
        text,
        "| process         | CPU us/request |    user |  system |   cores | MiB first |    last |     max |"
    )?;
    writeln!(
        text,
        "| --------------- | -------------: | ------: | ------: | ------: | --------: | ------: | ------: |"
    )?;
    for process in report.processes.iter().take(PROCESS_COUNT_MAX) {
        let cpu = process.cpu;
        let [first, last, max] = [
            process.rss_first_kib,
            process.rss_last_kib,
            process.rss_max_kib,
        ]
        .map(mib);
        writeln!(
            text,
            "| {:<15} | {:>14.1} | {:>7.1} | {:>7.1} | {:>7.2} | {first:>9.1} | {last:>7.1} | {max:>7.1} |",
            process.process.name, cpu.total_us, cpu.user_us, cpu.system_us, process.cores,
        )?;
    }
    let more = report.processes.len().saturating_sub(PROCESS_COUNT_MAX);
    if more > 0 {
        writeln!(text, "| and {more} more")?;
    }
    let cores: f64 = report.processes.iter().map(|process| process.cores).sum();
    let sum =
        |of: fn(&crate::report::ProcessOutcome) -> u64| mib(report.processes.iter().map(of).sum());
    writeln!(
        text,
        "| {:<15} | {:>14.1} | {:>7.1} | {:>7.1} | {cores:>7.2} | {:>9.1} | {:>7.1} | {:>7} |",
        "all nodes",
        all.total_us,
        all.user_us,
        all.system_us,
        sum(|process| process.rss_first_kib),
        sum(|process| process.rss_last_kib),
        "",
    )
}

fn write_warnings(text: &mut String, report: &Report) -> core::fmt::Result {
    let generator = &report.generator;
    writeln!(
        text,
        "\ngenerator: {:.2} cores; handed requests over {:.2} ms late (p99), {:.2} ms at most",
        generator.cores,
        millis(generator.lag_us.p99),
        millis(generator.lag_us.max)
    )?;
    if report.is_partial {
        writeln!(
            text,
            "ENDED EARLY: these are the figures of what was sent until then"
        )?;
    }
    for (fault, counted) in &report.all.faults {
        writeln!(
            text,
            "FAILED: {} x {fault}, the first: {}",
            counted.count, counted.first
        )?;
    }
    if report.not_sent > 0 {
        writeln!(
            text,
            "NOT SENT: {} requests, since {} waited already or it was ended early: the nodes, or so few connections, do not carry \
             this rate, and the latencies are those of a smaller one",
            report.not_sent, report.settings.waiting_count_max
        )?;
    }
    if generator.lag_us.p99 > LAG_US_MAX || generator.cores > CORES_MAX {
        writeln!(
            text,
            "SLOW GENERATOR: part of these latencies is its own; give it cores, or lower the rate"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::FaultCount;

    fn report() -> Report {
        Report {
            format: 1,
            begun_ms: 0,
            settings: crate::report::Settings::default(),
            machine: crate::machine::Machine::default(),
            generator: crate::report::Generator::default(),
            elapsed_s: 1.0,
            is_partial: false,
            not_sent: 0,
            all: Outcome::default(),
            kinds: Vec::new(),
            series: Vec::new(),
            nodes_cpu: None,
            processes: Vec::new(),
        }
    }

    #[test]
    fn what_spoils_the_figures_is_said_loudly() {
        let quiet = table(&report());
        for word in ["NOT SENT", "FAILED", "SLOW", "EARLY"] {
            assert!(!quiet.contains(word), "{quiet}");
        }
        let mut loud = report();
        (loud.not_sent, loud.is_partial) = (7, true);
        loud.generator.lag_us.p99 = 5000;
        let counted = FaultCount {
            count: 3,
            first: "busy".to_owned(),
        };
        loud.all.faults.insert("status 503".to_owned(), counted);
        let loud = table(&loud);
        for word in [
            "NOT SENT: 7",
            "FAILED: 3 x status 503, the first: busy",
            "SLOW",
            "EARLY",
        ] {
            assert!(loud.contains(word), "{loud}");
        }
    }
}
