//! Hands requests over when they are due.

use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::record::{Intervals, new_histogram, note};
use super::{Due, LoadError, LoadSettings, MadeQueue, Progress};
use crate::clock;
use crate::schedule::Schedule;

/// What the pacer saw.
pub(super) struct Paced {
    settings: LoadSettings,
    progress: Arc<Progress>,
    intervals: Intervals,
    /// How late requests were handed over, in microseconds.
    pub(super) lag: Histogram<u64>,
    /// Requests that were not sent, in each interval.
    pub(super) not_sent: Vec<u64>,
    pub(super) fault: Option<LoadError>,
}

impl Paced {
    pub(super) fn new(settings: LoadSettings, progress: Arc<Progress>) -> Self {
        let intervals = Intervals::of(settings.duration);
        Self {
            settings,
            progress,
            intervals,
            lag: new_histogram(3),
            not_sent: vec![0; intervals.count()],
            fault: None,
        }
    }

    /// Until the schedule ends, or is stopped.
    pub(super) fn run<R>(
        mut self,
        begun: Instant,
        schedule: Schedule,
        made: &MadeQueue<R>,
        queue: &Sender<Due<R>>,
    ) -> Self {
        let progress = Arc::clone(&self.progress);
        let is_stopped = || progress.is_stopped.load(Ordering::Relaxed);
        for due in schedule {
            // One that is not made in time is late, and counts from when it was due all the same.
            let made = match made.recv() {
                Ok(Ok(made)) => made,
                Ok(Err(fault)) => {
                    self.fault = Some(LoadError::Make(fault));
                    break;
                }
                Err(_) if is_stopped() => break,
                Err(_) => {
                    self.fault = Some(LoadError::Ended);
                    break;
                }
            };
            let at = begun + due;
            clock::wait_until(at, is_stopped);
            if is_stopped() {
                break;
            }
            let since = due.checked_sub(self.settings.warm_up);
            if since.is_some() {
                let late = clock::now().saturating_duration_since(at);
                note(&mut self.lag, late);
            }
            progress.due.fetch_add(1, Ordering::Relaxed);
            match queue.try_send(Due { at, since, made }) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    progress.not_sent.fetch_add(1, Ordering::Relaxed);
                    let index = since.map(|since| self.intervals.index(since));
                    if let Some(count) = index.and_then(|index| self.not_sent.get_mut(index)) {
                        *count += 1;
                    }
                }
                Err(TrySendError::Closed(_)) => break,
            }
        }
        self
    }
}
