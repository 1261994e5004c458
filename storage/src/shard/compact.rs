//! Compaction: what a sealed segment still needs is copied to the log's end, and the segment goes.
//!
//! The policy ([`choose`]) names a segment; the mechanism reads it in chunks, asks of each record
//! whether anything needs it, and gives copies to the committer, which takes them behind what
//! somebody waits for. A copy keeps its sequence number; it is judged when its commit is formed, so
//! that a Delete that comes meanwhile counts.

use bytes::Bytes;
use cepa_wire::Timestamp;
use cepa_wire::record::{
    self, Delete, DeleteTarget, Expire, ExpireTarget, Position, Record, STORE_OVERHEAD, State,
    Store,
};

use super::change::Copy;
use super::judge::{Former, NoRoom};
use super::pending::{Fate, Live};
use super::{Purpose, Shard};
use crate::Disk;
use crate::catalog::Effect;
use crate::class::Class;
use crate::disk::{Access, BLOCK_SIZE, DiskError, Operation, SegmentId};
use crate::index::ExpireAt;
use crate::scan::Scan;
use crate::segment::Facts;
use crate::state::Subject;

/// Bytes that are read at a time.
const CHUNK_SIZE: usize = 256 << 10;

/// A compaction that was given up is tried again after this.
const RETRY_PAUSE: core::time::Duration = core::time::Duration::from_secs(10);

/// A segment of which the last message expires so soon is left to die by itself.
const LIFE_MIN: core::time::Duration = core::time::Duration::from_hours(1);

/// The segment whose copying pays most: the one with the largest dead share, if that is larger than
/// `dead_percent_max` and the rest will not be dead soon anyway. One of which nothing lives, and that
/// must stay because it hides something, is all dead: two such may wait for each other for ever.
pub(super) fn choose(
    segments: impl Iterator<Item = Facts>,
    now: Timestamp,
    dead_percent_max: u8,
) -> Option<SegmentId> {
    let dead_share = |facts: &Facts| {
        let dead = facts.size.saturating_sub(facts.live_size);
        dead * 1000 / facts.size.max(1)
    };
    segments
        .filter(|facts| {
            let lives_on = facts.last_expiry > now.saturating_add(LIFE_MIN);
            facts.is_stuck || lives_on
        })
        .filter(|facts| dead_share(facts) > u64::from(dead_percent_max) * 10)
        .max_by_key(dead_share)
        .map(|facts| facts.id)
}

/// A segment that is being copied.
pub(super) struct Compaction {
    segment: SegmentId,
    scan: Scan,
    /// Copies that are not durable yet.
    copy_count: usize,
    is_reading: bool,
    /// Its records could not all be read.
    is_damaged: bool,
}

impl<D: Disk> Shard<D> {
    /// Begins to compact a segment, if one is worth it, or goes on with the one begun.
    pub(super) fn compact(&mut self) {
        if self.compaction.is_none() && self.is_compaction_due() {
            self.begin_compaction();
        }
        let Some(compaction) = &mut self.compaction else {
            return;
        };
        if compaction.is_reading || compaction.copy_count > 0 {
            return;
        }
        let segment = compaction.segment;
        if !self.catalog.segments.is_readable(segment) {
            // Nothing of it is needed any more, and it is being removed.
            self.compaction = None;
            self.counts.compacted_segment_count += 1;
            return;
        }
        let Some((offset, size)) = compaction.scan.next_read() else {
            let is_damaged = compaction.is_damaged || compaction.scan.is_damaged();
            self.compaction = None;
            self.counts.compacted_segment_count += u64::from(!is_damaged);
            self.catalog.segments.handle_compacted(segment, !is_damaged);
            return;
        };
        compaction.is_reading = true;
        self.catalog.segments.pin(segment);
        let operation = Operation::Read {
            segment,
            offset,
            size,
            access: Access::Sequential,
        };
        self.io.submit(Purpose::Compact(segment), operation);
    }

    /// Looks once a second at most: the policy looks at every segment.
    fn is_compaction_due(&mut self) -> bool {
        let is_due = self.next_compaction <= self.clock;
        if is_due {
            self.next_compaction = self
                .clock
                .saturating_add(core::time::Duration::from_secs(1));
        }
        is_due
    }

    fn begin_compaction(&mut self) {
        let in_flight = self.committer.in_flight.iter();
        if in_flight.map(|commit| commit.copy_count).sum::<usize>() > 0 {
            // Of one that was given up: they would be taken for this one's.
            return;
        }
        let segments = self.catalog.segments.compactable();
        let percent = self.settings.dead_percent_max;
        let Some(segment) = choose(segments, self.clock, percent) else {
            return;
        };
        let Some(end) = self.catalog.segments.data_end(segment) else {
            return;
        };
        // What is moved out of it stays in it until it is gone: whoever deletes it hides it here.
        self.catalog.segments.mark_stale(segment);
        self.compaction = Some(Compaction {
            segment,
            scan: Scan::new(segment, BLOCK_SIZE as u64, end, CHUNK_SIZE),
            copy_count: 0,
            is_reading: false,
            is_damaged: false,
        });
    }

    pub(super) fn handle_compact_read(
        &mut self,
        segment: SegmentId,
        result: Result<Bytes, DiskError>,
    ) {
        self.catalog.segments.unpin(segment);
        let Some(compaction) = &mut self.compaction else {
            return;
        };
        if compaction.segment != segment {
            return;
        }
        compaction.is_reading = false;
        let Ok(bytes) = result else {
            compaction.is_damaged = true;
            compaction.scan.handle_failure();
            return;
        };
        let Some((start, _)) = compaction.scan.next_read() else {
            return;
        };
        let copies = &mut self.committer.copies;
        let mut count = 0;
        compaction
            .scan
            .handle_bytes(&bytes, |record, position, size| {
                if matches!(record, Record::Commit(_) | Record::Index(_)) {
                    return;
                }
                let begin = usize::try_from(position.offset - start).unwrap_or(usize::MAX);
                let end = begin.saturating_add(size).min(bytes.len());
                let bytes = bytes.slice(begin.min(end)..end);
                copies.push_back(Copy { position, bytes });
                count += 1;
            });
        compaction.copy_count += count;
    }

    /// Copies, or what needed none, became durable.
    pub(super) fn handle_copied(&mut self, count: usize) {
        if let Some(compaction) = &mut self.compaction {
            compaction.copy_count = compaction.copy_count.saturating_sub(count);
        }
    }

    /// Gives up for now: the segment stays, and is tried again.
    pub(super) fn abort_compaction(&mut self) {
        self.committer.copies.clear();
        if self.compaction.take().is_some() {
            self.next_compaction = self.clock.saturating_add(RETRY_PAUSE);
        }
    }
}

impl Former<'_> {
    /// Appends a copy of what the record is still needed for, if anything.
    pub(super) fn copy(&mut self, copy: &Copy) -> Result<(), NoRoom> {
        let Ok((record, size)) = record::parse(&copy.bytes, copy.position) else {
            // It was whole when it was read a moment ago.
            return Ok(());
        };
        match record {
            Record::Store(store) => self.copy_store(&store, copy.position, size),
            Record::Expire(expire) => self.copy_expire(&expire, copy.position),
            Record::Delete(delete) => self.copy_delete(&delete, copy.position),
            Record::State(state) => self.copy_state(&state),
            Record::Commit(_) | Record::Index(_) => Ok(()),
        }
    }

    fn copy_store(
        &mut self,
        store: &Store<'_>,
        position: Position,
        size: usize,
    ) -> Result<(), NoRoom> {
        let from = SegmentId(position.segment);
        let found = self.catalog.index.find_entry(store.mailbox, store.hash);
        let Some((_, entry)) = found else {
            return self.shield(store, position);
        };
        if entry.position != position {
            // It stands elsewhere, or was stored anew: that hides from now on what this one hid.
            let effect = Effect::Hide(entry.segment(), from);
            self.commit.effects.push(effect);
            return Ok(());
        }
        let expiry = match self.pendings.get(store.mailbox, store.hash) {
            Fate::Gone => return Ok(()),
            Fate::Live(live) if live.segment != from => {
                // This one expired, and it is being stored anew.
                let effect = Effect::Hide(live.segment, from);
                self.commit.effects.push(effect);
                return Ok(());
            }
            Fate::Live(live) => live.expiry,
            Fate::Unchanged => entry.expiry,
        };
        if expiry <= self.now {
            return self.shield(store, position);
        }
        debug_assert_eq!(size, STORE_OVERHEAD + store.data.len());
        let copy = Store {
            version: *self.next_sequence,
            expiry,
            ..*store
        };
        let part = self.room(Class::of(expiry, self.now), size, true)?;
        let (to, _) = part.append(|at, out| copy.encode(at, out));
        self.sequence();
        self.commit.copied_bytes += size as u64;
        let live = Live {
            namespace: store.namespace,
            expiry,
            segment: SegmentId(to.segment),
        };
        self.set_pending(store.mailbox, store.hash, Some(live));
        self.commit.effects.push(Effect::Move {
            mailbox: store.mailbox,
            hash: store.hash,
            from: position,
            to,
            expiry,
            version: copy.version,
        });
        Ok(())
    }

    /// The message is gone. If an older copy of it may stand in another segment, perhaps with a later
    /// expiry, this record kept that from counting: a Delete of just this message does so from now
    /// on.
    fn shield(&mut self, store: &Store<'_>, position: Position) -> Result<(), NoRoom> {
        let from = SegmentId(position.segment);
        let fate = self.pendings.get(store.mailbox, store.hash);
        if matches!(fate, Fate::Live(_)) || !self.catalog.segments.has_stale(from) {
            return Ok(());
        }
        let target = DeleteTarget {
            hash: store.hash,
            segment: from.0,
        };
        let (mailbox, sequence) = (store.mailbox, *self.next_sequence);
        let part = self.room(Class::of(store.expiry, self.now), Delete::size(1), false)?;
        let to = part.segment();
        let (_, size) =
            part.append(|at, out| Delete::encode(mailbox, sequence, &[target], at, out));
        self.sequence();
        self.commit.copied_bytes += size as u64;
        self.commit.effects.push(Effect::Hide(to, from));
        Ok(())
    }

    /// Keeps the targets that it moved last, and those that are gone and would be back without it.
    fn copy_expire(&mut self, expire: &Expire<'_>, position: Position) -> Result<(), NoRoom> {
        let from = SegmentId(position.segment);
        let at = ExpireAt {
            segment: from,
            sequence: expire.sequence(),
        };
        let mut kept = Vec::new();
        let mut moved = Vec::new();
        for target in expire.targets() {
            let index = &self.catalog.index;
            let found = index.find_entry(expire.mailbox(), target.hash);
            let counts = found.is_some_and(|(id, _)| index.expire_at(id) == Some(at));
            let segment = SegmentId(target.segment);
            // A newer record of the same Store says more. One that was stored anew says nothing of
            // the old Store, which may stand there still.
            let is_superseded = found.is_some_and(|(_, entry)| entry.segment() == segment);
            if counts {
                moved.push(target.hash);
            } else if is_superseded || !self.catalog.segments.hides_something(segment, from) {
                continue;
            }
            kept.push(target);
        }
        let Some(last_expiry) = kept.iter().map(|target| target.expiry).max() else {
            return Ok(());
        };
        let class = Class::of(last_expiry, self.now);
        let (mailbox, sequence) = (expire.mailbox(), expire.sequence());
        let part = self.room(class, Expire::size(kept.len()), false)?;
        let to = part.segment();
        let (_, size) = part.append(|at, out| Expire::encode(mailbox, sequence, &kept, at, out));
        self.commit.copied_bytes += size as u64;
        for ExpireTarget { hash, segment, .. } in kept {
            let effect = if moved.contains(&hash) {
                Effect::MoveExpiry {
                    mailbox,
                    hash,
                    from: at,
                    to,
                    stored_in: SegmentId(segment),
                }
            } else {
                Effect::Hide(to, SegmentId(segment))
            };
            self.commit.effects.push(effect);
        }
        Ok(())
    }

    /// Keeps the targets whose Stores are still on the disk.
    fn copy_delete(&mut self, delete: &Delete<'_>, position: Position) -> Result<(), NoRoom> {
        let from = SegmentId(position.segment);
        let segments = &self.catalog.segments;
        let kept: Vec<DeleteTarget> = delete
            .targets()
            .filter(|target| segments.hides_something(SegmentId(target.segment), from))
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        let (mailbox, sequence) = (delete.mailbox(), delete.sequence());
        let part = self.room(Class::Fortnight, Delete::size(kept.len()), false)?;
        let to = part.segment();
        let (_, size) = part.append(|at, out| Delete::encode(mailbox, sequence, &kept, at, out));
        self.commit.copied_bytes += size as u64;
        for target in kept {
            let effect = Effect::Hide(to, SegmentId(target.segment));
            self.commit.effects.push(effect);
        }
        Ok(())
    }

    fn copy_state(&mut self, state: &State<'_>) -> Result<(), NoRoom> {
        let key = (state.mailbox, Subject(state.subject));
        let current = self.catalog.states.get(&key);
        if current.is_none_or(|current| current.sequence != state.sequence) {
            return Ok(());
        }
        let part = self.room(Class::LONGEST, state.size(), false)?;
        let to = part.segment();
        let (_, size) = part.append(|at, out| state.encode(at, out));
        self.commit.copied_bytes += size as u64;
        self.commit.effects.push(Effect::MoveState {
            key,
            sequence: state.sequence,
            to,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn facts(id: u32, live_size: u64, hours: u64) -> Facts {
        Facts {
            id: SegmentId(id),
            size: 1000,
            live_size,
            last_expiry: NOW.saturating_add(core::time::Duration::from_hours(hours)),
            is_stuck: false,
        }
    }

    #[test]
    fn the_deadest_that_lives_on_is_chosen() {
        let chosen = |facts: &[Facts]| choose(facts.iter().copied(), NOW, 50);
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[facts(1, 500, 99)]), None, "half is not enough");
        assert_eq!(chosen(&[facts(1, 100, 0)]), None, "dies by itself");
        let stuck = Facts {
            is_stuck: true,
            ..facts(1, 0, 0)
        };
        assert_eq!(chosen(&[stuck]), Some(SegmentId(1)));
        let both = [facts(1, 400, 99), facts(2, 300, 99), facts(3, 450, 99)];
        assert_eq!(chosen(&both), Some(SegmentId(2)));
    }
}
