//! Which connections there are, and who goes when there are too many. No I/O and no clock.
//!
//! Every connection stands in one list of all and in one of its prefix: the list of its phase, by the
//! time at which it came there. Entering a phase puts it at the end, so that the first of a list is who
//! has been in its phase longest: it is the next whose deadline passes, and the next to give way. Every
//! step but the search for a prefix is a handful of links.

use core::time::Duration;
use std::collections::BTreeMap;

use cepa_swarm::rate::Prefix;
use cepa_wire::Timestamp;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handshake is not done.
    Handshake,
    /// It asks nothing.
    Idle,
    /// The head of a request is arriving.
    Head,
    /// The body of a request is arriving.
    Body,
    /// A request is being served.
    Serving,
    /// An answer is being taken.
    Taking,
}

pub(crate) const PHASE_COUNT: usize = 6;
/// A list for each phase of strangers' connections, then of peers'.
const LIST_COUNT: usize = 2 * PHASE_COUNT;

/// How long a connection may be in each phase; none: as long as it likes.
pub(crate) type Timeouts = [Option<Duration>; PHASE_COUNT];

/// Who gives way: of the first row that is not empty, whoever has been there longest. Who is being served
/// never does, and a peer last.
const GIVING_WAY: [&[usize]; 3] = [
    &[
        list(Phase::Handshake, false),
        list(Phase::Idle, false),
        list(Phase::Head, false),
    ],
    &[list(Phase::Body, false)],
    &[
        list(Phase::Handshake, true),
        list(Phase::Idle, true),
        list(Phase::Head, true),
    ],
];

const fn list(phase: Phase, is_peer: bool) -> usize {
    phase as usize + if is_peer { PHASE_COUNT } else { 0 }
}

/// A connection, for as long as it is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    slot: usize,
    /// Tells it from those that stood in the slot before.
    number: u64,
}

/// A place in a list: before whom and after whom.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    before: Option<usize>,
    after: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<usize>,
    last: Option<usize>,
}

struct Slot<T> {
    number: u64,
    prefix: Prefix,
    is_peer: bool,
    phase: Phase,
    since: Timestamp,
    /// Its place in the list of all, and in that of its prefix.
    places: [Place; 2],
    value: T,
}

#[derive(Default)]
struct Share {
    count: usize,
    lists: [List; LIST_COUNT],
}

/// The connections of one kind on one executor.
pub(crate) struct Table<T> {
    count_max: usize,
    per_prefix_count_max: usize,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<usize>,
    count: usize,
    next_number: u64,
    lists: [List; LIST_COUNT],
    /// One for each prefix with a connection.
    shares: BTreeMap<Prefix, Share>,
}

impl<T> Table<T> {
    pub(crate) fn new(count_max: usize, per_prefix_count_max: usize) -> Self {
        Self {
            count_max,
            per_prefix_count_max,
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            next_number: 0,
            lists: [List::default(); LIST_COUNT],
            shares: BTreeMap::new(),
        }
    }

    /// How many there are.
    pub(crate) const fn connection_count(&self) -> usize {
        self.count
    }

    /// Makes room for a connection of a prefix: gives what was told of the one that goes, if one must.
    /// The error: all are being served.
    pub(crate) fn make_room(&mut self, prefix: Prefix) -> Result<Option<T>, ()> {
        let own = self.shares.get(&prefix);
        let lists = match own {
            Some(own) if own.count >= self.per_prefix_count_max => &own.lists,
            _ if self.count >= self.count_max => &self.lists,
            _ => return Ok(None),
        };
        let slot = self.find_giving_way(lists).ok_or(())?;
        Ok(self.take(slot))
    }

    /// Takes a connection in, in its handshake. Ask [`Self::make_room`] before.
    pub(crate) fn insert(&mut self, prefix: Prefix, is_peer: bool, now: Timestamp, value: T) -> Id {
        let number = self.next_number;
        self.next_number += 1;
        let slot = Slot {
            number,
            prefix,
            is_peer,
            phase: Phase::Handshake,
            since: now,
            places: [Place::default(); 2],
            value,
        };
        let index = if let Some(index) = self.free.pop() {
            self.slots[index] = Some(slot);
            index
        } else {
            self.slots.push(Some(slot));
            self.slots.len() - 1
        };
        self.count += 1;
        self.shares.entry(prefix).or_default().count += 1;
        self.link(index);
        Id {
            slot: index,
            number,
        }
    }

    /// A connection enters a phase, perhaps the one that it was in; nothing when it has left the table.
    pub(crate) fn enter(&mut self, id: Id, phase: Phase, now: Timestamp) {
        self.update(id, |slot| {
            slot.phase = phase;
            slot.since = now;
        });
    }

    /// A connection turned out to be a peer's.
    pub(crate) fn promote(&mut self, id: Id) {
        self.update(id, |slot| slot.is_peer = true);
    }

    /// A connection ended.
    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        self.find(id)?;
        self.take(id.slot)
    }

    /// A connection that has been in its phase too long leaves the table. Call until there is none.
    pub(crate) fn poll_expired(&mut self, timeouts: &Timeouts, now: Timestamp) -> Option<T> {
        let is_due = |slot: &Slot<T>| {
            timeouts[slot.phase as usize]
                .is_some_and(|timeout| now.saturating_since(slot.since) >= timeout)
        };
        let due = self
            .lists
            .iter()
            .filter_map(|list| list.first)
            .find(|first| self.slots[*first].as_ref().is_some_and(is_due))?;
        self.take(due)
    }

    #[cfg(test)]
    const fn count(&self) -> usize {
        self.count
    }

    fn find(&self, id: Id) -> Option<&Slot<T>> {
        let slot = self.slots.get(id.slot)?.as_ref()?;
        (slot.number == id.number).then_some(slot)
    }

    fn find_giving_way(&self, lists: &[List; LIST_COUNT]) -> Option<usize> {
        let since = |slot: &usize| self.slots[*slot].as_ref().map(|slot| slot.since);
        GIVING_WAY.iter().find_map(|row| {
            row.iter()
                .filter_map(|at| lists[*at].first)
                .min_by_key(since)
        })
    }

    fn update(&mut self, id: Id, change: impl FnOnce(&mut Slot<T>)) {
        if self.find(id).is_none() {
            return;
        }
        self.unlink(id.slot);
        if let Some(slot) = &mut self.slots[id.slot] {
            change(slot);
        }
        self.link(id.slot);
    }

    fn take(&mut self, index: usize) -> Option<T> {
        self.unlink(index);
        let slot = self.slots[index].take()?;
        self.free.push(index);
        self.count -= 1;
        if let Some(share) = self.shares.get_mut(&slot.prefix) {
            share.count -= 1;
            if share.count == 0 {
                self.shares.remove(&slot.prefix);
            }
        }
        Some(slot.value)
    }

    /// Puts a slot at the ends of the lists of its phase.
    fn link(&mut self, index: usize) {
        let Some(slot) = &self.slots[index] else {
            return;
        };
        let (prefix, at) = (slot.prefix, list(slot.phase, slot.is_peer));
        let lasts = [
            Some(&mut self.lists),
            self.shares.get_mut(&prefix).map(|share| &mut share.lists),
        ]
        .map(|lists| {
            let list = &mut lists?[at];
            list.first.get_or_insert(index);
            list.last.replace(index)
        });
        for (which, last) in lasts.into_iter().enumerate() {
            if let Some(before) = last.and_then(|last| self.slots[last].as_mut()) {
                before.places[which].after = Some(index);
            }
        }
        if let Some(slot) = &mut self.slots[index] {
            slot.places = lasts.map(|before| Place {
                before,
                after: None,
            });
        }
    }

    /// Takes a slot out of the lists of its phase.
    fn unlink(&mut self, index: usize) {
        let Some(slot) = &self.slots[index] else {
            return;
        };
        let (prefix, places) = (slot.prefix, slot.places);
        let at = list(slot.phase, slot.is_peer);
        for (which, Place { before, after }) in places.into_iter().enumerate() {
            if let Some(slot) = before.and_then(|before| self.slots[before].as_mut()) {
                slot.places[which].after = after;
            }
            if let Some(slot) = after.and_then(|after| self.slots[after].as_mut()) {
                slot.places[which].before = before;
            }
        }
        let lists = [
            Some(&mut self.lists),
            self.shares.get_mut(&prefix).map(|share| &mut share.lists),
        ];
        for (lists, Place { before, after }) in lists.into_iter().zip(places) {
            let Some(lists) = lists else { continue };
            let list = &mut lists[at];
            if before.is_none() {
                list.first = after;
            }
            if after.is_none() {
                list.last = before;
            }
        }
    }
}

#[cfg(test)]
mod tests;
