//! The one place that reads the machine's clocks.

use core::time::Duration;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cepa_wire::Timestamp;

/// Now, by the system's clock.
#[expect(clippy::disallowed_methods, reason = "this is host::clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, by a clock that never goes back and knows no date: for spans within this process.
pub fn ticks() -> Timestamp {
    to_ticks(nanos())
}

/// The same clock in nanoseconds: for spans that are measured.
#[expect(clippy::disallowed_methods, reason = "this is host::clock")]
pub(crate) fn nanos() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = Instant::now().saturating_duration_since(*BEGIN);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What [`nanos`] gave, as [`ticks`] gives it.
pub(crate) const fn to_ticks(nanos: u64) -> Timestamp {
    Timestamp::from_millis(nanos / 1_000_000)
}

/// Tells how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now on.
    #[expect(clippy::disallowed_methods, reason = "this is host::clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since then.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
