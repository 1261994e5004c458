//! The one place that reads the machine's clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use cepa_wire::Timestamp;

/// Now, by the system's clock.
#[expect(clippy::disallowed_methods, reason = "this is host::clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
