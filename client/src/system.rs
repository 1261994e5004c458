//! The one place that reads the clock and draws randomness.

use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cepa_wire::Timestamp;

use crate::ClientError;

/// Now, by this machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the client's only look at the clock"
)]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Tells how long something took.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "the client's only look at the clock"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ClientError::Random)?;
    Ok(bytes)
}

/// A random number below `bound`, which must not be 0. What a modulus of 64 bits favours is nothing.
pub(crate) fn random_below(bound: usize) -> Result<usize, ClientError> {
    let number = u64::from_le_bytes(random()?);
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    Ok(usize::try_from(number % bound).unwrap_or(0))
}
