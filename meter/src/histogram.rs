//! Histograms of fixed bounds.

use core::array;
use core::ops::AddAssign;
use core::sync::atomic::{AtomicU64, Ordering};

/// The most buckets that a histogram has, the last one without a bound among them. So many are enough for
/// what lasts from 10 us to a minute with bounds that are at most 2.5 times the one before.
pub const BUCKET_COUNT_MAX: usize = 24;

/// Where buckets end, and the unit of what is recorded.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds {
    limits: &'static [u64],
    scale: u64,
}

impl Bounds {
    /// Buckets up to each of `limits`, which ascend, and one for what is beyond; what is recorded is divided by
    /// `scale` when it is told.
    ///
    /// # Panics
    ///
    /// When the limits do not ascend or are too many: seen when the constant is built.
    pub const fn new(limits: &'static [u64], scale: u64) -> Self {
        assert!(limits.len() < BUCKET_COUNT_MAX && scale > 0);
        let mut index = 1;
        while index < limits.len() {
            assert!(limits[index - 1] < limits[index]);
            index += 1;
        }
        Self { limits, scale }
    }

    /// The inclusive upper bounds, in the unit that is told.
    pub fn limits(&self) -> impl Iterator<Item = f64> {
        self.limits.iter().map(|limit| scaled(*limit, self.scale))
    }

    /// What is recorded divided by this is in the unit that is told.
    pub const fn scale(&self) -> u64 {
        self.scale
    }

    /// At most 23 comparisons, the first few of which decide for what is small.
    fn bucket(&self, value: u64) -> usize {
        let at = self.limits.iter().position(|limit| value <= *limit);
        at.unwrap_or(self.limits.len())
    }
}

/// A number in the unit that is told.
#[expect(
    clippy::cast_precision_loss,
    reason = "the text format has doubles; 2^53 is far beyond what is counted"
)]
pub fn scaled(value: u64, scale: u64) -> f64 {
    value as f64 / scale as f64
}

/// How often something was how large, as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    counts: [u64; BUCKET_COUNT_MAX],
    sum: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            counts: [0; BUCKET_COUNT_MAX],
            sum: 0,
        }
    }
}

impl Buckets {
    /// Counts a value.
    pub fn record(&mut self, bounds: &Bounds, value: u64) {
        // A bucket is below the number of counts by the assertion of `Bounds`.
        self.counts[bounds.bucket(value)] += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of what was recorded, in the unit that is told.
    pub fn sum(&self, bounds: &Bounds) -> f64 {
        scaled(self.sum, bounds.scale)
    }

    /// Each bound, and how many were not above it.
    pub fn cumulative(&self, bounds: &Bounds) -> Vec<(f64, u64)> {
        let mut below = 0;
        let counted = bounds.limits().zip(self.counts);
        counted
            .map(|(limit, count)| {
                below += count;
                (limit, below)
            })
            .collect()
    }
}

impl AddAssign for Buckets {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// How often something was how large. Any number of threads record: two relaxed additions each.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    counts: [AtomicU64; BUCKET_COUNT_MAX],
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing was recorded.
    pub fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            counts: array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn record(&self, value: u64) {
        self.counts[self.bounds.bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was recorded. A value that is recorded meanwhile may be in the sum alone, or in the count alone.
    pub fn read(&self) -> Buckets {
        Buckets {
            counts: array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: Bounds = Bounds::new(&[10, 100, 1000], 1000);

    #[test]
    fn values_fall_where_prometheus_wants_them() {
        let histogram = Histogram::new(&BOUNDS);
        let mut plain = Buckets::default();
        for value in [0, 10, 11, 100, 1000, 1001, u64::from(u32::MAX)] {
            histogram.record(value);
            plain.record(&BOUNDS, value);
        }
        let read = histogram.read();
        assert_eq!(read, plain);
        assert_eq!(read.count(), 7);
        assert_eq!(read.cumulative(&BOUNDS), [(0.01, 2), (0.1, 4), (1.0, 5)]);
        let sum = scaled(2122 + u64::from(u32::MAX), 1000);
        assert!((read.sum(&BOUNDS) - sum).abs() < 1e-6);
        plain += read;
        assert_eq!(plain.count(), 14);
        assert_eq!(plain.cumulative(&BOUNDS)[2], (1.0, 10));
    }

    #[test]
    fn threads_lose_nothing() {
        let histogram = Histogram::new(&BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|value| histogram.record(value % 20)));
            }
        });
        let read = histogram.read();
        assert_eq!(read.count(), 40_000);
        assert_eq!(read.cumulative(&BOUNDS)[0], (0.01, 22_000));
        assert!((read.sum(&BOUNDS) - 380.0).abs() < 1e-6);
    }

    #[test]
    fn recording_allocates_nothing() {
        let histogram = Histogram::new(&BOUNDS);
        let measured = allocation_counter::measure(|| {
            (0..1_000_000).for_each(|value| histogram.record(value));
        });
        assert_eq!(measured.count_total, 0);
    }
}
