//! Segments and their life: open, sealed, dead. What may not happen in a state has no method there.

use std::collections::{BTreeMap, BTreeSet};

use cepa_wire::record::{Position, SEGMENT_HEADER_SIZE};

use crate::disk::{BLOCK_SIZE, SegmentId};

const _: () = assert!(SEGMENT_HEADER_SIZE == BLOCK_SIZE);

/// A segment file.
#[derive(Debug)]
pub(crate) struct Segment<State> {
    id: SegmentId,
    tally: Tally,
    state: State,
}

/// Records are appended.
#[derive(Debug)]
pub(crate) struct Open {
    size: u64,
    /// Where the next commit begins; a multiple of the block size.
    tail: u64,
}

/// Nothing is appended any more.
#[derive(Debug)]
pub(crate) struct Sealed;

/// Nothing of it is needed; it is being removed.
#[derive(Debug)]
pub(crate) struct Dead;

/// Why a segment must stay.
#[derive(Debug, Default)]
struct Tally {
    /// Live messages whose Store stands here, and those whose latest Expire does.
    live_count: u64,
    /// Reads that have not completed.
    read_count: u64,
    /// Other segments that hold records which a Delete or a void of this segment hides. While they
    /// exist, this one must: else what was deleted would come back.
    hides: BTreeSet<SegmentId>,
}

impl Tally {
    fn is_free(&self) -> bool {
        self.live_count == 0 && self.read_count == 0 && self.hides.is_empty()
    }
}

impl Segment<Open> {
    pub(crate) fn new(id: SegmentId, size: u64, tail: u64) -> Self {
        assert!(tail.is_multiple_of(BLOCK_SIZE as u64), "whole blocks");
        assert!(tail <= size, "within the file");
        let tally = Tally::default();
        let state = Open { size, tail };
        Self { id, tally, state }
    }

    /// Where the next commit begins.
    pub(crate) const fn tail(&self) -> Position {
        Position {
            segment: self.id.0,
            offset: self.state.tail,
        }
    }

    /// Bytes that the next commit may have.
    pub(crate) const fn room(&self) -> u64 {
        self.state.size - self.state.tail
    }

    /// Whether more than half of it is used.
    pub(crate) const fn is_half_full(&self) -> bool {
        self.state.tail > self.state.size / 2
    }

    /// Takes the next `size` bytes, whole blocks, for a commit.
    pub(crate) fn append(&mut self, size: u64) {
        assert!(size.is_multiple_of(BLOCK_SIZE as u64), "whole blocks");
        assert!(size <= self.room(), "the caller has looked for room");
        self.state.tail += size;
    }

    fn seal(self) -> Segment<Sealed> {
        Segment {
            id: self.id,
            tally: self.tally,
            state: Sealed,
        }
    }
}

impl Segment<Sealed> {
    fn bury(self) -> Segment<Dead> {
        assert!(self.tally.is_free(), "nothing of it is needed");
        Segment {
            id: self.id,
            tally: self.tally,
            state: Dead,
        }
    }
}

impl Segment<Dead> {
    /// It could not be removed, so it is kept until the next attempt.
    fn keep(self) -> Segment<Sealed> {
        Segment {
            id: self.id,
            tally: self.tally,
            state: Sealed,
        }
    }
}

/// All segments of the log.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    open: Option<Segment<Open>>,
    sealed: BTreeMap<SegmentId, Segment<Sealed>>,
    dead: BTreeMap<SegmentId, Segment<Dead>>,
    /// Whether one may have become removable.
    is_removal_due: bool,
}

impl Segments {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.open.is_some()) + self.sealed.len() + self.dead.len()
    }

    pub(crate) const fn open(&self) -> Option<&Segment<Open>> {
        self.open.as_ref()
    }

    pub(crate) const fn open_mut(&mut self) -> Option<&mut Segment<Open>> {
        self.open.as_mut()
    }

    /// Seals the open segment, if there is one, and opens `next`, if there is one.
    pub(crate) fn rotate(&mut self, next: Option<Segment<Open>>) {
        if let Some(open) = core::mem::replace(&mut self.open, next) {
            self.sealed.insert(open.id, open.seal());
            self.is_removal_due = true;
        }
    }

    /// A segment that was found by recovery.
    pub(crate) fn insert_sealed(&mut self, id: SegmentId) {
        let segment = Segment {
            id,
            tally: Tally::default(),
            state: Sealed,
        };
        self.sealed.insert(id, segment);
        self.is_removal_due = true;
    }

    /// Opens a segment again that recovery found whole, to append behind `tail`.
    pub(crate) fn reopen(&mut self, id: SegmentId, size: u64, tail: u64) {
        assert!(self.open.is_none(), "one is open at a time");
        if let Some(sealed) = self.sealed.remove(&id) {
            let mut open = Segment::new(id, size, tail);
            open.tally = sealed.tally;
            self.open = Some(open);
        }
    }

    /// A record of this segment became needed.
    pub(crate) fn hold(&mut self, id: SegmentId) {
        if let Some(tally) = self.tally_mut(id) {
            tally.live_count += 1;
        }
    }

    /// A record of this segment is no longer needed.
    pub(crate) fn release(&mut self, id: SegmentId) {
        if let Some(tally) = self.tally_mut(id) {
            assert!(tally.live_count > 0, "held before");
            tally.live_count -= 1;
            self.is_removal_due |= tally.is_free();
        }
    }

    /// A read of this segment began.
    pub(crate) fn begin_read(&mut self, id: SegmentId) {
        if let Some(tally) = self.tally_mut(id) {
            tally.read_count += 1;
        }
    }

    /// A read of this segment ended.
    pub(crate) fn end_read(&mut self, id: SegmentId) {
        if let Some(tally) = self.tally_mut(id) {
            assert!(tally.read_count > 0, "begun before");
            tally.read_count -= 1;
            self.is_removal_due |= tally.is_free();
        }
    }

    /// Records of `hidden` are hidden by what stands in `by`.
    pub(crate) fn hide(&mut self, by: SegmentId, hidden: SegmentId) {
        if by == hidden || !self.exists(hidden) {
            return;
        }
        if let Some(tally) = self.tally_mut(by) {
            tally.hides.insert(hidden);
        }
    }

    /// Everything from `from` on and before `by` is declared void by the header of `by`.
    pub(crate) fn hide_range(&mut self, by: SegmentId, from: SegmentId) {
        let hidden = self.sealed.range(from..by).map(|(id, _)| *id);
        let hidden: Vec<_> = hidden
            .chain(self.dead.range(from..by).map(|(id, _)| *id))
            .collect();
        if let Some(tally) = self.tally_mut(by) {
            tally.hides.extend(hidden);
        }
    }

    /// Makes one segment dead of which nothing is needed; the caller removes it from the disk.
    pub(crate) fn bury_next(&mut self) -> Option<SegmentId> {
        if !self.is_removal_due {
            return None;
        }
        let mut sealed = self.sealed.values();
        let free = sealed.find(|segment| segment.tally.is_free());
        if let Some(segment) = free
            .map(|segment| segment.id)
            .and_then(|id| self.sealed.remove(&id))
        {
            let id = segment.id;
            self.dead.insert(id, segment.bury());
            return Some(id);
        }
        self.is_removal_due = false;
        None
    }

    /// A dead segment is gone from the disk: what hid its records need not stay.
    pub(crate) fn handle_removed(&mut self, id: SegmentId) {
        self.dead.remove(&id);
        let tallies = self.sealed.values_mut().map(|segment| &mut segment.tally);
        for tally in tallies.chain(self.open.iter_mut().map(|segment| &mut segment.tally)) {
            tally.hides.remove(&id);
        }
        self.is_removal_due = true;
    }

    /// A dead segment could not be removed. It is tried again when something else dies.
    pub(crate) fn handle_remove_failed(&mut self, id: SegmentId) {
        if let Some(dead) = self.dead.remove(&id) {
            self.sealed.insert(id, dead.keep());
        }
    }

    fn exists(&self, id: SegmentId) -> bool {
        self.sealed.contains_key(&id)
            || self.dead.contains_key(&id)
            || self.open.as_ref().is_some_and(|open| open.id == id)
    }

    fn tally_mut(&mut self, id: SegmentId) -> Option<&mut Tally> {
        match &mut self.open {
            Some(open) if open.id == id => Some(&mut open.tally),
            _ => self.sealed.get_mut(&id).map(|segment| &mut segment.tally),
        }
    }
}
