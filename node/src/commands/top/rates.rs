//! What happened between two scrapes: rates, and quantiles of what was measured meanwhile, as
//! Prometheus computes them.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::reading::{Reading, Series};

/// Most values of a trail: as many as a wide screen has columns.
const TRAIL_COUNT_MAX: usize = 240;

/// Two scrapes and the time between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval<'a> {
    before: &'a Reading,
    now: &'a Reading,
    seconds: f64,
}

/// A label that numbers must have, with its value.
pub(super) type Label<'a> = (&'a str, &'a str);

impl<'a> Interval<'a> {
    /// `None` when no time passed.
    pub(super) fn new(before: &'a Reading, now: &'a Reading, between: Duration) -> Option<Self> {
        (!between.is_zero()).then_some(Self {
            before,
            now,
            seconds: between.as_secs_f64(),
        })
    }

    /// The later scrape.
    pub(super) const fn now(&self) -> &'a Reading {
        self.now
    }

    /// How much a count grew. One that is less than before began anew, at nought: the process did.
    fn increase(&self, name: &str, series: &Series) -> f64 {
        let before = self.before.same(name, series).unwrap_or(0.0);
        if series.value < before {
            series.value
        } else {
            series.value - before
        }
    }

    /// How often a second, all numbers of the name together.
    pub(super) fn rate(&self, name: &str) -> Option<f64> {
        let family = self.now.family(name);
        let increases = family.iter().map(|series| self.increase(name, series));
        (!family.is_empty()).then(|| increases.sum::<f64>() / self.seconds)
    }

    /// The sum of the rates of several names: of those that there are.
    pub(super) fn rate_of_all(&self, names: &[&str]) -> Option<f64> {
        let rates = names.iter().filter_map(|name| self.rate(name));
        rates.reduce(|sum, rate| sum + rate)
    }

    /// How often a second by the value of a label, in the order in which they are told.
    pub(super) fn rates(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let family = self.now.family(name).iter();
        let rate = |series: &Series| self.increase(name, series) / self.seconds;
        family
            .map(|series| (series.label(label).to_owned(), rate(series)))
            .collect()
    }

    /// The values that a label has in a histogram.
    pub(super) fn values(&self, histogram: &str, label: &str) -> Vec<String> {
        let family = self.now.family(&format!("{histogram}_count"));
        let values = family.iter().map(|series| series.label(label).to_owned());
        values.collect()
    }

    /// What a histogram counted meanwhile: of those numbers that have a label, or of all.
    pub(super) fn histogram(&self, name: &str, only: Option<Label<'_>>) -> Option<Histogram> {
        let is_meant =
            |series: &&Series| only.is_none_or(|(label, value)| series.label(label) == value);
        let total = |suffix: &str| {
            let name = format!("{name}{suffix}");
            let family = self.now.family(&name).iter().filter(is_meant);
            let increases = family.map(|series| self.increase(&name, series));
            increases.reduce(|sum, increase| sum + increase)
        };
        let count = total("_count")?;
        let buckets_name = format!("{name}_bucket");
        let mut buckets: Vec<Bucket> = Vec::new();
        for series in self.now.family(&buckets_name).iter().filter(is_meant) {
            let increase = self.increase(&buckets_name, series);
            let limit = match series.label("le") {
                "+Inf" => f64::INFINITY,
                limit => limit.parse().ok()?,
            };
            match buckets
                .iter_mut()
                .find(|bucket| bucket.limit.total_cmp(&limit).is_eq())
            {
                Some(bucket) => bucket.count += increase,
                None => buckets.push(Bucket {
                    limit,
                    count: increase,
                }),
            }
        }
        buckets.sort_by(|one, other| one.limit.total_cmp(&other.limit));
        Some(Histogram {
            per_second: count / self.seconds,
            mean: total("_sum").filter(|_| count > 0.0).map(|sum| sum / count),
            buckets,
        })
    }
}

/// How many were not above a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    limit: f64,
    count: f64,
}

/// What a histogram counted between two scrapes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    /// How many a second.
    pub(super) per_second: f64,
    /// Their mean, if there were any.
    pub(super) mean: Option<f64>,
    /// By their limits, ascending; each counts those before it too.
    buckets: Vec<Bucket>,
}

impl Histogram {
    /// The value that a share `quantile` of all was not above: within a bucket they are taken to lie
    /// evenly, and beyond the last limit nothing is known but that limit. `None` if there were none.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.buckets.last()?.count;
        let rank = quantile * total;
        let is_reached = |bucket: &Bucket| bucket.count >= rank;
        let index = self.buckets.iter().position(is_reached)?;
        let bucket = self.buckets.get(index).filter(|_| total > 0.0)?;
        let below = index
            .checked_sub(1)
            .and_then(|index| self.buckets.get(index));
        if bucket.limit.is_infinite() {
            return below.map(|below| below.limit);
        }
        let (start, count_below) = below.map_or((0.0, 0.0), |below| (below.limit, below.count));
        let within = bucket.count - count_below;
        if within <= 0.0 || bucket.limit <= 0.0 {
            return Some(bucket.limit);
        }
        Some(start + (bucket.limit - start) * (rank - count_below) / within)
    }

    /// Each limit with the share of those that were above the one before, and not above it.
    pub(super) fn shares(&self) -> Vec<(f64, f64)> {
        let total = self.buckets.last().map_or(0.0, |bucket| bucket.count);
        let mut below = 0.0;
        let shares = self.buckets.iter().map(|bucket| {
            let within = (bucket.count - below).max(0.0);
            below = bucket.count;
            let share = if total > 0.0 { within / total } else { 0.0 };
            (bucket.limit, share)
        });
        shares.collect()
    }
}

/// The last values of something, the latest at the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trail(VecDeque<f64>);

impl Trail {
    pub(super) fn push(&mut self, value: f64) {
        if self.0.len() == TRAIL_COUNT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The last `count`, the latest at the end.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = f64> {
        let skipped = self.0.len().saturating_sub(count);
        self.0.iter().skip(skipped).copied()
    }
}

/// Trails by name. The names are few: those that the screen has.
#[derive(Clone, Debug, Default)]
pub(super) struct Trails(BTreeMap<&'static str, Trail>);

impl Trails {
    /// Goes on with a trail. What is not known leaves it as it is.
    pub(super) fn push(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.0.entry(name).or_default().push(value);
        }
    }

    /// A trail as it is now.
    pub(super) fn of(&self, name: &str) -> Trail {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Reading {
        Reading::parse(text).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn assert_near(value: Option<f64>, expected: f64) {
        let value = value.unwrap();
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn counts_become_rates() {
        let before = reading("a 10\nb{x=\"1\"} 5\nb{x=\"2\"} 100\n");
        let now = reading("a 30\nb{x=\"1\"} 9\nb{x=\"2\"} 40\nb{x=\"3\"} 6\n");
        let interval = Interval::new(&before, &now, seconds(2)).unwrap();
        assert_near(interval.rate("a"), 10.0);
        // The second began anew, the third was not there.
        let expected = [("1", 2.0), ("2", 20.0), ("3", 3.0)];
        let expected = expected.map(|(value, rate)| (value.to_owned(), rate));
        assert_eq!(interval.rates("b", "x"), expected);
        assert_near(interval.rate("b"), 25.0);
        assert_near(interval.rate_of_all(&["a", "b", "c"]), 35.0);
        assert_eq!(interval.rate("c"), None);
        assert_eq!(interval.rate_of_all(&["c"]), None);
        assert!(Interval::new(&before, &now, seconds(0)).is_none());
    }

    const BEFORE: &str = "h_bucket{via=\"x\",le=\"1\"} 10\nh_bucket{via=\"x\",le=\"2\"} 10\n\
                          h_bucket{via=\"x\",le=\"+Inf\"} 10\nh_sum{via=\"x\"} 5\nh_count{via=\"x\"} 10\n";
    const NOW: &str = "h_bucket{via=\"x\",le=\"1\"} 20\nh_bucket{via=\"x\",le=\"2\"} 50\n\
                       h_bucket{via=\"x\",le=\"+Inf\"} 60\nh_sum{via=\"x\"} 105\nh_count{via=\"x\"} 60\n\
                       h_bucket{via=\"y\",le=\"1\"} 0\nh_bucket{via=\"y\",le=\"2\"} 10\n\
                       h_bucket{via=\"y\",le=\"+Inf\"} 10\nh_sum{via=\"y\"} 15\nh_count{via=\"y\"} 10\n";

    #[test]
    fn quantiles_are_those_of_the_time_between() {
        let (before, now) = (reading(BEFORE), reading(NOW));
        let interval = Interval::new(&before, &now, seconds(10)).unwrap();
        let histogram = interval.histogram("h", Some(("via", "x"))).unwrap();
        assert_near(Some(histogram.per_second), 5.0);
        assert_near(histogram.mean, 2.0);
        // 50 in all: 10 up to 1, 30 from 1 to 2, 10 beyond.
        assert_near(histogram.quantile(0.1), 0.5);
        assert_near(histogram.quantile(0.5), 1.5);
        assert_near(histogram.quantile(0.8), 2.0);
        assert_near(histogram.quantile(0.99), 2.0);
        assert_eq!(
            histogram.shares(),
            [(1.0, 0.2), (2.0, 0.6), (f64::INFINITY, 0.2)]
        );
        let both = interval.histogram("h", None).unwrap();
        assert_near(Some(both.per_second), 6.0);
        // 60 in all: 10 up to 1, 40 from 1 to 2.
        assert_near(both.quantile(0.5), 1.5);
        assert_eq!(interval.values("h", "via"), ["x", "y"]);
        assert!(interval.histogram("h", Some(("via", "z"))).is_none());
        assert!(interval.histogram("i", None).is_none());
    }

    #[test]
    fn nothing_counted_has_no_quantile() {
        let reading = reading(NOW);
        let interval = Interval::new(&reading, &reading, seconds(1)).unwrap();
        let histogram = interval.histogram("h", None).unwrap();
        assert_eq!((histogram.mean, histogram.quantile(0.5)), (None, None));
        assert!(histogram.shares().iter().all(|(_, share)| *share == 0.0));
    }

    #[test]
    fn a_histogram_that_began_anew_counts_from_nought() {
        let before = reading(&BEFORE.replace(" 10", " 1000"));
        let now = reading(NOW);
        let interval = Interval::new(&before, &now, seconds(1)).unwrap();
        let histogram = interval.histogram("h", Some(("via", "x"))).unwrap();
        assert_near(Some(histogram.per_second), 60.0);
        assert_near(histogram.quantile(0.5), 1.0 + 10.0 / 30.0);
    }

    #[test]
    fn a_histogram_of_limits_that_are_none_is_none() {
        let odd = reading("h_bucket{le=\"x\"} 1\nh_count 1\n");
        let interval = Interval::new(&odd, &odd, seconds(1)).unwrap();
        assert!(interval.histogram("h", None).is_none());
        let bare = reading("h_count 1\n");
        let interval = Interval::new(&odd, &bare, seconds(1)).unwrap();
        assert_eq!(interval.histogram("h", None).unwrap().quantile(0.5), None);
    }

    #[test]
    fn trails_keep_the_last_values() {
        let mut trails = Trails::default();
        for value in 0..300 {
            trails.push("a", Some(f64::from(value)));
            trails.push("a", None);
        }
        let trail = trails.of("a");
        assert_eq!(trail.last(2).collect::<Vec<_>>(), [298.0, 299.0]);
        assert_eq!(trail.last(1000).count(), TRAIL_COUNT_MAX);
        assert_eq!(trails.of("b").last(9).count(), 0);
    }
}
