//! Packets that wait because their client asked for that: a timing wheel of fixed memory
//! (Varghese and Lauck 1987, scheme 6: hashed, unsorted).
//!
//! One slot a millisecond; a packet lies in the slot of its time. Slots are lists through one array, so
//! that nothing is allocated once it stands. When it is full, what would wait longest gives way to what waits
//! for less: else a few hundred packets a second that ask for a minute would take all its places.

use core::time::Duration;

use cepa_wire::Timestamp;
use cepa_wire::packet::geometry::DELAY_MAX;

/// Slots: a power of two above the longest delay in milliseconds, so that a slot holds one time only.
const SLOT_COUNT: usize = 1 << 16;

/// The longest delay that a routing block may ask for.
const DELAY_MILLIS_MAX: u32 = 60_000;
const _: () = assert!(DELAY_MAX.as_millis() == DELAY_MILLIS_MAX as u128);
const _: () = assert!((DELAY_MILLIS_MAX as usize) < SLOT_COUNT);

/// From the first slot to the last.
const AROUND: Duration = Duration::from_millis(SLOT_COUNT as u64 - 1);

/// No entry.
const NONE: u32 = u32::MAX;

/// Why something can't wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayError {
    /// Longer than [`DELAY_MAX`].
    TooLong,
    /// All places are taken.
    Full,
}

struct Entry<T> {
    next: u32,
    item: Option<T>,
}

/// The wheel.
pub struct DelayWheel<T> {
    entries: Box<[Entry<T>]>,
    free: u32,
    slots: Box<[u32]>,
    /// All before this was given out.
    current: Timestamp,
    /// Nothing that waits is due after this, in milliseconds.
    latest: u64,
    waiting_count: usize,
}

impl<T> DelayWheel<T> {
    /// A wheel with room for `capacity` items.
    pub fn new(capacity: usize, now: Timestamp) -> Self {
        let count = u32::try_from(capacity).unwrap_or(NONE - 1).min(NONE - 1);
        let entry = |index| Entry {
            next: if index + 1 < count { index + 1 } else { NONE },
            item: None,
        };
        Self {
            entries: (0..count).map(entry).collect(),
            free: if count == 0 { NONE } else { 0 },
            slots: vec![NONE; SLOT_COUNT].into(),
            current: now,
            latest: now.as_millis(),
            waiting_count: 0,
        }
    }

    /// How many wait.
    pub const fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// Lets an item wait; gives it back when it can't. Gives what gave way to it, if it is full.
    pub fn insert(
        &mut self,
        item: T,
        delay: Duration,
        now: Timestamp,
    ) -> Result<Option<T>, (DelayError, T)> {
        if delay > DELAY_MAX {
            return Err((DelayError::TooLong, item));
        }
        let due = self.advanced(now).saturating_add(delay).as_millis();
        let displaced = if self.free == NONE {
            let Some(displaced) = self.displace(due) else {
                return Err((DelayError::Full, item));
            };
            Some(displaced)
        } else {
            None
        };
        let Some(entry) = entry_mut(&mut self.entries, self.free) else {
            return Err((DelayError::Full, item));
        };
        let index = self.free;
        self.free = entry.next;
        let slot = &mut self.slots[slot_of(due)];
        *entry = Entry {
            next: *slot,
            item: Some(item),
        };
        *slot = index;
        self.waiting_count += 1;
        self.latest = self.latest.max(due);
        Ok(displaced)
    }

    /// Takes out an item that is due last, if that is after `due`. Slots that were found empty are not looked
    /// at again, until something comes into them.
    fn displace(&mut self, due: u64) -> Option<T> {
        while self.latest > due {
            let slot = &mut self.slots[slot_of(self.latest)];
            if *slot != NONE {
                return self.take(self.latest);
            }
            self.latest -= 1;
        }
        None
    }

    /// Takes an item out of the slot of a time.
    fn take(&mut self, at: u64) -> Option<T> {
        let slot = &mut self.slots[slot_of(at)];
        let entry = entry_mut(&mut self.entries, *slot)?;
        let index = core::mem::replace(slot, entry.next);
        entry.next = core::mem::replace(&mut self.free, index);
        self.waiting_count -= 1;
        entry.item.take()
    }

    /// Gives an item that is due, in no order within its millisecond; `None` when none is. Call it until
    /// then.
    pub fn poll_due(&mut self, now: Timestamp) -> Option<T> {
        let now = self.advanced(now);
        // Once around is every slot, however far the clock jumped.
        self.current = self.current.max(now.saturating_sub(AROUND));
        while self.current <= now {
            if self.waiting_count == 0 {
                // Nothing waits: no need to look at each slot.
                self.current = now;
                self.latest = now.as_millis();
                return None;
            }
            if let Some(item) = self.take(self.current.as_millis()) {
                return Some(item);
            }
            if self.current == now {
                return None;
            }
            self.current = Timestamp::from_millis(self.current.as_millis() + 1);
        }
        None
    }

    /// When something is due that is not yet, or `None` when nothing waits. Looks at each millisecond up
    /// to the next item, and no further than the horizon: then that is the answer.
    pub fn next_due(&self, horizon: Duration) -> Option<Timestamp> {
        if self.waiting_count == 0 {
            return None;
        }
        let horizon = self.current.saturating_add(horizon).as_millis();
        let current = self.current.as_millis();
        let due = (current..horizon).find(|at| self.slots[slot_of(*at)] != NONE);
        Some(Timestamp::from_millis(due.unwrap_or(horizon)))
    }

    /// A clock that jumped back stands still here; one that jumped ahead, past all that waits, makes all
    /// of it due.
    fn advanced(&self, now: Timestamp) -> Timestamp {
        now.max(self.current)
    }
}

/// The entry of an index that is not `NONE`.
fn entry_mut<T>(entries: &mut [Entry<T>], index: u32) -> Option<&mut Entry<T>> {
    usize::try_from(index)
        .ok()
        .and_then(|index| entries.get_mut(index))
}

fn slot_of(millis: u64) -> usize {
    const MASK: u64 = SLOT_COUNT as u64 - 1;
    usize::try_from(millis & MASK).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const fn millis(span: u64) -> Duration {
        Duration::from_millis(span)
    }

    const START: u64 = 1_700_000_000_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(START + millis)
    }

    fn due<T>(wheel: &mut DelayWheel<T>, now: Timestamp) -> Vec<T> {
        core::iter::from_fn(|| wheel.poll_due(now)).collect()
    }

    #[test]
    fn items_come_when_they_are_due() {
        let mut wheel = DelayWheel::new(4, at(0));
        wheel.insert('a', millis(0), at(0)).unwrap();
        wheel.insert('b', millis(10), at(0)).unwrap();
        wheel.insert('c', DELAY_MAX, at(0)).unwrap();
        assert_eq!(due(&mut wheel, at(0)), ['a']);
        assert_eq!(wheel.next_due(millis(100)), Some(at(10)));
        assert_eq!(due(&mut wheel, at(9)), []);
        assert_eq!(due(&mut wheel, at(500)), ['b']);
        assert_eq!(wheel.next_due(millis(100)), Some(at(600)));
        assert_eq!(due(&mut wheel, at(60_000)), ['c']);
        assert_eq!(
            (wheel.next_due(millis(100)), wheel.waiting_count()),
            (None, 0)
        );
    }

    #[test]
    fn what_is_too_long_or_too_much_is_given_back() {
        let mut wheel = DelayWheel::new(1, at(0));
        let too_long = wheel.insert(1, DELAY_MAX + millis(1), at(0));
        assert_eq!(too_long, Err((DelayError::TooLong, 1)));
        wheel.insert(2, millis(5), at(0)).unwrap();
        assert_eq!(
            wheel.insert(3, millis(5), at(0)),
            Err((DelayError::Full, 3))
        );
        assert_eq!(due(&mut wheel, at(5)), [2]);
        wheel.insert(3, millis(5), at(5)).unwrap();
        let mut none = DelayWheel::new(0, at(0));
        assert_eq!(none.insert(3, millis(5), at(0)), Err((DelayError::Full, 3)));
    }

    #[test]
    fn what_waits_longest_gives_way() {
        let mut wheel = DelayWheel::new(2, at(0));
        wheel.insert(60, DELAY_MAX, at(0)).unwrap();
        wheel.insert(20, millis(20_000), at(0)).unwrap();
        assert_eq!(
            wheel.insert(61, DELAY_MAX, at(0)),
            Err((DelayError::Full, 61))
        );
        assert_eq!(wheel.insert(1, millis(1000), at(0)), Ok(Some(60)));
        assert_eq!(wheel.insert(2, millis(2000), at(0)), Ok(Some(20)));
        assert_eq!(
            wheel.insert(3, millis(2000), at(0)),
            Err((DelayError::Full, 3))
        );
        assert_eq!(due(&mut wheel, at(3000)), [1, 2]);
        assert_eq!(wheel.insert(4, DELAY_MAX, at(3000)), Ok(None));
        assert_eq!(due(&mut wheel, at(63_000)), [4]);
    }

    #[test]
    fn a_clock_that_jumps_by_ages_takes_no_time() {
        let mut wheel = DelayWheel::new(2, Timestamp::ZERO);
        wheel.insert('a', millis(100), Timestamp::ZERO).unwrap();
        // At a nanosecond a step this would be half a million years.
        assert_eq!(due(&mut wheel, Timestamp::MAX), ['a']);
    }

    #[test]
    fn a_clock_that_jumps_loses_nothing() {
        let mut wheel = DelayWheel::new(8, at(1000));
        wheel.insert('a', millis(100), at(1000)).unwrap();
        // Back: it waits for the clock that it began with.
        wheel.insert('b', millis(100), at(0)).unwrap();
        assert_eq!(due(&mut wheel, at(0)), []);
        // Far ahead, more than once around.
        let mut both = due(&mut wheel, at(10_000_000));
        both.sort_unstable();
        assert_eq!(both, ['a', 'b']);
    }

    proptest! {
        #[test]
        fn it_does_what_a_sorted_map_does(
            steps in prop::collection::vec((0_u64..100, 0_u64..4000), 1..200),
        ) {
            let mut wheel = DelayWheel::new(20, at(0));
            let mut model: BTreeMap<(Timestamp, usize), usize> = BTreeMap::new();
            let mut now = at(0);
            for (number, (pause, delay)) in steps.into_iter().enumerate() {
                let inserted = wheel.insert(number, millis(delay), now);
                let due_at = Timestamp::from_millis(now.as_millis() + delay);
                let last = model.keys().next_back().copied();
                let gives_way = last.is_some_and(|(at, _)| at > due_at);
                prop_assert_eq!(inserted.is_ok(), model.len() < 20 || gives_way);
                if let Ok(displaced) = inserted {
                    prop_assert_eq!(displaced.is_some(), model.len() == 20);
                    if let Some(displaced) = displaced {
                        let at = model.iter().find(|(_, it)| **it == displaced);
                        let at = *at.unwrap().0;
                        prop_assert_eq!(at.0, last.unwrap().0);
                        model.remove(&at);
                    }
                    model.insert((due_at, number), number);
                }
                now = Timestamp::from_millis(now.as_millis() + pause);
                let mut got = due(&mut wheel, now);
                got.sort_unstable();
                let later = model.split_off(&(Timestamp::from_millis(now.as_millis() + 1), 0));
                let mut expected: Vec<_> = model.into_values().collect();
                expected.sort_unstable();
                prop_assert_eq!(got, expected);
                model = later;
                prop_assert_eq!(wheel.waiting_count(), model.len());
            }
        }
    }
}
