//! The outcome of a run as one JSON document. The fields of the structs here are the fields there, and their
//! docs say what each means; names end in their unit. [`FORMAT`] changes when a field does.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{FaultCount, KindMeasured, Measured, Point, Quantiles};
use crate::machine::Machine;
use crate::meter::{Process, Usage};

/// The version of the document.
pub const FORMAT: u32 = 1;

/// What was asked for: every setting that may have made a difference.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Settings {
    /// Kind of requests, such as `mixed` or `onion`.
    pub kind: String,
    /// What the requests do where they end, such as `store`.
    pub inside: String,
    /// Nodes on the way, the one that answers with them; 1 when it is asked directly.
    pub hops: u8,
    /// Requests a second.
    pub rate: f64,
    /// `constant` or `exponential`.
    pub gaps: String,
    /// How long was measured.
    pub duration_s: f64,
    /// What was sent before.
    pub warm_up_s: f64,
    /// How many requests may be under way.
    pub connections: usize,
    /// Addresses that connections come from, if they were said.
    pub sources: Option<String>,
    /// Bytes of a message.
    pub body_size: usize,
    /// How long messages are kept.
    pub ttl_s: f64,
    /// Accounts that messages are for.
    pub accounts: usize,
    /// How long answers are waited for.
    pub timeout_s: f64,
    /// How many requests may wait for a free connection.
    pub waiting_count_max: usize,
    /// Who is asked first: `ip:port`.
    pub targets: Vec<String>,
    /// Nodes of the network file; 0 without one.
    pub network_size: usize,
    /// What of a request is made before its latency begins, and what is part of it.
    pub client_work: String,
}

/// What came of requests of one kind, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The kind, or `all`.
    pub name: String,
    /// Requests that were answered well.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Good answers for each second that was measured.
    pub answered_per_s: f64,
    /// Latency from when requests were due, in microseconds: of good answers and of timeouts.
    pub latency_us: Quantiles,
    /// How they failed: `status N`, `timeout`, `connection`, `malformed`, `packet lane`.
    pub faults: BTreeMap<String, FaultCount>,
    /// Pairs of a share of requests and the latency that they had at most, in microseconds.
    pub distribution_us: Vec<(f64, u64)>,
}

/// CPU time of nodes for each request that was answered or failed.
#[expect(
    clippy::struct_field_names,
    reason = "names in the document end in their unit"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuPerRequest {
    /// In their own code, in microseconds.
    pub user_us: f64,
    /// In the kernel for them.
    pub system_us: f64,
    /// Both.
    pub total_us: f64,
}

/// A process at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ProcessPoint {
    /// Since the end of the warm-up.
    pub at_s: f64,
    /// Cores that it kept busy since the point before.
    pub cores: f64,
    /// Its memory, in KiB.
    pub rss_kib: u64,
}

/// A process of a node of this machine.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessOutcome {
    /// Which.
    #[serde(flatten)]
    pub process: Process,
    /// Its CPU time for each request of the whole run, whoever was asked. To within 10 ms in all, the unit of
    /// the kernel's count.
    pub cpu: CpuPerRequest,
    /// Cores that it kept busy on average.
    pub cores: f64,
    /// Memory at the begin, in KiB.
    pub rss_first_kib: u64,
    /// At the end.
    pub rss_last_kib: u64,
    /// The most that was seen.
    pub rss_max_kib: u64,
    /// Threads at the end.
    pub threads: u64,
    /// Over time, once a second.
    pub series: Vec<ProcessPoint>,
}

/// The generator itself: whether the figures are to be believed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Generator {
    /// Its version.
    pub version: String,
    /// Cores that it kept busy on average. What it takes, nodes of the same machine do not have.
    pub cores: f64,
    /// How late it handed requests over, in microseconds: its own fault, and part of the latencies.
    pub lag_us: Quantiles,
}

/// The document.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// When it began, in milliseconds since 1970.
    pub begun_ms: u64,
    /// What was asked for.
    pub settings: Settings,
    /// Where.
    pub machine: Machine,
    /// The generator.
    pub generator: Generator,
    /// From the end of the warm-up to the last answer.
    pub elapsed_s: f64,
    /// It was ended early.
    pub is_partial: bool,
    /// Requests that were not sent since too many waited: then the load was not what was asked for.
    pub not_sent: u64,
    /// All kinds together.
    pub all: Outcome,
    /// Each kind, if there is more than one.
    pub kinds: Vec<Outcome>,
    /// Over time, by when requests were due.
    pub series: Vec<Point>,
    /// CPU time of all processes of nodes together; `None` if none was found.
    pub nodes_cpu: Option<CpuPerRequest>,
    /// Each process of a node.
    pub processes: Vec<ProcessOutcome>,
}

impl Report {
    /// Of what was measured. `names` are those of the kinds, `begun_ms` is the date.
    pub fn new(
        settings: Settings,
        names: &[&str],
        processes: &[Process],
        measured: &Measured,
        begun_ms: u64,
    ) -> Self {
        let span = if measured.is_partial {
            measured.elapsed.as_secs_f64()
        } else {
            settings.duration_s
        };
        let all = Outcome::new("all", &measured.all, span);
        let kinds = names.iter().zip(&measured.kinds);
        let kinds: Vec<_> = kinds
            .map(|(name, kind)| Outcome::new(name, kind, span))
            .collect();
        let sent = measured.all.sent();
        let processes: Vec<_> = processes
            .iter()
            .enumerate()
            .filter_map(|(index, process)| {
                let usages = measured.readings.iter();
                let usages = usages.filter_map(|it| Some((it.at, (*it.usages.get(index)?)?)));
                ProcessOutcome::new(process.clone(), &usages.collect::<Vec<_>>(), sent)
            })
            .collect();
        let own = measured.readings.iter();
        let own: Vec<_> = own.filter_map(|it| Some((it.at, it.own?))).collect();
        Self {
            format: FORMAT,
            begun_ms,
            settings,
            machine: Machine::read(),
            generator: Generator {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                cores: mean_cores(&own),
                lag_us: measured.lag.clone(),
            },
            elapsed_s: measured.elapsed.as_secs_f64(),
            is_partial: measured.is_partial,
            not_sent: measured.not_sent,
            all,
            kinds: if kinds.len() > 1 { kinds } else { Vec::new() },
            series: measured.series.clone(),
            nodes_cpu: sum_cpu(&processes),
            processes,
        }
    }

    /// As text, for a file.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn new(name: &str, measured: &KindMeasured, span: f64) -> Self {
        Self {
            name: name.to_owned(),
            answered: measured.answered,
            failed: measured.failed,
            answered_per_s: measured.answered as f64 / span.max(f64::MIN_POSITIVE),
            latency_us: measured.quantiles(),
            faults: measured.faults.clone(),
            distribution_us: measured.distribution(),
        }
    }
}

/// CPU time is counted in 10 ms: within less than this the cores that were busy can't be told.
const POINT_SPAN_MIN: Duration = Duration::from_millis(500);

/// Times and usages, the oldest first.
type Usages = [(Duration, Usage)];

impl ProcessOutcome {
    fn new(process: Process, usages: &Usages, requests: u64) -> Option<Self> {
        let ((_, first), (_, last)) = (usages.first()?, usages.last()?);
        let used =
            |of: fn(&Usage) -> Duration| per_request(of(last).saturating_sub(of(first)), requests);
        let cpu = CpuPerRequest {
            user_us: used(|usage| usage.user),
            system_us: used(|usage| usage.system),
            total_us: used(|usage| usage.cpu()),
        };
        let points = usages.windows(2).filter_map(|pair| match pair {
            // The last reading may come soon after the one before: what the kernel counts is too coarse then.
            [(from, _), (to, _)] if to.saturating_sub(*from) < POINT_SPAN_MIN => None,
            [before, (at, usage)] => Some(ProcessPoint {
                at_s: at.as_secs_f64(),
                cores: mean_cores(&[*before, (*at, *usage)]),
                rss_kib: usage.rss_kib,
            }),
            _ => None,
        });
        Some(Self {
            process,
            cpu,
            cores: mean_cores(usages),
            rss_first_kib: first.rss_kib,
            rss_last_kib: last.rss_kib,
            rss_max_kib: usages.iter().map(|(_, usage)| usage.rss_kib).max()?,
            threads: last.threads,
            series: points.collect(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_request(span: Duration, requests: u64) -> f64 {
    span.as_secs_f64() * 1e6 / requests.max(1) as f64
}

fn mean_cores(usages: &Usages) -> f64 {
    let (Some((from, first)), Some((to, last))) = (usages.first(), usages.last()) else {
        return 0.0;
    };
    let span = to.saturating_sub(*from).as_secs_f64();
    let used = last.cpu().saturating_sub(first.cpu()).as_secs_f64();
    if span > 0.0 { used / span } else { 0.0 }
}

fn sum_cpu(processes: &[ProcessOutcome]) -> Option<CpuPerRequest> {
    let sum = |of: fn(&CpuPerRequest) -> f64| processes.iter().map(|it| of(&it.cpu)).sum();
    (!processes.is_empty()).then(|| CpuPerRequest {
        user_us: sum(|cpu| cpu.user_us),
        system_us: sum(|cpu| cpu.system_us),
        total_us: sum(|cpu| cpu.total_us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_divided_by_requests_and_cores_by_time() {
        let usage = |millis, rss_kib| Usage {
            user: Duration::from_millis(millis),
            system: Duration::from_millis(millis / 2),
            rss_kib,
            threads: 3,
        };
        let at = Duration::from_secs;
        let usages = [
            (at(0), usage(100, 10)),
            (at(1), usage(300, 30)),
            (at(2), usage(500, 20)),
            (at(2) + Duration::from_millis(9), usage(500, 20)),
        ];
        let process = Process {
            pid: 1,
            name: "port 1".to_owned(),
        };
        let outcome = ProcessOutcome::new(process.clone(), &usages, 1000).unwrap();
        assert!((outcome.cpu.user_us - 400.0).abs() < 1e-6);
        assert!((outcome.cpu.total_us - 600.0).abs() < 1e-6);
        assert!((outcome.cores - 0.3).abs() < 0.01);
        assert_eq!(
            (
                outcome.rss_first_kib,
                outcome.rss_last_kib,
                outcome.rss_max_kib
            ),
            (10, 20, 30)
        );
        assert_eq!(outcome.series.len(), 2);
        assert!(ProcessOutcome::new(process, &[], 1).is_none());
        assert_eq!(sum_cpu(&[]), None);
        let sum = sum_cpu(&[outcome.clone(), outcome]).unwrap();
        assert!((sum.total_us - 1200.0).abs() < 1e-6);
    }
}
