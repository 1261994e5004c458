//! The segment after the open ones: made ahead, so that a commit need not wait for it.

use super::{Purpose, Shard, fault};
use crate::class::{CLASS_COUNT, Class};
use crate::disk::{DiskError, Operation, SegmentId};
use crate::segment::Segment;
use crate::{Disk, StoreFault};

/// Stores leave so many segments of the capacity to others: Deletes and compaction make room, and
/// need some for it. One of each class, if none is open, and one ahead.
const RESERVE_COUNT: u64 = CLASS_COUNT as u64 + 1;

/// A store has at least so many segments: one of each class open, one ahead, the reserve.
const SEGMENT_COUNT_MIN: u64 = 2 * (CLASS_COUNT as u64 + 1);

/// The segment after the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    None,
    /// Waiting commands need it, or it is made ahead.
    Creating {
        is_needed: bool,
    },
    Ready(SegmentId),
    /// It could not be made ahead. It is tried again when it is needed.
    Failed,
}

/// What became of the wish for a fresh segment.
pub(super) enum Rotation {
    Done,
    /// It is being made.
    Creating,
    Refused(StoreFault),
}

impl<D: Disk> Shard<D> {
    /// Seals the open segment of a class and opens the spare one.
    pub(super) fn rotate(&mut self, class: Class, is_store: bool) -> Rotation {
        let is_ahead = matches!(self.committer.spare, Spare::Ready(_));
        if is_store && self.segment_room() + u64::from(is_ahead) <= RESERVE_COUNT {
            self.catalog.segments.keep_no_more();
            return Rotation::Refused(StoreFault::StoreFull);
        }
        match self.committer.spare {
            Spare::Ready(id) => {
                let open = Segment::new(id, class, self.settings.segment_size);
                self.catalog.segments.rotate(class, Some(open), true);
                self.committer.spare = Spare::None;
                Rotation::Done
            }
            Spare::Creating { .. } => {
                self.committer.spare = Spare::Creating { is_needed: true };
                Rotation::Creating
            }
            Spare::None | Spare::Failed => self.create(true, 1),
        }
    }

    /// Makes a segment ahead when one is half full.
    pub(super) fn make_spare(&mut self) {
        let is_half_full = |class| {
            let open = self.catalog.segments.open(class);
            open.is_some_and(Segment::is_half_full)
        };
        if self.committer.spare == Spare::None
            && self.segment_room() > RESERVE_COUNT
            && Class::ALL.into_iter().any(is_half_full)
            && matches!(self.create(false, 1), Rotation::Refused(_))
        {
            self.committer.spare = Spare::Failed;
        }
    }

    /// Opens a segment for the commit that says what is void. Without it nothing more can be
    /// changed, nor room be made: so it may exceed the capacity.
    pub(super) fn rotate_for_doubt(&mut self) -> Rotation {
        match self.committer.spare {
            Spare::None | Spare::Failed => self.create(true, 0),
            Spare::Creating { .. } | Spare::Ready(_) => self.rotate(Class::LONGEST, false),
        }
    }

    /// How many segments more the capacity allows.
    fn segment_room(&self) -> u64 {
        let count_max = self.settings.capacity / self.settings.segment_size;
        let is_spare = matches!(self.committer.spare, Spare::Ready(_));
        let count = self.catalog.segments.len() as u64 + u64::from(is_spare);
        count_max.max(SEGMENT_COUNT_MIN).saturating_sub(count)
    }

    /// Makes a segment if there is room for so many.
    fn create(&mut self, is_needed: bool, room_min: u64) -> Rotation {
        if self.segment_room() < room_min {
            self.catalog.segments.keep_no_more();
            return Rotation::Refused(StoreFault::StoreFull);
        }
        let Some(segment) = self.committer.next_segment else {
            return Rotation::Refused(StoreFault::DiskFailed);
        };
        self.committer.next_segment = segment.0.checked_add(1).map(SegmentId);
        // Sequence numbers are never given twice, even if a part of the log can't be read when the
        // shard begins again: what was given so far is smaller than the newest segment's.
        let first = u64::from(segment.0) << 32;
        self.committer.next_sequence = self.committer.next_sequence.max(first);
        self.committer.spare = Spare::Creating { is_needed };
        let size = self.settings.segment_size;
        let operation = Operation::Create { segment, size };
        self.io.submit(Purpose::Create(segment), operation);
        Rotation::Creating
    }

    pub(super) fn handle_create(&mut self, segment: SegmentId, result: Result<(), DiskError>) {
        let is_needed = self.committer.spare == Spare::Creating { is_needed: true };
        match result {
            Ok(()) => {
                self.committer.spare = Spare::Ready(segment);
                self.counts.prepared_bytes += self.settings.segment_size;
            }
            Err(error) => {
                self.committer.spare = Spare::Failed;
                self.last_fault = Some(fault(error));
                if is_needed {
                    self.fail_waiting(fault(error));
                }
            }
        }
    }
}
