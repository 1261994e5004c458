//! The time of hop keys: epochs of one length, counted from the Unix epoch, the same for all relays.

use core::time::Duration;

use crate::Timestamp;

/// Number of an epoch: the milliseconds since the Unix epoch divided by its length, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// How long an epoch is: whole seconds, from 1 to [`Self::SECONDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochLength(u32);

impl EpochLength {
    /// A day, on the real network.
    pub const DAY: Self = Self(24 * 60 * 60);
    /// A week. A key that lives longer protects the past too late.
    pub const SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

    /// From seconds; `None` for 0 and for more than [`Self::SECONDS_MAX`].
    pub const fn from_secs(seconds: u32) -> Option<Self> {
        if seconds == 0 || seconds > Self::SECONDS_MAX {
            None
        } else {
            Some(Self(seconds))
        }
    }

    /// In seconds.
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// As a span.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    /// The epoch that `now` is in.
    pub const fn epoch_at(self, now: Timestamp) -> Epoch {
        Epoch(now.as_millis() / (self.0 as u64 * 1000))
    }

    /// When an epoch begins.
    pub const fn begin(self, epoch: Epoch) -> Timestamp {
        Timestamp::from_millis(epoch.0.saturating_mul(self.0 as u64 * 1000))
    }
}

impl Epoch {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_begin_where_they_should() {
        let length = EpochLength::from_secs(60).unwrap();
        for (millis, epoch) in [(0, 0), (59_999, 0), (60_000, 1), (119_999, 1)] {
            assert_eq!(
                length.epoch_at(Timestamp::from_millis(millis)),
                Epoch(epoch)
            );
        }
        assert_eq!(length.begin(Epoch(2)), Timestamp::from_millis(120_000));
        assert_eq!(length.begin(Epoch(u64::MAX)), Timestamp::MAX);
        assert_eq!(EpochLength::from_secs(0), None);
        assert_eq!(EpochLength::from_secs(EpochLength::SECONDS_MAX + 1), None);
    }
}
