//! When requests are due.

use core::time::Duration;

/// How far requests are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// All the same.
    #[default]
    Constant,
    /// Random from the exponential distribution, as independent clients come: bursts and lulls.
    Exponential,
}

/// The times at which requests are due, since the begin, ascending.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: f64,
    gaps: Gaps,
    end: Duration,
    number: u64,
    /// Seconds since the begin, of the last one with random gaps.
    at: f64,
    random: SplitMix,
}

impl Schedule {
    /// `rate` requests a second, from 0 until before `end`. With constant gaps that is exactly
    /// `rate` * `end`, rounded up. `seed` draws the random gaps.
    ///
    /// # Panics
    ///
    /// If the rate is not above 0.
    pub fn new(rate: f64, gaps: Gaps, end: Duration, seed: u64) -> Self {
        assert!(rate > 0.0, "a rate is above 0");
        Self {
            rate,
            gaps,
            end,
            number: 0,
            at: 0.0,
            random: SplitMix(seed),
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
    fn next(&mut self) -> Option<Duration> {
        // By their number, not one after the other: so nothing adds up over hours.
        let seconds = match self.gaps {
            Gaps::Constant => self.number as f64 / self.rate,
            Gaps::Exponential => self.at,
        };
        let due = Duration::try_from_secs_f64(seconds).ok()?;
        if due >= self.end {
            return None;
        }
        self.number += 1;
        self.at += -self.random.unit().ln() / self.rate;
        Some(due)
    }
}

/// The generator `SplitMix64`: for choices that need no secrecy.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Below `bound`; 0 of none. What a modulus favours is nothing.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_gaps_give_exactly_the_rate_and_do_not_drift() {
        let end = Duration::from_mins(20);
        let due: Vec<_> = Schedule::new(333.0, Gaps::Constant, end, 0).collect();
        assert_eq!(due.len(), 333 * 1200);
        assert_eq!(due[0], Duration::ZERO);
        assert_eq!(due[333 * 600], Duration::from_mins(10));
        assert!(due.is_sorted() && *due.last().unwrap() < end);
        let slow = Schedule::new(0.5, Gaps::Constant, Duration::from_secs(5), 0);
        assert_eq!(slow.count(), 3);
    }

    #[test]
    fn exponential_gaps_have_the_rate_on_average_and_its_spread() {
        let end = Duration::from_secs(100);
        let due: Vec<_> = Schedule::new(1000.0, Gaps::Exponential, end, 7).collect();
        assert!((99_000..101_000).contains(&due.len()), "{}", due.len());
        let gaps = due.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let long = gaps.filter(|gap| *gap > Duration::from_millis(1)).count();
        // e^-1 of all are longer than the mean.
        assert!((35_500..38_000).contains(&long), "{long}");
    }
}
