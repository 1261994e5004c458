//! How long to wait: measured round trips, and random spans.

use core::time::Duration;

use cepa_wire::packet::geometry::DELAY_MAX;

/// No answer is waited for less than that: a loaded machine answers late.
const TIMEOUT_MIN: Duration = Duration::from_millis(300);
/// What is waited for before any answer was measured: three hops there and three back across the world.
const TIMEOUT_FIRST: Duration = Duration::from_secs(1);
/// And never longer: what takes longer is lost.
const TIMEOUT_MAX: Duration = Duration::from_secs(8);

/// Round trips, smoothed as TCP does (RFC 6298, section 2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrips {
    /// Smoothed, and how far they vary; `None` before the first.
    measured: Option<(Duration, Duration)>,
}

impl RoundTrips {
    /// Takes one that was measured, of a request that was sent once.
    pub(super) fn note(&mut self, sample: Duration) {
        self.measured = Some(match self.measured {
            None => (sample, sample / 2),
            Some((smoothed, varied)) => (
                (smoothed * 7 + sample) / 8,
                (varied * 3 + smoothed.abs_diff(sample)) / 4,
            ),
        });
    }

    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.measured.map_or(TIMEOUT_FIRST, |(smoothed, varied)| {
            (smoothed + 4 * varied).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
        })
    }
}

/// A span from the exponential distribution with this mean. `random` gives 64 random bits.
pub(super) fn exponential(mean: Duration, random: u64) -> Duration {
    // In (0, 1]: of 53 bits, and never 0.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a f64 has")]
    let uniform = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    // At most 37 times the mean.
    mean.mul_f64(-uniform.ln())
}

/// The delay of a hop, in milliseconds, within what routing blocks take.
pub(super) fn delay_ms(mean: Duration, random: u64) -> u32 {
    let delay = exponential(mean, random).min(DELAY_MAX);
    u32::try_from(delay.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_follows_what_was_measured() {
        let mut trips = RoundTrips::default();
        assert_eq!(trips.timeout(), TIMEOUT_FIRST);
        trips.note(Duration::from_millis(400));
        assert_eq!(trips.timeout(), Duration::from_millis(1200));
        for _ in 0..50 {
            trips.note(Duration::from_millis(400));
        }
        assert!(trips.timeout() < Duration::from_millis(420));
        for _ in 0..50 {
            trips.note(Duration::from_millis(2));
        }
        assert_eq!(trips.timeout(), TIMEOUT_MIN);
        trips.note(Duration::from_mins(10));
        assert_eq!(trips.timeout(), TIMEOUT_MAX);
    }

    #[test]
    fn spans_have_their_mean() {
        let mean = Duration::from_millis(100);
        assert_eq!(exponential(mean, u64::MAX), Duration::ZERO);
        let longest = exponential(mean, 0);
        assert!(longest > 36 * mean && longest < 37 * mean);
        assert_eq!(exponential(Duration::ZERO, 7), Duration::ZERO);
        assert_eq!(delay_ms(Duration::from_hours(1), 0), 60_000);
        let mut random = 1_u64;
        let sum: Duration = (0..10_000)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                exponential(mean, random)
            })
            .sum();
        let found = sum / 10_000;
        assert!(found.abs_diff(mean) < Duration::from_millis(5), "{found:?}");
    }
}
