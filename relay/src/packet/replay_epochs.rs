//! The replay filters of the epochs whose packets are taken: two, of which each serves every other epoch.
//!
//! ```text
//! epoch         | e              | e + 1          | e + 2
//! keys taken    |eee            eee+1 ..         ..
//! filter 0      | e         e,grace | cleared     | e + 2
//! ```
//!
//! A filter is cleared between the end of the grace period of its epoch and the time from which packets of
//! the epoch two later are taken: grace periods are at most a third of one, so there is such a time.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use cepa_wire::packet::epoch::Epoch;

use super::replay::ReplayFilter;

/// Says in [`Slot::epoch`] that it is being cleared.
const CLEARING: u64 = u64::MAX;

struct Slot {
    filter: ReplayFilter,
    /// The epoch that it serves.
    epoch: AtomicU64,
}

/// Both filters, shared by all tiles.
pub struct ReplayFilters {
    slots: [Slot; 2],
}

/// What a filter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is the first.
    New,
    /// It was there, or looks as if.
    Before,
    /// No filter serves its epoch: it is not known, and so not taken.
    Unknown,
}

impl ReplayFilters {
    /// Filters of `size` bytes together, that serve `epoch` and the next. `key` is random.
    pub fn new(size: usize, epoch: Epoch, key: [u8; 16]) -> Self {
        let slot = |index: u64| Slot {
            filter: ReplayFilter::new(size / 2, key),
            epoch: AtomicU64::new(if epoch.0 & 1 == index {
                epoch.0
            } else {
                epoch.0 + 1
            }),
        };
        Self {
            slots: [slot(0), slot(1)],
        }
    }

    /// Inserts the tag of a packet of an epoch.
    pub fn insert(&self, epoch: Epoch, tag: &[u8; 16]) -> Seen {
        let slot = self.slot(epoch);
        // What was cleared before the epoch was written is seen cleared.
        if slot.epoch.load(Ordering::Acquire) != epoch.0 {
            return Seen::Unknown;
        }
        if slot.filter.insert(tag) {
            Seen::New
        } else {
            Seen::Before
        }
    }

    /// How full the filter of an epoch is, of a thousand bits.
    pub fn fill_permille(&self, epoch: Epoch) -> u32 {
        self.slot(epoch).filter.fill_permille()
    }

    /// Begins to empty a filter for `epoch`, unless it serves that already; no tile may take packets of the
    /// epoch that it served any more. One thread does it, step by step.
    pub fn begin_clearing(self: &Arc<Self>, epoch: Epoch) -> Option<Clearing> {
        let slot = self.slot(epoch);
        if slot.epoch.load(Ordering::Acquire) == epoch.0 {
            return None;
        }
        slot.epoch.store(CLEARING, Ordering::Release);
        Some(Clearing {
            filters: Arc::clone(self),
            epoch,
            next: Some(0),
        })
    }

    fn slot(&self, epoch: Epoch) -> &Slot {
        let [even, odd] = &self.slots;
        if epoch.0 & 1 == 0 { even } else { odd }
    }
}

/// The emptying of a filter. Dropped before its end, it is begun anew.
pub struct Clearing {
    filters: Arc<ReplayFilters>,
    epoch: Epoch,
    next: Option<usize>,
}

impl Clearing {
    /// Empties a slice, some ten microseconds; true at the end, when the filter serves its new epoch.
    pub fn step(&mut self) -> bool {
        let slot = self.filters.slot(self.epoch);
        self.next = self.next.and_then(|from| slot.filter.clear_slice(from));
        if self.next.is_none() {
            slot.epoch.store(self.epoch.0, Ordering::Release);
        }
        self.next.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_its_own_memory() {
        let filters = Arc::new(ReplayFilters::new(4 << 20, Epoch(6), [3; 16]));
        let tag = [9; 16];
        assert_eq!(filters.insert(Epoch(6), &tag), Seen::New);
        assert_eq!(filters.insert(Epoch(7), &tag), Seen::New);
        assert_eq!(filters.insert(Epoch(6), &tag), Seen::Before);
        assert_eq!(filters.insert(Epoch(8), &tag), Seen::Unknown);
        assert_eq!(filters.insert(Epoch(5), &tag), Seen::Unknown);
        assert!(filters.begin_clearing(Epoch(7)).is_none());

        let mut clearing = filters.begin_clearing(Epoch(8)).unwrap();
        assert_eq!(filters.insert(Epoch(6), &tag), Seen::Unknown);
        let mut steps = 1;
        while !clearing.step() {
            assert_eq!(filters.insert(Epoch(8), &tag), Seen::Unknown);
            steps += 1;
        }
        assert_eq!(steps, 8);
        assert_eq!(filters.insert(Epoch(8), &tag), Seen::New);
        assert_eq!(filters.insert(Epoch(7), &tag), Seen::Before);
        assert_eq!(filters.insert(Epoch(6), &tag), Seen::Unknown);
    }

    #[test]
    fn a_clearing_that_was_given_up_is_begun_anew() {
        let filters = Arc::new(ReplayFilters::new(4 << 20, Epoch(1), [3; 16]));
        assert_eq!(filters.insert(Epoch(1), &[1; 16]), Seen::New);
        let mut clearing = filters.begin_clearing(Epoch(3)).unwrap();
        assert!(!clearing.step());
        let mut clearing = filters.begin_clearing(Epoch(3)).unwrap();
        while !clearing.step() {}
        assert_eq!(filters.insert(Epoch(3), &[1; 16]), Seen::New);
        assert_eq!(filters.fill_permille(Epoch(3)), 0);
    }
}
