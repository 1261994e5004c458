//! The bounds of histograms that are used in several places. One of a kind is enough: what is compared in a
//! dashboard should have the same.

use crate::Bounds;

/// Nanoseconds, told as seconds: from what a request takes that finds everything in memory to what a client
/// waits at most.
pub static LATENCY: Bounds = Bounds::new(
    &[
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
        60_000_000_000,
    ],
    1_000_000_000,
);

/// Nanoseconds, told as seconds: what a tile does at once.
pub static STEP: Bounds = Bounds::new(
    &[
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        1_000_000_000,
    ],
    1_000_000_000,
);

/// How many are done at once: a batch of Diffie-Hellmans has 64 at most.
pub static BATCH: Bounds = Bounds::new(&[1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 256], 1);
