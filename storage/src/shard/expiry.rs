//! Expired messages leave the index, and segments of which nothing is needed leave the disk.

use cepa_wire::Timestamp;

use super::{Purpose, Shard};
use crate::Disk;
use crate::disk::{DiskError, Operation, SegmentId};
use crate::index::Place;

/// So many messages are removed a call at most: some 2 us each, so that nobody waits for it longer
/// than for a sync.
const EXPIRE_COUNT_MAX: usize = 512;

impl<D: Disk> Shard<D> {
    /// Removes expired messages from the index, a slice of them. On the disk nothing is written:
    /// the expiry stands there.
    pub(super) fn expire(&mut self) {
        let expired: Vec<_> = self
            .settled_expiries()
            .take_while(|(expiry, _)| *expiry <= self.clock)
            .take(EXPIRE_COUNT_MAX)
            .map(|(_, place)| place)
            .collect();
        for place in expired {
            self.catalog.remove(&place);
            self.counts.expired_count += 1;
        }
    }

    /// When the next message expires.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.settled_expiries().next().map(|(expiry, _)| expiry)
    }

    /// In order. A message that the commit in flight changes is left alone until the commit ends:
    /// its expiry may be moving.
    fn settled_expiries(&self) -> impl Iterator<Item = (Timestamp, Place)> {
        let index = &self.catalog.index;
        index.by_expiry().copied().filter(|(_, place)| {
            index
                .hash(place)
                .is_some_and(|hash| !self.committer.is_pending(place.mailbox, hash))
        })
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
                self.catalog.segments.handle_removed(segment);
            }
            Err(_) => self.catalog.segments.handle_remove_failed(segment),
        }
    }
}
