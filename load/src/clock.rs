//! The one place that reads the clock and waits for it.

use core::time::Duration;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cepa_wire::Timestamp;

/// Now, by a clock that only goes forward.
#[expect(
    clippy::disallowed_methods,
    reason = "the generator's only look at the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, by this machine's date.
#[expect(
    clippy::disallowed_methods,
    reason = "the generator's only look at the date"
)]
pub(crate) fn date() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits on this thread until `due`, or until `is_over`, which is asked some times a second.
pub(crate) fn wait_until(due: Instant, is_over: impl Fn() -> bool) {
    /// Whoever ends a run early does not wait for longer.
    const STEP: Duration = Duration::from_millis(100);
    loop {
        let left = due.saturating_duration_since(now());
        if left.is_zero() || is_over() {
            return;
        }
        thread::park_timeout(left.min(STEP));
    }
}
