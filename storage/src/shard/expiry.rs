//! What leaves the index without a record: messages that expired, mailboxes that are no longer ours,
//! States that nobody needs; and segments of which nothing is needed.
//!
//! An expired message is never given out, so nobody waits for its removal. A sweep looks at every
//! cell of the index within half a minute, a slice at a time.

use core::time::Duration;

use cepa_wire::Timestamp;

use super::{Purpose, Shard};
use crate::Disk;
use crate::disk::{DiskError, Operation, SegmentId};
use crate::state::{self, STATE_LIFE, Subject};

/// Cells that a sweep looks at in a slice: some 50 us, and 500 us if all of them expired.
const SWEEP_CELL_COUNT: usize = 2048;

/// How long a sweep through all cells takes at least.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);

/// Slices of a sweep are no farther apart.
const SLICE_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Mailboxes that a purge looks at in a slice.
const PURGE_MAILBOX_COUNT: u32 = 256;

/// Messages that it removes in a slice.
const PURGE_MESSAGE_COUNT: usize = 512;

/// States that are looked at in a slice.
const STATE_COUNT: usize = 256;

/// How far background work is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next_cell: u32,
    /// When the next slice is due.
    due: Timestamp,
    /// The mailbox that a purge goes on at.
    purge: Option<u32>,
    next_state: Option<state::Key>,
}

impl<D: Disk> Shard<D> {
    /// A slice of what is due.
    pub(super) fn sweep(&mut self) {
        if self.territories.forget(self.clock) {
            self.sweep.purge = Some(0);
        }
        self.purge();
        if self.clock < self.sweep.due {
            return;
        }
        self.sweep_cells();
        self.sweep_states();
        self.sweep.due = self.clock.saturating_add(self.slice_pause());
    }

    /// When the next slice is due; `None` when there is nothing to look at.
    pub(super) fn next_sweep(&self) -> Option<Timestamp> {
        if self.sweep.purge.is_some() {
            return Some(self.clock);
        }
        (self.catalog.index.cell_count() > 0).then_some(self.sweep.due)
    }

    fn slice_pause(&self) -> Duration {
        let slice_count = self.catalog.index.cell_count().div_ceil(SWEEP_CELL_COUNT);
        let slice_count = u32::try_from(slice_count).unwrap_or(u32::MAX).max(1);
        (SWEEP_PERIOD / slice_count).min(SLICE_PAUSE_MAX)
    }

    fn sweep_cells(&mut self) {
        let count = self.catalog.index.cell_count();
        for _ in 0..SWEEP_CELL_COUNT.min(count) {
            let number = self.sweep.next_cell;
            let is_last = number as usize + 1 >= count;
            self.sweep.next_cell = if is_last { 0 } else { number + 1 };
            let Some(id) = self.catalog.index.expired_at(number, self.clock) else {
                continue;
            };
            let Some(entry) = self.catalog.index.get(id) else {
                continue;
            };
            // Its expiry may be moving.
            if !self.is_pending(entry.mailbox, entry.hash) {
                self.catalog.remove(id);
                self.counts.expired_count += 1;
            }
        }
    }

    /// Forgets States of mailboxes that have had no message for as long as one could have lived.
    fn sweep_states(&mut self) {
        let begin = self
            .sweep
            .next_state
            .take()
            .unwrap_or((state::peer([0; 32]), Subject(0)));
        let mut old = Vec::new();
        for (index, (key, state)) in self.catalog.states.from(begin).enumerate() {
            if index == STATE_COUNT {
                self.sweep.next_state = Some(*key);
                break;
            }
            let is_old = state.timestamp.saturating_add(STATE_LIFE) <= self.clock;
            if is_old && self.catalog.index.mailbox_tally(key.0).message_count == 0 {
                old.push(*key);
            }
        }
        for key in old {
            self.catalog.remove_state(&key);
        }
    }

    /// Removes messages of mailboxes that are not ours, a slice.
    fn purge(&mut self) {
        let Some(begin) = self.sweep.purge else {
            return;
        };
        let end = self.catalog.index.mailbox_cell_count();
        let mut removed_count = 0;
        for number in begin..begin.saturating_add(PURGE_MAILBOX_COUNT) {
            if number as usize >= end {
                self.sweep.purge = None;
                return;
            }
            self.sweep.purge = Some(number);
            let Some((mailbox, _)) = self.catalog.index.mailbox_at(number) else {
                continue;
            };
            if self.territories.keeps(&mailbox) {
                continue;
            }
            let ids: Vec<_> = self
                .catalog
                .index
                .in_scope(mailbox, crate::command::Scope::All)
                .take(PURGE_MESSAGE_COUNT)
                .collect();
            let is_whole = ids.len() < PURGE_MESSAGE_COUNT;
            for id in ids {
                let entry = self.catalog.index.get(id);
                let is_pending =
                    entry.is_some_and(|entry| self.is_pending(entry.mailbox, entry.hash));
                if !is_pending && self.catalog.abandon(id).is_some() {
                    removed_count += 1;
                    self.counts.purged_count += 1;
                }
            }
            if !is_whole || removed_count >= PURGE_MESSAGE_COUNT {
                return;
            }
        }
        self.sweep.purge = Some(begin.saturating_add(PURGE_MAILBOX_COUNT));
    }

    /// Removes segments of which nothing is needed.
    pub(super) fn begin_removals(&mut self) {
        while let Some(segment) = self.catalog.segments.bury_next() {
            self.io
                .submit(Purpose::Remove(segment), Operation::Remove { segment });
        }
    }

    pub(super) fn handle_remove(&mut self, segment: SegmentId, result: Result<(), DiskError>) {
        match result {
            Ok(()) => {
                self.counts.removed_segment_count += 1;
                self.committer.is_cramped = false;
                self.catalog.segments.handle_removed(segment);
            }
            Err(_) => self.catalog.segments.handle_remove_failed(segment),
        }
    }
}
