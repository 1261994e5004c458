//! What came of the requests: histograms of each kind and of each second.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Points of a series at most: of 20 minutes one a second, of longer runs fewer.
const POINT_COUNT_MAX: u32 = 1200;
/// The longest latency that is told apart, in microseconds: an hour.
const MICROS_MAX: u64 = 3_600_000_000;
/// Texts of faults that are kept have at most so many characters.
const TEXT_SIZE_MAX: usize = 160;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer has this status, and begins with this text.
    Status(u16, String),
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Connection(String),
    /// The answer is none.
    Malformed(String),
    /// The packet lane failed.
    PacketLane(String),
}

impl Fault {
    /// What it is counted as.
    fn name(&self) -> String {
        match self {
            Self::Status(status, _) => format!("status {status}"),
            Self::Timeout => "timeout".to_owned(),
            Self::Connection(_) => "connection".to_owned(),
            Self::Malformed(_) => "malformed".to_owned(),
            Self::PacketLane(_) => "packet lane".to_owned(),
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::Timeout => "",
            Self::Status(_, text)
            | Self::Connection(text)
            | Self::Malformed(text)
            | Self::PacketLane(text) => text,
        };
        text.escape_debug().take(TEXT_SIZE_MAX).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.text())
    }
}

/// Requests that failed in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultCount {
    /// How many.
    pub count: u64,
    /// What the first of them said.
    pub first: String,
}

/// Values of a histogram, in its unit. All are 0 if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The smallest.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: u64,
    /// 90%.
    pub p90: u64,
    /// 99%.
    pub p99: u64,
    /// 99.9%.
    pub p99_9: u64,
    /// 99.99%.
    pub p99_99: u64,
    /// The largest.
    pub max: u64,
}

impl Quantiles {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max(),
        }
    }
}

/// What was measured of one kind of request.
#[derive(Clone, Debug)]
pub struct KindMeasured {
    /// Latencies from when requests were due, in microseconds: of all that were answered well, and of those
    /// that were given up after the timeout, which are as slow as anything. Quick refusals are not in it:
    /// they would make it look fast.
    pub latencies: Histogram<u64>,
    /// Requests that were answered well.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// How they failed.
    pub faults: BTreeMap<String, FaultCount>,
}

impl KindMeasured {
    fn new(digits: u8) -> Self {
        Self {
            latencies: new_histogram(digits),
            answered: 0,
            failed: 0,
            faults: BTreeMap::new(),
        }
    }

    /// How many were sent and have ended.
    pub const fn sent(&self) -> u64 {
        self.answered + self.failed
    }

    /// The latencies in short.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles::of(&self.latencies)
    }

    /// Shares of requests and the latency that they had at most, in microseconds: ever finer towards 1, as
    /// far as there are requests.
    pub fn distribution(&self) -> Vec<(f64, u64)> {
        let steps = self.latencies.iter_quantiles(5);
        let steps = steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to()));
        let mut steps: Vec<_> = steps.collect();
        // What the last bucket ends with may be more than what was seen.
        let max = self.latencies.max();
        for (_, value) in &mut steps {
            *value = (*value).min(max);
        }
        steps
    }

    fn record(&mut self, latency: Duration, outcome: Result<(), &Fault>) {
        if matches!(outcome, Ok(()) | Err(Fault::Timeout)) {
            note(&mut self.latencies, latency);
        }
        match outcome {
            Ok(()) => self.answered += 1,
            Err(fault) => {
                self.failed += 1;
                let counted = self.faults.entry(fault.name()).or_default();
                if counted.count == 0 {
                    counted.first = fault.text();
                }
                counted.count += 1;
            }
        }
    }
}

/// One interval of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    /// When it begins, since the end of the warm-up.
    pub second: u64,
    /// Requests that were due in it and were answered well, whenever that was.
    pub answered: u64,
    /// That failed.
    pub failed: u64,
    /// That were not sent.
    pub not_sent: u64,
    /// Latency in microseconds that half of them had at most.
    pub p50_us: u64,
    /// 99% of them.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// How a run is cut into intervals of whole seconds.
#[derive(Clone, Copy)]
pub(super) struct Intervals {
    seconds: u64,
    count: usize,
}

impl Intervals {
    pub(super) fn of(duration: Duration) -> Self {
        let all = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        let seconds = all.div_ceil(POINT_COUNT_MAX.into()).max(1);
        let count = usize::try_from(all.div_ceil(seconds)).unwrap_or(0).max(1);
        Self { seconds, count }
    }

    pub(super) const fn count(self) -> usize {
        self.count
    }

    pub(super) fn index(self, since: Duration) -> usize {
        usize::try_from(since.as_secs() / self.seconds).unwrap_or(usize::MAX)
    }
}

/// Takes what came of each request.
pub(super) struct Recorder {
    kinds: Vec<KindMeasured>,
    all: KindMeasured,
    intervals: Intervals,
    /// Two digits: some KiB each.
    series: Vec<(Point, Histogram<u64>)>,
    /// Requests that were due and waited when the run was ended.
    ended: u64,
}

impl Recorder {
    pub(super) fn new(kind_count: usize, duration: Duration) -> Self {
        let intervals = Intervals::of(duration);
        let points = (0..).step_by(usize::try_from(intervals.seconds).unwrap_or(1));
        let point = |second| Point {
            second,
            ..Point::default()
        };
        Self {
            kinds: vec![KindMeasured::new(3); kind_count],
            all: KindMeasured::new(3),
            intervals,
            series: points
                .take(intervals.count)
                .map(|second| (point(second), new_histogram(2)))
                .collect(),
            ended: 0,
        }
    }

    /// A request that was due at `since` has ended.
    pub(super) fn record(
        &mut self,
        since: Duration,
        kind: usize,
        latency: Duration,
        outcome: Result<(), &Fault>,
    ) {
        self.all.record(latency, outcome);
        if let Some(kind) = self.kinds.get_mut(kind) {
            kind.record(latency, outcome);
        }
        let index = self.intervals.index(since);
        if let Some((point, latencies)) = self.series.get_mut(index) {
            if matches!(outcome, Ok(()) | Err(Fault::Timeout)) {
                note(latencies, latency);
            }
            match outcome {
                Ok(()) => point.answered += 1,
                Err(_) => point.failed += 1,
            }
        }
    }

    pub(super) fn add_not_sent(&mut self, counts: &[u64]) {
        for ((point, _), count) in self.series.iter_mut().zip(counts) {
            point.not_sent += *count;
        }
    }

    /// A request that was due at `since` still waited when the run was ended.
    pub(super) fn record_not_sent(&mut self, since: Duration) {
        self.ended += 1;
        let index = self.intervals.index(since);
        if let Some((point, _)) = self.series.get_mut(index) {
            point.not_sent += 1;
        }
    }

    /// How many of those there were.
    pub(super) const fn ended_count(&self) -> u64 {
        self.ended
    }

    pub(super) fn finish(&mut self) -> (Vec<KindMeasured>, KindMeasured, Vec<Point>) {
        let series = self.series.drain(..).map(|(mut point, latencies)| {
            if !latencies.is_empty() {
                point.p50_us = latencies.value_at_quantile(0.5);
                point.p99_us = latencies.value_at_quantile(0.99);
                point.max_us = latencies.max();
            }
            point
        });
        (
            core::mem::take(&mut self.kinds),
            core::mem::replace(&mut self.all, KindMeasured::new(1)),
            series.collect(),
        )
    }
}

/// Records a time in microseconds; what is beyond all bounds as the largest.
pub(super) fn note(histogram: &mut Histogram<u64>, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let recorded = histogram.record(micros.min(MICROS_MAX));
    debug_assert!(recorded.is_ok(), "it grows as it has to");
}

/// Of microseconds up to an hour; it grows as it has to.
#[expect(clippy::expect_used, reason = "the bounds and digits are good ones")]
pub(super) fn new_histogram(digits: u8) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 2000, digits).expect("bounds are good");
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_refusals_are_counted_and_do_not_look_fast() {
        let mut recorder = Recorder::new(2, Duration::from_secs(3));
        let ms = Duration::from_millis;
        recorder.record(ms(0), 0, ms(100), Ok(()));
        recorder.record(
            ms(1500),
            1,
            ms(1),
            Err(&Fault::Status(503, "busy\n".into())),
        );
        recorder.record(ms(1600), 1, ms(1), Err(&Fault::Status(503, "other".into())));
        recorder.record(ms(2999), 0, ms(9000), Err(&Fault::Timeout));
        recorder.add_not_sent(&[0, 0, 5]);
        let (kinds, all, series) = recorder.finish();
        assert_eq!((all.answered, all.failed, all.sent()), (1, 3, 4));
        assert_eq!(all.latencies.len(), 2);
        assert!(all.latencies.min() > 99_000 && all.latencies.max() > 8_990_000);
        let busy = &kinds[1].faults["status 503"];
        assert_eq!((busy.count, busy.first.as_str()), (2, "busy\\n"));
        assert_eq!(kinds[0].faults["timeout"].count, 1);
        let told: Vec<_> = series
            .iter()
            .map(|point| (point.second, point.answered, point.failed, point.not_sent))
            .collect();
        assert_eq!(told, [(0, 1, 0, 0), (1, 0, 2, 0), (2, 0, 1, 5)]);
        assert_eq!(series[1].p99_us, 0);
    }

    #[test]
    fn long_runs_have_a_bounded_series() {
        for (seconds, count) in [(1, 1), (1200, 1200), (1201, 601), (86_400, 1200)] {
            let intervals = Intervals::of(Duration::from_secs(seconds));
            assert_eq!(intervals.count(), count, "{seconds}");
            let last = Duration::from_secs(seconds - 1);
            assert_eq!(intervals.index(last), count - 1, "{seconds}");
        }
        assert_eq!(Intervals::of(Duration::from_millis(2500)).count(), 3);
    }

    #[test]
    fn latencies_beyond_any_bound_are_recorded_as_the_longest() {
        let mut histogram = new_histogram(3);
        note(&mut histogram, Duration::MAX);
        note(&mut histogram, Duration::from_micros(3));
        assert!(histogram.max() >= MICROS_MAX);
        assert_eq!((histogram.len(), histogram.min()), (2, 3));
    }
}
