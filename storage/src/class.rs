//! Expiry classes: messages that will die together stand together, so that their segment dies whole.

use core::time::Duration;

use cepa_wire::Timestamp;

/// How many there are: as many segments are open at a time.
pub(crate) const CLASS_COUNT: usize = 3;

/// Of messages that live about as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Up to a day: typing, receipts, calls.
    Day,
    /// Up to 15 days: messages, whose longest life is 14.
    Fortnight,
    /// Longer: configurations, and what is kept beside messages.
    Month,
}

const DAY_MAX: Duration = Duration::from_hours(24);
const FORTNIGHT_MAX: Duration = Duration::from_hours(15 * 24);

impl Class {
    pub(crate) const ALL: [Self; CLASS_COUNT] = [Self::Day, Self::Fortnight, Self::Month];
    pub(crate) const LONGEST: Self = Self::Month;

    /// Of what expires then.
    pub(crate) fn of(expiry: Timestamp, now: Timestamp) -> Self {
        let rest = expiry.saturating_since(now);
        if rest <= DAY_MAX {
            Self::Day
        } else if rest <= FORTNIGHT_MAX {
            Self::Fortnight
        } else {
            Self::Month
        }
    }

    /// As it stands in a segment's header; unknown numbers are the longest.
    pub(crate) const fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Day,
            1 => Self::Fortnight,
            _ => Self::Month,
        }
    }

    pub(crate) const fn number(self) -> usize {
        self as usize
    }

    pub(crate) const fn wire_number(self) -> u16 {
        self as u16
    }
}
