//! The one unit of time on the wire and on the disk: milliseconds since the Unix epoch.

use core::time::Duration;

/// Milliseconds since the Unix epoch (`../shared/protocol/session-client.md`, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);
    /// The largest value that every format carries: bt integers and JSON numbers of the reference
    /// are signed 64-bit.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// From milliseconds since the epoch; what is above [`Self::MAX`] becomes [`Self::MAX`].
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `span` later, at most [`Self::MAX`].
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The moment `span` earlier, at least [`Self::ZERO`].
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// How long `earlier` is ago, zero when it is not earlier.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
