//! What a node counts and measures: numbers that are declared once, with what they say, and that cost a relaxed
//! addition when they are written. Nothing here allocates, locks or looks a name up while something is
//! counted; what reads them does, once a scrape.
//!
//! [`counters!`] declares what several threads write, [`numbers!`] plain values that one thread has or that
//! are looked up when they are asked for. Both give a list of [`Declared`], from which the documentation is
//! written, and samples, from which whoever knows a text format writes that.
#![forbid(unsafe_code)]

pub mod bounds;
mod declare;
mod family;
mod histogram;
mod sample;

pub use family::{Family, Label};
pub use histogram::{BUCKET_COUNT_MAX, Bounds, Buckets, Histogram, scaled};
pub use sample::{Declared, Kind, LabelValue, Sample, Value};

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What one thread adds to a gauge that several share.
#[derive(Debug, Default)]
pub struct Share(Cell<u64>);

impl Share {
    /// Tells how much it is now; the gauge has the sum of all.
    pub fn set(&self, gauge: &AtomicU64, value: u64) {
        let before = self.0.replace(value);
        gauge.fetch_add(value.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// Something that a gauge counts for as long as it lives.
#[derive(Debug)]
pub struct Present<'a>(&'a AtomicU64);

impl<'a> Present<'a> {
    /// One more now.
    pub fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
