//! The one place that draws randomness.

/// Random bytes from the system.
///
/// # Panics
/// When the system has none to give: nothing here may go on without.
#[expect(clippy::expect_used, reason = "a node without randomness must not run")]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives randomness");
    bytes
}

/// Fills its argument with random bytes from the system.
///
/// # Panics
/// As [`bytes`].
#[expect(clippy::expect_used, reason = "a node without randomness must not run")]
pub(crate) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system gives randomness");
}
