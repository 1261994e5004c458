//! A bucket of tokens: how many packets a link may send.

use core::time::Duration;

use cepa_wire::Timestamp;

/// Parts of a token: at `per_second` tokens a second a millisecond brings `per_second` of them.
const PARTS: u64 = 1000;

/// A rate and what may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketRate {
    /// Packets a second, for ever.
    pub per_second: u32,
    /// Packets at once, after a pause.
    pub burst: u32,
}

/// The bucket of one link, full at first.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    rate: PacketRate,
    parts: u64,
    looked_at: Timestamp,
}

impl TokenBucket {
    /// A full bucket.
    pub const fn new(rate: PacketRate, now: Timestamp) -> Self {
        Self {
            rate,
            parts: rate.burst as u64 * PARTS,
            looked_at: now,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        let taken = self.parts.checked_sub(PARTS);
        self.parts = taken.unwrap_or(self.parts);
        taken.is_some()
    }

    /// How long until there is a token.
    pub fn wait(&mut self, now: Timestamp) -> Duration {
        self.fill(now);
        let missing = PARTS.saturating_sub(self.parts);
        Duration::from_millis(missing.div_ceil(u64::from(self.rate.per_second.max(1))))
    }

    fn fill(&mut self, now: Timestamp) {
        // A clock that went back brings nothing.
        let span = now.as_millis().saturating_sub(self.looked_at.as_millis());
        self.looked_at = self.looked_at.max(now);
        let brought = span.saturating_mul(u64::from(self.rate.per_second));
        let room = u64::from(self.rate.burst) * PARTS;
        self.parts = self.parts.saturating_add(brought).min(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_burst_and_the_rate() {
        let rate = PacketRate {
            per_second: 100,
            burst: 5,
        };
        let at = Timestamp::from_millis;
        let mut bucket = TokenBucket::new(rate, at(1000));
        let taken = |bucket: &mut TokenBucket, now| (0..100).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, at(1000)), 5);
        assert_eq!(bucket.wait(at(1000)), Duration::from_millis(10));
        assert_eq!(taken(&mut bucket, at(1030)), 3);
        assert_eq!(taken(&mut bucket, at(500)), 0);
        assert_eq!(taken(&mut bucket, at(1035)), 0);
        assert_eq!(bucket.wait(at(1035)), Duration::from_millis(5));
        assert_eq!(taken(&mut bucket, at(100_000)), 5);
        let total: usize = (0..1000)
            .map(|ms| taken(&mut bucket, at(200_000 + ms)))
            .sum();
        assert_eq!(total, 104);
    }

    #[test]
    fn nothing_is_ever_let_through_at_a_rate_of_zero() {
        let rate = PacketRate {
            per_second: 0,
            burst: 0,
        };
        let mut bucket = TokenBucket::new(rate, Timestamp::ZERO);
        assert!(!bucket.take(Timestamp::MAX));
        assert_eq!(bucket.wait(Timestamp::MAX), Duration::from_secs(1));
    }
}
