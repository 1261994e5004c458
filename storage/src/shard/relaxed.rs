//! Relaxed durability: changes are answered when they are written, and synced within a time.

use std::collections::BTreeSet;

use cepa_wire::Timestamp;

use super::{Purpose, Shard};
use crate::Disk;
use crate::class::Class;
use crate::disk::{DiskError, Operation, SegmentId};
use crate::settings::Durability;

/// Segments that were written and not yet synced.
#[derive(Debug, Default)]
pub(super) struct Relaxed {
    dirty: BTreeSet<SegmentId>,
    /// When the first of it was written.
    since: Option<Timestamp>,
    /// Syncs that have not completed.
    outstanding: usize,
    /// Records with smaller numbers are durable when they have.
    mark: u64,
    has_failed: bool,
}

impl Relaxed {
    pub(super) fn handle_written(&mut self, segment: SegmentId, now: Timestamp) {
        self.dirty.insert(segment);
        self.since.get_or_insert(now);
    }
}

impl<D: Disk> Shard<D> {
    /// When the next sync is due.
    pub(super) fn next_sync(&self) -> Option<Timestamp> {
        let Durability::Relaxed(pause) = self.settings.durability else {
            return None;
        };
        let since = self.relaxed.since?;
        (self.relaxed.outstanding == 0).then(|| since.saturating_add(pause))
    }

    /// Syncs what was written, if it is time.
    pub(super) fn begin_syncs_due(&mut self) {
        if self.next_sync().is_none_or(|at| at > self.clock) {
            return;
        }
        self.relaxed.since = None;
        self.relaxed.has_failed = false;
        self.relaxed.mark = self.committer.first_unsettled();
        for segment in core::mem::take(&mut self.relaxed.dirty) {
            if !self.catalog.segments.is_readable(segment) {
                // Nothing of it is needed, and it is being removed.
                continue;
            }
            self.relaxed.outstanding += 1;
            self.catalog.segments.pin(segment);
            self.io
                .submit(Purpose::Sync(segment), Operation::Sync { segment });
        }
        self.settle_syncs();
    }

    pub(super) fn handle_sync(&mut self, segment: SegmentId, result: Result<(), DiskError>) {
        self.catalog.segments.unpin(segment);
        self.relaxed.outstanding = self.relaxed.outstanding.saturating_sub(1);
        if result.is_err() {
            // What was answered may be lost with the machine now, and no later sync would tell: the
            // kernel forgets. Nothing more is written there.
            self.relaxed.has_failed = true;
            self.counts.failed_sync_count += 1;
            for class in Class::ALL {
                let open = self.catalog.segments.open(class);
                if open.is_some_and(|open| open.id() == segment) {
                    self.catalog.segments.rotate(class, None, false);
                }
            }
        }
        self.settle_syncs();
    }

    const fn settle_syncs(&mut self) {
        if self.relaxed.outstanding == 0 && !self.relaxed.has_failed {
            self.committer.synced = self.relaxed.mark;
        }
    }
}
