//! Segments and their life: open, sealed, dead. What may not happen in a state has no method there.

use std::collections::{BTreeMap, BTreeSet};

use cepa_wire::Timestamp;
use cepa_wire::record::{IndexEncoder, Position, SEGMENT_HEADER_SIZE};

use crate::class::{CLASS_COUNT, Class};
use crate::disk::{BLOCK_SIZE, SegmentId};

const BLOCK: u64 = BLOCK_SIZE as u64;
const _: () = assert!(SEGMENT_HEADER_SIZE == BLOCK_SIZE);

/// Bytes of an index that are written at a time.
pub(crate) const INDEX_SLICE_SIZE: usize = 512 << 10;

/// A segment file.
#[derive(Debug)]
pub(crate) struct Segment<State> {
    id: SegmentId,
    class: Class,
    tally: Tally,
    state: State,
}

/// Records are appended.
#[derive(Debug)]
pub(crate) struct Open {
    size: u64,
    /// Where the next commit begins; a multiple of the block size.
    tail: u64,
    /// What stands there and behind it failed.
    data_end: u64,
    /// Bytes of index entries of all that is in it or on its way there.
    entries_size: usize,
    /// Entries of what is durable.
    index: IndexEncoder,
}

/// Nothing is appended any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Behind the last commit that ended well.
    data_end: u64,
    /// Behind the last commit: where the index goes.
    tail: u64,
    size: u64,
    /// To be written behind the commits; `None` when that was done, or can't be.
    index: Option<IndexEncoder>,
    /// It could not be read whole: copying it would lose something.
    is_damaged: bool,
    /// Copying was tried, and something was left.
    is_exhausted: bool,
}

/// Nothing of it is needed; it is being removed.
#[derive(Debug)]
pub(crate) struct Dead;

/// Why a segment must stay.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Live messages whose Store stands here, those whose latest Expire does, and States.
    live_count: u64,
    /// Bytes of their records.
    live_size: u64,
    /// Operations that have not completed.
    pin_count: u64,
    /// Other segments that hold records which a Delete, an Expire, a State or the void of this
    /// segment hides. While they exist, this one must: else what was deleted would come back.
    hides: BTreeSet<SegmentId>,
    /// When the last of its messages expires, as far as known.
    last_expiry: Timestamp,
    /// Its header declares failed commits void: nobody else can say so.
    has_void: bool,
    /// The version of the newest copy in it.
    newest_copy: u64,
    /// It hides all that was stale when so many had become so.
    stale_seen: u64,
}

impl Tally {
    fn is_free(&self) -> bool {
        self.live_count == 0 && self.pin_count == 0 && self.hides.is_empty()
    }
}

/// What a policy wants to know of a sealed segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) id: SegmentId,
    /// Bytes of its records.
    pub(crate) size: u64,
    /// Bytes of those that are live.
    pub(crate) live_size: u64,
    /// When the last of its messages expires.
    pub(crate) last_expiry: Timestamp,
    /// Nothing of it lives, but it hides what stands in others.
    pub(crate) is_stuck: bool,
}

impl Segment<Open> {
    pub(crate) fn new(id: SegmentId, class: Class, size: u64) -> Self {
        Self::resume(id, class, size, 0, IndexEncoder::default())
    }

    /// A segment that was found with these records, to append behind `tail`.
    pub(crate) fn resume(
        id: SegmentId,
        class: Class,
        size: u64,
        tail: u64,
        index: IndexEncoder,
    ) -> Self {
        assert!(tail.is_multiple_of(BLOCK), "whole blocks");
        assert!(tail <= size, "within the file");
        Self {
            id,
            class,
            tally: Tally::default(),
            state: Open {
                size,
                tail,
                data_end: u64::MAX,
                entries_size: index.size(),
                index,
            },
        }
    }

    pub(crate) const fn id(&self) -> SegmentId {
        self.id
    }

    /// Where the next commit begins.
    pub(crate) const fn tail(&self) -> Position {
        Position {
            segment: self.id.0,
            offset: self.state.tail,
        }
    }

    /// Whether a commit of `size` bytes whose records have index entries of `entries_size` bytes
    /// fits, with the index of everything and the trailer behind it.
    pub(crate) fn fits(&self, size: usize, entries_size: usize) -> bool {
        let entries_size = self.state.entries_size + entries_size;
        let index_size = IndexEncoder::encoded_size_max(entries_size);
        let slice_count = index_size / INDEX_SLICE_SIZE + 2;
        let end = self.state.tail
            + (size as u64).next_multiple_of(BLOCK)
            + (index_size + slice_count * BLOCK_SIZE) as u64
            + BLOCK;
        end <= self.state.size
    }

    /// Whether more than half of it is used.
    pub(crate) const fn is_half_full(&self) -> bool {
        self.state.tail > self.state.size / 2
    }

    /// Gives up a segment that was not opened after all.
    pub(crate) fn into_index(self) -> IndexEncoder {
        self.state.index
    }

    /// Takes the next `size` bytes, whole blocks, for a commit.
    pub(crate) fn append(&mut self, size: u64, entries_size: usize) {
        assert!(size.is_multiple_of(BLOCK), "whole blocks");
        assert!(
            self.state.tail + size <= self.state.size,
            "the caller asked"
        );
        self.state.tail += size;
        self.state.entries_size += entries_size;
    }

    fn seal(self, is_sound: bool) -> Segment<Sealed> {
        let Open {
            tail,
            data_end,
            size,
            index,
            ..
        } = self.state;
        Segment {
            id: self.id,
            class: self.class,
            tally: self.tally,
            state: Sealed {
                data_end: data_end.min(tail),
                tail,
                size,
                index: is_sound.then_some(index),
                is_damaged: !is_sound,
                is_exhausted: false,
            },
        }
    }
}

impl Segment<Sealed> {
    /// Whether copying what lives frees it of everything.
    fn may_be_copied(&self) -> bool {
        let Sealed {
            is_damaged,
            is_exhausted,
            index,
            ..
        } = &self.state;
        let Tally {
            hides, has_void, ..
        } = &self.tally;
        let is_quiet = index.is_none() && self.tally.pin_count == 0;
        let is_readable = !is_damaged && !is_exhausted;
        // Of a void it alone knows.
        let is_sole_witness = *has_void && !hides.is_empty();
        is_quiet && is_readable && !is_sole_witness
    }
}

/// What is to be written to end a sealed segment.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) class: Class,
    pub(crate) data_end: u64,
    /// Where the index begins.
    pub(crate) index_begin: u64,
    pub(crate) size: u64,
    pub(crate) index: IndexEncoder,
}

/// All segments of the log.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    open: [Option<Segment<Open>>; CLASS_COUNT],
    sealed: BTreeMap<SegmentId, Segment<Sealed>>,
    dead: BTreeMap<SegmentId, Segment<Dead>>,
    /// Those that hold Stores whose message is live, or was, at another place: a Delete hides these
    /// as well.
    stale: BTreeSet<SegmentId>,
    /// How often one became stale.
    stale_count: u64,
    /// Whether one may have become removable.
    is_removal_due: bool,
    /// Nothing is removed or copied: what could not be read may change what the rest means.
    keeps_all: bool,
}

impl Segments {
    pub(crate) fn len(&self) -> usize {
        self.open.iter().flatten().count() + self.sealed.len() + self.dead.len()
    }

    pub(crate) fn open(&self, class: Class) -> Option<&Segment<Open>> {
        self.open.get(class.number()).and_then(Option::as_ref)
    }

    pub(crate) fn open_mut(&mut self, class: Class) -> Option<&mut Segment<Open>> {
        self.open.get_mut(class.number()).and_then(Option::as_mut)
    }

    /// Adds the entries of a commit that became durable to the index of its segment.
    pub(crate) fn add_index(&mut self, id: SegmentId, index: IndexEncoder) {
        let mut open = self.open.iter_mut().flatten();
        if let Some(open) = open.find(|open| open.id == id) {
            open.state.index.append(index);
        } else if let Some(sealed) = self.sealed.get_mut(&id)
            && let Some(all) = &mut sealed.state.index
        {
            all.append(index);
        }
    }

    /// Seals the open segment of a class, if there is one, and opens `next`, if there is one. What
    /// is not sound gets no index: it is read whole by the next recovery.
    pub(crate) fn rotate(
        &mut self,
        class: Class,
        next: Option<Segment<Open>>,
        is_sound: bool,
    ) -> Option<SegmentId> {
        let place = self.open.get_mut(class.number())?;
        let open = core::mem::replace(place, next)?;
        let id = open.id;
        self.sealed.insert(id, open.seal(is_sound));
        self.is_removal_due = true;
        Some(id)
    }

    /// What stands there and behind it failed: it is not read again.
    pub(crate) fn cut(&mut self, at: Position) {
        let id = SegmentId(at.segment);
        if let Some(sealed) = self.sealed.get_mut(&id) {
            sealed.state.data_end = sealed.state.data_end.min(at.offset);
        }
        let mut open = self.open.iter_mut().flatten();
        if let Some(open) = open.find(|open| open.id == id) {
            open.state.data_end = open.state.data_end.min(at.offset);
        }
    }

    /// A segment that was found by recovery and is not appended to.
    pub(crate) fn insert_sealed(&mut self, id: SegmentId, size: u64) {
        let segment = Segment {
            id,
            class: Class::LONGEST,
            tally: Tally::default(),
            state: Sealed {
                data_end: size,
                tail: size,
                size,
                index: None,
                is_damaged: false,
                is_exhausted: false,
            },
        };
        self.sealed.insert(id, segment);
        self.is_removal_due = true;
    }

    /// What recovery learned of a sealed segment.
    pub(crate) fn settle_sealed(&mut self, id: SegmentId, ending: Ending, is_damaged: bool) {
        if let Some(sealed) = self.sealed.get_mut(&id) {
            sealed.class = ending.class;
            sealed.state.data_end = ending.data_end;
            sealed.state.tail = ending.index_begin;
            sealed.state.size = ending.size;
            sealed.state.index = (!ending.index.is_empty()).then_some(ending.index);
            sealed.state.is_damaged = is_damaged;
        }
    }

    /// Opens a segment again that recovery found whole.
    pub(crate) fn reopen(&mut self, mut segment: Segment<Open>) {
        if let Some(sealed) = self.sealed.remove(&segment.id) {
            segment.tally = sealed.tally;
            let number = segment.class.number();
            if let Some(place) = self.open.get_mut(number) {
                assert!(place.is_none(), "one of a class is open at a time");
                *place = Some(segment);
            }
        }
    }

    /// A record of so many bytes became needed.
    pub(crate) fn hold(&mut self, id: SegmentId, size: u64, expiry: Timestamp) {
        if let Some(tally) = self.tally_mut(id) {
            tally.live_count += 1;
            tally.live_size += size;
            tally.last_expiry = tally.last_expiry.max(expiry);
        }
    }

    /// A record of this segment is no longer needed.
    pub(crate) fn release(&mut self, id: SegmentId, size: u64) {
        if let Some(tally) = self.tally_mut(id) {
            assert!(tally.live_count > 0, "held before");
            tally.live_count -= 1;
            tally.live_size -= size;
            self.is_removal_due |= tally.is_free();
        }
    }

    /// An operation on this segment began.
    pub(crate) fn pin(&mut self, id: SegmentId) {
        if let Some(tally) = self.tally_mut(id) {
            tally.pin_count += 1;
        }
    }

    /// An operation on this segment ended.
    pub(crate) fn unpin(&mut self, id: SegmentId) {
        if let Some(tally) = self.tally_mut(id) {
            assert!(tally.pin_count > 0, "begun before");
            tally.pin_count -= 1;
            self.is_removal_due |= tally.is_free();
        }
    }

    /// A record of `hidden`, and its copies wherever they are, are hidden by what stands in `by`.
    pub(crate) fn hide(&mut self, by: SegmentId, hidden: SegmentId) {
        self.hide_stale(by);
        if hidden != by
            && self.exists(hidden)
            && let Some(tally) = self.tally_mut(by)
        {
            tally.hides.insert(hidden);
        }
    }

    /// What stands in `by` hides `other`, and whatever that hides.
    pub(crate) fn hide_likewise(&mut self, by: SegmentId, other: SegmentId) {
        let inherited = self.tally_mut(other).map(|tally| tally.hides.clone());
        self.hide(by, other);
        if let Some(tally) = self.tally_mut(by) {
            let inherited = inherited.into_iter().flatten();
            tally.hides.extend(inherited.filter(|hidden| *hidden != by));
        }
    }

    /// What is stale is hidden by what stands in `by`. A commit may ask for thousands of records; only
    /// what became stale since the last time costs something.
    fn hide_stale(&mut self, by: SegmentId) {
        let stale_count = self.stale_count;
        let is_seen = |tally: &mut Tally| tally.stale_seen == stale_count;
        if self.tally_mut(by).is_none_or(is_seen) {
            return;
        }
        let stale = self.stale.iter().copied();
        let others: Vec<_> = stale.filter(|other| *other != by).collect();
        if let Some(tally) = self.tally_mut(by) {
            tally.hides.extend(others);
            tally.stale_seen = stale_count;
        }
    }

    /// The header of `by` declares void what stands in these.
    pub(crate) fn hide_void(&mut self, by: SegmentId, hidden: impl IntoIterator<Item = SegmentId>) {
        let hidden: Vec<_> = hidden
            .into_iter()
            .filter(|hidden| *hidden != by && self.exists(*hidden))
            .collect();
        if let Some(tally) = self.tally_mut(by) {
            tally.has_void = true;
            tally.hides.extend(hidden);
        }
    }

    /// Whether a Delete of a message that stood in `segment` still hides something when `but` is
    /// gone.
    pub(crate) fn hides_something(&self, segment: SegmentId, but: SegmentId) -> bool {
        (segment != but && self.exists(segment)) || self.has_stale(but)
    }

    /// Whether another segment holds Stores of messages that stand, or stood, elsewhere.
    pub(crate) fn has_stale(&self, but: SegmentId) -> bool {
        self.stale.iter().any(|stale| *stale != but)
    }

    /// It holds Stores of messages that stand elsewhere as well.
    pub(crate) fn mark_stale(&mut self, id: SegmentId) {
        if self.exists(id) && self.stale.insert(id) {
            self.stale_count += 1;
        }
    }

    /// What stands in any segment may hide what is stale: for recovery, which does not know better.
    pub(crate) fn hide_stale_from_all(&mut self) {
        let stale = self.stale.clone();
        let tallies = self.sealed.values_mut().map(|one| (one.id, &mut one.tally));
        let open = self.open.iter_mut().flatten();
        for (id, tally) in tallies.chain(open.map(|one| (one.id, &mut one.tally))) {
            tally
                .hides
                .extend(stale.iter().filter(|stale| **stale != id));
        }
    }

    /// Makes one segment dead of which nothing is needed; the caller removes it from the disk.
    pub(crate) fn bury_next(&mut self) -> Option<SegmentId> {
        if !self.is_removal_due || self.keeps_all {
            return None;
        }
        let mut sealed = self.sealed.values();
        let free = sealed.find(|segment| segment.tally.is_free());
        if let Some(segment) = free
            .map(|segment| segment.id)
            .and_then(|id| self.sealed.remove(&id))
        {
            let id = segment.id;
            let dead = Segment {
                id,
                class: segment.class,
                tally: segment.tally,
                state: Dead,
            };
            self.dead.insert(id, dead);
            return Some(id);
        }
        self.is_removal_due = false;
        None
    }

    /// Something could not be read, which may change what the rest means. Nothing is removed or
    /// copied until the next recovery, which may read it, or until room is needed.
    pub(crate) const fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Room is needed.
    pub(crate) const fn keep_no_more(&mut self) {
        self.keeps_all = false;
        self.is_removal_due = true;
    }

    /// A dead segment is gone from the disk: what hid its records need not stay.
    pub(crate) fn handle_removed(&mut self, id: SegmentId) {
        self.dead.remove(&id);
        self.stale.remove(&id);
        let tallies = self.sealed.values_mut().map(|segment| &mut segment.tally);
        let open = self.open.iter_mut().flatten();
        for tally in tallies.chain(open.map(|segment| &mut segment.tally)) {
            tally.hides.remove(&id);
        }
        self.is_removal_due = true;
    }

    /// A dead segment could not be removed. It is tried again when something else dies.
    pub(crate) fn handle_remove_failed(&mut self, id: SegmentId) {
        if let Some(dead) = self.dead.remove(&id) {
            let sealed = Segment {
                id,
                class: dead.class,
                tally: dead.tally,
                state: Sealed {
                    data_end: 0,
                    tail: 0,
                    size: 0,
                    index: None,
                    is_damaged: false,
                    is_exhausted: true,
                },
            };
            self.sealed.insert(id, sealed);
        }
    }

    /// A sealed segment that waits for its index to be written and is pinned by nothing.
    pub(crate) fn take_ending(&mut self) -> Option<(SegmentId, Ending)> {
        let mut sealed = self.sealed.values_mut();
        let one = sealed.find(|one| one.state.index.is_some() && one.tally.pin_count == 0)?;
        let index = one.state.index.take()?;
        Some((
            one.id,
            Ending {
                class: one.class,
                data_end: one.state.data_end,
                index_begin: one.state.tail,
                size: one.state.size,
                index,
            },
        ))
    }

    /// Sealed segments that may be copied elsewhere.
    pub(crate) fn compactable(&self) -> impl Iterator<Item = Facts> {
        let sealed = self.sealed.values();
        let able = sealed.filter(|one| one.may_be_copied() && !self.keeps_all);
        able.map(|one| Facts {
            id: one.id,
            size: one.state.data_end,
            live_size: one.tally.live_size,
            last_expiry: one.tally.last_expiry,
            is_stuck: one.tally.live_count == 0,
        })
    }

    /// Copying it is done. If all of it could be read, what it hid is hidden by the copies now.
    pub(crate) fn handle_compacted(&mut self, id: SegmentId, is_whole: bool) {
        if let Some(sealed) = self.sealed.get_mut(&id) {
            sealed.state.is_exhausted = true;
            if is_whole && !sealed.tally.has_void {
                sealed.tally.hides.clear();
            }
        }
        self.is_removal_due = true;
    }

    /// A copy of this version stands there.
    pub(crate) fn note_copy(&mut self, id: SegmentId, version: u64) {
        if let Some(tally) = self.tally_mut(id) {
            tally.newest_copy = tally.newest_copy.max(version);
        }
    }

    /// The version of the newest copy that there is.
    pub(crate) fn newest_copy(&self) -> u64 {
        let sealed = self.sealed.values().map(|one| one.tally.newest_copy);
        let open = self.open.iter().flatten().map(|one| one.tally.newest_copy);
        sealed.chain(open).max().unwrap_or(0)
    }

    /// The next segment from `id` on that a live message stands in, or a copy of this version or a
    /// newer one unless it is zero, and where its records end.
    pub(crate) fn next_live(&self, id: SegmentId, since: u64) -> Option<(SegmentId, u64)> {
        let is_wanted = |tally: &Tally| tally.live_count > 0 && tally.newest_copy >= since;
        let sealed = self.sealed.range(id..).map(|(id, one)| (*id, one));
        let sealed = sealed
            .filter(|(_, one)| is_wanted(&one.tally))
            .map(|(id, one)| (id, one.state.data_end))
            .next();
        let open = self.open.iter().flatten();
        open.filter(|one| one.id >= id && is_wanted(&one.tally))
            .map(|one| (one.id, one.state.tail))
            .chain(sealed)
            .min()
    }

    /// Where its records end.
    pub(crate) fn data_end(&self, id: SegmentId) -> Option<u64> {
        self.sealed.get(&id).map(|sealed| sealed.state.data_end)
    }

    /// Whether it is there and not about to be removed.
    pub(crate) fn is_readable(&self, id: SegmentId) -> bool {
        self.sealed.contains_key(&id) || self.open.iter().flatten().any(|open| open.id == id)
    }

    fn exists(&self, id: SegmentId) -> bool {
        self.sealed.contains_key(&id)
            || self.dead.contains_key(&id)
            || self.open.iter().flatten().any(|open| open.id == id)
    }

    fn tally_mut(&mut self, id: SegmentId) -> Option<&mut Tally> {
        if let Some(sealed) = self.sealed.get_mut(&id) {
            return Some(&mut sealed.tally);
        }
        let mut open = self.open.iter_mut().flatten();
        open.find(|open| open.id == id).map(|open| &mut open.tally)
    }
}
