//! An open loop over keep-alive HTTPS, and what it cost the processes.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::nodes::Connection;

/// Requests before it is measured: connections stand, keys are known.
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) struct Load {
    pub(crate) rate: u32,
    pub(crate) span: Duration,
    pub(crate) connection_count: usize,
    pub(crate) pids: Vec<u32>,
    /// Where requests go.
    pub(crate) port: u16,
}

/// What was measured.
pub(crate) struct Measured {
    latencies: Histogram<u64>,
    count: u64,
    /// CPU time of each process.
    cpu: Vec<Duration>,
}

impl Measured {
    /// Of a process, for each request.
    pub(crate) fn cpu_micros(&self, node: usize) -> f64 {
        self.cpu[node].as_secs_f64() * 1e6 / self.count as f64
    }

    pub(crate) fn latency_millis(&self, quantile: f64) -> f64 {
        self.latencies.value_at_percentile(quantile) as f64 / 1000.0
    }
}

impl Load {
    /// Sends what `make` makes of each number.
    pub(crate) fn run(&self, path: &str, make: impl Fn(u64) -> Vec<u8> + Sync) -> Measured {
        self.run_for(WARM_UP, path, &make);
        let before: Vec<Duration> = self.pids.iter().map(|pid| cpu_time(*pid)).collect();
        let (latencies, count) = self.run_for(self.span, path, &make);
        let after = self.pids.iter().map(|pid| cpu_time(*pid));
        let cpu = after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        Measured {
            latencies,
            count,
            cpu: cpu.collect(),
        }
    }

    fn run_for(
        &self,
        span: Duration,
        path: &str,
        make: &(impl Fn(u64) -> Vec<u8> + Sync),
    ) -> (Histogram<u64>, u64) {
        let count = u64::from(self.rate) * span.as_secs();
        let pause = Duration::from_secs(1) / self.rate;
        let next = AtomicU64::new(0);
        let all = Mutex::new(Histogram::new(3).expect("three digits"));
        let mut connections: Vec<Connection> = (0..self.connection_count)
            .map(|_| Connection::open(self.port))
            .collect();
        let begun = Instant::now();
        thread::scope(|scope| {
            for connection in &mut connections {
                let (next, all) = (&next, &all);
                scope.spawn(move || {
                    let mut latencies = Histogram::<u64>::new(3).expect("three digits");
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        let body = make(number | u64::from(span != WARM_UP) << 40);
                        let nth = u32::try_from(number).expect("not so many");
                        let due = begun + pause * nth;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        connection.post(path, &body);
                        let micros = due.elapsed().as_micros();
                        latencies += u64::try_from(micros).unwrap_or(u64::MAX);
                    }
                    *all.lock().expect("nobody panics") += latencies;
                });
            }
        });
        (all.into_inner().expect("nobody panics"), count)
    }
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name stands in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().expect("a number"))
        .sum();
    // A tick is 10 ms on every Linux that Rust knows.
    Duration::from_millis(ticks * 10)
}
