//! Results, and the tables made from them.

use core::fmt::Write as _;
use core::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::meter::Reading;

/// A phase of an engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) ops_per_second: f64,
    pub(crate) cpu_us_per_op: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Bytes written a byte of payload that was stored; `None` when nothing was.
    pub(crate) written_per_byte: Option<f64>,
}

/// An engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EngineReport {
    pub(crate) engine: String,
    pub(crate) durability: String,
    pub(crate) phases: Vec<Phase>,
    pub(crate) disk_bytes_per_message: f64,
    pub(crate) memory_bytes_per_message: f64,
    pub(crate) restart_ms: f64,
    /// What only some engines can say.
    pub(crate) notes: Vec<String>,
}

/// Latencies in nanoseconds, up to a minute, three digits.
#[expect(clippy::expect_used, reason = "constant bounds that are right")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order")
}

pub(crate) fn record(histogram: &mut Histogram<u64>, span: Duration) {
    histogram.saturating_record(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
}

impl Phase {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    pub(crate) fn new(
        name: &str,
        op_count: u64,
        payload_bytes: u64,
        reading: Reading,
        latencies: &Histogram<u64>,
    ) -> Self {
        let quantile = |q| latencies.value_at_quantile(q) as f64 / 1000.0;
        let op_count = op_count.max(1) as f64;
        Self {
            name: name.to_owned(),
            ops_per_second: op_count / reading.wall.as_secs_f64(),
            cpu_us_per_op: reading.cpu.as_secs_f64() * 1e6 / op_count,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            written_per_byte: (payload_bytes > 0)
                .then(|| reading.written as f64 / payload_bytes as f64),
        }
    }
}

/// The tables, in Markdown.
pub(crate) fn tables(reports: &[EngineReport]) -> String {
    let mut out = String::from(
        "| engine | answered | phase | ops/s | CPU us/op | p50 us | p99 us | p99.9 us | written/stored |\n\
         | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for report in reports {
        for phase in &report.phases {
            let written = phase
                .written_per_byte
                .map_or_else(|| "-".to_owned(), |written| format!("{written:.2}"));
            let _infallible = writeln!(
                out,
                "| {} | {} | {} | {:.0} | {:.1} | {:.0} | {:.0} | {:.0} | {written} |",
                report.engine,
                report.durability,
                phase.name,
                phase.ops_per_second,
                phase.cpu_us_per_op,
                phase.p50_us,
                phase.p99_us,
                phase.p999_us,
            );
        }
    }
    out.push_str(
        "\n| engine | disk B/message | memory B/message | restart ms |\n\
         | --- | ---: | ---: | ---: |\n",
    );
    for report in reports {
        let _infallible = writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.0} |",
            report.engine,
            report.disk_bytes_per_message,
            report.memory_bytes_per_message,
            report.restart_ms,
        );
    }
    out.push('\n');
    for report in reports {
        for note in &report.notes {
            let _infallible = writeln!(out, "- {}: {note}", report.engine);
        }
    }
    out.push_str(&goals(reports));
    out
}

fn goals(reports: &[EngineReport]) -> String {
    let phase = |engine: &str, name: &str| {
        let report = reports.iter().find(|report| report.engine == engine)?;
        report.phases.iter().find(|phase| phase.name == name)
    };
    let mut out = String::new();
    if let (Some(ours), Some(theirs)) = (phase("cepa", "store"), phase("sqlite-full", "store")) {
        let _infallible = writeln!(
            out,
            "- durable stores/s, cepa to SQLite with a commit per store: {:.1} times (goal 40)",
            ours.ops_per_second / theirs.ops_per_second
        );
    }
    if let (Some(ours), Some(theirs)) = (
        phase("cepa-relaxed", "store"),
        phase("sqlite-normal", "store"),
    ) {
        let _infallible = writeln!(
            out,
            "- CPU of a store, SQLite to cepa, both at relaxed durability: {:.1} times (goal 5)",
            theirs.cpu_us_per_op / ours.cpu_us_per_op
        );
    }
    if let Some(half) = phase("cepa", "mixed at half rate") {
        let _infallible = writeln!(
            out,
            "- mixed at half the maximum rate, cepa: p99 {:.2} ms (goal 5)",
            half.p99_us / 1000.0
        );
    }
    out
}
