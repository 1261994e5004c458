//! Group commit: what waits when the previous commit ends is the next one.
//!
//! A commit is one write of whole blocks and one sync. It begins at a block's beginning and is
//! padded to a block's end, because a block that holds acknowledged records is never written again:
//! a torn rewrite could destroy them. Its cost is at most 4,095 bytes a commit: a lone message of
//! 100 bytes is written as 4,096; 64 waiting messages of 2 KiB as 34 blocks for 136 KiB, 2 %.
//!
//! Commands are judged when their commit is formed, against the index and what earlier commits in
//! flight will change ([`Commit::pending`]). The index learns of it when the sync has completed,
//! so nothing is shown or answered that is not durable.
//!
//! There is one commit in flight. For more of them, `in_flight` becomes a queue and the look-up goes
//! through every commit's pending changes; the log is ordered, so when one fails all after it do,
//! and `void_from` covers them already.
//!
//! When a write or sync fails, nobody knows what the disk holds. The segment is sealed, and the log
//! is *in doubt* from the failed commit's beginning on, until a new segment's header, which declares
//! that stretch void, is durable. While in doubt no command is answered without a commit: an answer
//! from memory might contradict a Delete that failed here and yet stands on the disk.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cepa_wire::record::{
    self, DELETE_TARGET_COUNT_MAX, Delete, Expire, Position, RECORD_ALIGN, STORE_OVERHEAD,
    SegmentHeader, Store, Target, footprint,
};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use super::{Io, Purpose, Shard, fault};
use crate::catalog::{Catalog, Effect};
use crate::disk::{BLOCK_SIZE, DiskError, Operation, SegmentId};
use crate::index::{Entry, Place};
use crate::segment::Segment;
use crate::{Disk, Outcome, StoreFault, Ticket};

/// A commit takes no further record when it has so many bytes: memory for it is bounded, and the
/// first of its commands does not wait for ever more.
const COMMIT_SIZE_MAX: u64 = 4 << 20;

/// The commands that change something.
pub(super) struct Committer {
    segment_size: u64,
    waiting: VecDeque<(Ticket, Change)>,
    in_flight: Option<Commit>,
    spare: Spare,
    /// `None` when no number is left.
    next_segment: Option<SegmentId>,
    /// Where the log is in doubt from.
    void_from: Option<Position>,
}

pub(super) enum Change {
    Store(StoreChange),
    Delete(DeleteChange),
}

pub(super) struct StoreChange {
    pub(super) mailbox: Mailbox,
    pub(super) namespace: Namespace,
    pub(super) hash: MessageHash,
    pub(super) timestamp: Timestamp,
    pub(super) expiry: Timestamp,
    pub(super) data: Bytes,
}

/// A Delete with more targets than a record takes goes through several, and perhaps several
/// commits.
pub(super) struct DeleteChange {
    mailbox: Mailbox,
    /// Sorted; each once.
    hashes: Vec<MessageHash>,
    /// So many of them are done.
    done_count: usize,
    /// Those of them that were there.
    deleted: Vec<MessageHash>,
}

impl DeleteChange {
    pub(super) fn new(mailbox: Mailbox, mut hashes: Vec<MessageHash>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self {
            mailbox,
            hashes,
            done_count: 0,
            deleted: Vec::new(),
        }
    }
}

/// The segment after the open one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    None,
    /// Waiting commands need it, or it is made ahead.
    Creating {
        is_needed: bool,
    },
    Ready(SegmentId),
    /// It could not be made ahead. It is tried again when it is needed.
    Failed,
}

/// A commit that is being formed or written.
struct Commit {
    position: Position,
    /// Header block, if the segment is fresh, and records.
    data: Vec<u8>,
    written: Bytes,
    record_bytes: u64,
    effects: Vec<Effect>,
    answers: Vec<(Ticket, Outcome)>,
    /// What the hashes that it touches will be: a message with its expiry, or nothing.
    pending: BTreeMap<(Mailbox, MessageHash), Option<(Place, Timestamp)>>,
}

impl Commit {
    fn new(position: Position) -> Self {
        Self {
            position,
            data: Vec::new(),
            written: Bytes::new(),
            record_bytes: 0,
            effects: Vec::new(),
            answers: Vec::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Where the next record will stand.
    const fn next_position(&self) -> Position {
        Position {
            segment: self.position.segment,
            offset: self.position.offset + self.data.len() as u64,
        }
    }

    /// The message as it will be, if it will not have expired.
    fn find_live(
        &self,
        catalog: &Catalog,
        mailbox: Mailbox,
        hash: MessageHash,
        now: Timestamp,
    ) -> Option<(Place, Timestamp)> {
        match self.pending.get(&(mailbox, hash)) {
            Some(pending) => pending.filter(|(_, expiry)| *expiry > now),
            None => catalog.find_live(mailbox, hash, now),
        }
    }
}

impl Committer {
    pub(super) const fn new(segment_size: u64) -> Self {
        Self {
            segment_size,
            waiting: VecDeque::new(),
            in_flight: None,
            spare: Spare::None,
            next_segment: Some(SegmentId(0)),
            void_from: None,
        }
    }

    pub(super) fn enqueue(&mut self, ticket: Ticket, change: Change) {
        self.waiting.push_back((ticket, change));
    }

    /// Sets out from what recovery found.
    pub(super) const fn recover(
        &mut self,
        next_segment: Option<SegmentId>,
        void_from: Option<Position>,
    ) {
        self.next_segment = next_segment;
        self.void_from = void_from;
    }

    /// Whether a commit in flight changes this message.
    pub(super) fn is_pending(&self, mailbox: Mailbox, hash: MessageHash) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|commit| commit.pending.contains_key(&(mailbox, hash)))
    }

    fn create<D: Disk>(&mut self, io: &mut Io<D>, is_needed: bool) -> Result<(), DiskError> {
        let segment = self.next_segment.ok_or(DiskError::Failed)?;
        self.next_segment = segment.0.checked_add(1).map(SegmentId);
        self.spare = Spare::Creating { is_needed };
        let size = self.segment_size;
        io.submit(
            Purpose::Create(segment),
            Operation::Create { segment, size },
        );
        Ok(())
    }

    /// Judges waiting commands in their order and appends what they write to `commit`, until
    /// nothing waits or the next does not fit into `room` bytes.
    fn fill(&mut self, commit: &mut Commit, catalog: &Catalog, room: u64, now: Timestamp) {
        while let Some((ticket, change)) = self.waiting.pop_front() {
            let room = room
                .min(COMMIT_SIZE_MAX)
                .saturating_sub(commit.data.len() as u64);
            match change {
                Change::Store(store) => {
                    let outcome = judge_store(commit, catalog, &store, room, now);
                    let Some(outcome) = outcome else {
                        self.waiting.push_front((ticket, Change::Store(store)));
                        return;
                    };
                    commit.answers.push((ticket, outcome));
                }
                Change::Delete(mut delete) => {
                    let fits = judge_delete(commit, catalog, &mut delete, room, now);
                    if delete.done_count == delete.hashes.len() {
                        let outcome = Outcome::Deleted(delete.deleted);
                        commit.answers.push((ticket, outcome));
                    } else {
                        self.waiting.push_front((ticket, Change::Delete(delete)));
                        if !fits {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// `None` when its record does not fit.
fn judge_store(
    commit: &mut Commit,
    catalog: &Catalog,
    store: &StoreChange,
    room: u64,
    now: Timestamp,
) -> Option<Outcome> {
    let key = (store.mailbox, store.hash);
    let live = commit.find_live(catalog, store.mailbox, store.hash, now);
    let Some((place, current)) = live else {
        let size = STORE_OVERHEAD + store.data.len();
        if footprint(size) as u64 > room {
            return None;
        }
        let place = append_store(commit, store);
        commit.pending.insert(key, Some((place, store.expiry)));
        return Some(Outcome::Stored {
            already: false,
            expiry: store.expiry,
        });
    };
    let expiry = current.max(store.expiry);
    if expiry > current {
        if footprint(Expire::SIZE) as u64 > room {
            return None;
        }
        append_expire(commit, place, store.hash, expiry);
        commit.pending.insert(key, Some((place, expiry)));
    }
    Some(Outcome::Stored {
        already: true,
        expiry,
    })
}

fn append_store(commit: &mut Commit, store: &StoreChange) -> Place {
    let position = commit.next_position();
    let place = Place {
        mailbox: store.mailbox,
        namespace: store.namespace,
        sequence: sequence(position),
    };
    let record = Store {
        mailbox: store.mailbox,
        namespace: store.namespace,
        hash: store.hash,
        sequence: place.sequence,
        timestamp: store.timestamp,
        expiry: store.expiry,
        data: &store.data,
    };
    let size = record.encode(position, &mut commit.data);
    commit.record_bytes += size as u64;
    let entry = Entry {
        hash: store.hash,
        expiry: store.expiry,
        position,
        record_size: u32::try_from(size).unwrap_or(u32::MAX),
        expiry_segment: None,
    };
    commit.effects.push(Effect::Insert(place, entry));
    place
}

/// The position, as a number: ascending in the log, and never given twice, even if a part of the
/// log could not be read when the shard began.
const fn sequence(position: Position) -> u64 {
    ((position.segment as u64) << 32) | (position.offset / RECORD_ALIGN as u64)
}

fn append_expire(commit: &mut Commit, place: Place, hash: MessageHash, expiry: Timestamp) {
    let record = Expire {
        mailbox: place.mailbox,
        target: Target {
            hash,
            sequence: place.sequence,
        },
        expiry,
    };
    let size = record.encode(commit.next_position(), &mut commit.data);
    commit.record_bytes += size as u64;
    let segment = SegmentId(commit.position.segment);
    commit.effects.push(Effect::Raise(place, expiry, segment));
}

/// Appends one record for the next of its hashes that are there, at most as many as a record takes.
/// Tells whether it fitted.
fn judge_delete(
    commit: &mut Commit,
    catalog: &Catalog,
    delete: &mut DeleteChange,
    room: u64,
    now: Timestamp,
) -> bool {
    let mailbox = delete.mailbox;
    let mut judged_count = 0;
    let mut found = Vec::new();
    for hash in delete.hashes.iter().skip(delete.done_count) {
        if found.len() == DELETE_TARGET_COUNT_MAX {
            break;
        }
        judged_count += 1;
        if let Some((place, _)) = commit.find_live(catalog, mailbox, *hash, now) {
            found.push((*hash, place));
        }
    }
    if !found.is_empty() {
        if footprint(Delete::size(found.len())) as u64 > room {
            return false;
        }
        let targets: Vec<_> = found
            .iter()
            .map(|(hash, place)| Target {
                hash: *hash,
                sequence: place.sequence,
            })
            .collect();
        let position = commit.next_position();
        let size = Delete::encode(mailbox, &targets, position, &mut commit.data);
        commit.record_bytes += size as u64;
        let segment = SegmentId(commit.position.segment);
        for (hash, place) in found {
            commit.effects.push(Effect::Remove(place, segment));
            commit.pending.insert((mailbox, hash), None);
            delete.deleted.push(hash);
        }
    }
    delete.done_count += judged_count;
    true
}

impl<D: Disk> Shard<D> {
    /// Forms the next commit from what waits, if none is in flight.
    pub(super) fn begin_commit(&mut self) {
        while self.committer.in_flight.is_none() && !self.committer.waiting.is_empty() {
            let is_in_doubt = self.committer.void_from.is_some();
            if is_in_doubt && self.catalog.segments.open().is_none() && !self.rotate() {
                return;
            }
            let mut commit = self.form_commit();
            if !commit.data.is_empty() {
                self.submit_commit(commit);
            } else if commit.answers.is_empty() {
                // The first that waits does not fit into the open segment.
                if !self.rotate() {
                    return;
                }
            } else {
                // Nothing to write, and everything before is durable.
                self.answer_all(&mut commit.answers);
            }
        }
    }

    fn form_commit(&mut self) -> Commit {
        let open = self.catalog.segments.open();
        let (position, room) = open.map_or_else(
            || (Position::default(), 0),
            |open| (open.tail(), open.room()),
        );
        let mut commit = Commit::new(position);
        if room > 0 && position.offset == 0 {
            let header = SegmentHeader {
                segment: position.segment,
                void_from: self.committer.void_from,
            };
            header.encode(&mut commit.data);
        }
        self.committer
            .fill(&mut commit, &self.catalog, room, self.clock);
        commit
    }

    fn submit_commit(&mut self, mut commit: Commit) {
        let size = commit.data.len().next_multiple_of(BLOCK_SIZE);
        commit.data.resize(size, 0);
        // The tail cache counts the bytes, not the capacity.
        commit.data.shrink_to_fit();
        commit.written = Bytes::from(core::mem::take(&mut commit.data));
        if let Some(open) = self.catalog.segments.open_mut() {
            open.append(size as u64);
        }
        let operation = Operation::Write {
            segment: SegmentId(commit.position.segment),
            offset: commit.position.offset,
            data: commit.written.clone(),
        };
        self.committer.in_flight = Some(commit);
        self.io.submit(Purpose::CommitWrite, operation);
    }

    /// Seals the open segment and opens the spare one. `false` when there is none yet: it is being
    /// made, or the waiting commands were answered that it can't be.
    fn rotate(&mut self) -> bool {
        match self.committer.spare {
            Spare::Ready(id) => {
                let size = self.committer.segment_size;
                self.catalog
                    .segments
                    .rotate(Some(Segment::new(id, size, 0)));
                self.committer.spare = Spare::None;
                return true;
            }
            Spare::Creating { .. } => self.committer.spare = Spare::Creating { is_needed: true },
            Spare::None | Spare::Failed => {
                if let Err(error) = self.committer.create(&mut self.io, true) {
                    self.fail_waiting(fault(error));
                }
            }
        }
        false
    }

    pub(super) fn handle_create(&mut self, segment: SegmentId, result: Result<(), DiskError>) {
        let is_needed = self.committer.spare == Spare::Creating { is_needed: true };
        match result {
            Ok(()) => self.committer.spare = Spare::Ready(segment),
            Err(error) => {
                self.committer.spare = Spare::Failed;
                if is_needed {
                    self.fail_waiting(fault(error));
                }
            }
        }
    }

    pub(super) fn handle_commit_write(&mut self, result: Result<(), DiskError>) {
        let Some(commit) = &self.committer.in_flight else {
            return;
        };
        match result {
            Ok(()) => {
                let segment = SegmentId(commit.position.segment);
                self.io
                    .submit(Purpose::CommitSync, Operation::Sync { segment });
            }
            Err(error) => self.fail_commit(fault(error)),
        }
    }

    pub(super) fn handle_commit_sync(&mut self, result: Result<(), DiskError>) {
        match result {
            Ok(()) => self.finish_commit(),
            Err(error) => self.fail_commit(fault(error)),
        }
    }

    fn finish_commit(&mut self) {
        let Some(mut commit) = self.committer.in_flight.take() else {
            return;
        };
        if let Some(void_from) = self.committer.void_from.take() {
            let by = SegmentId(commit.position.segment);
            let from = SegmentId(void_from.segment);
            self.catalog.segments.hide_range(by, from);
        }
        for effect in commit.effects.drain(..) {
            self.catalog.apply(effect);
        }
        self.counts.commit_count += 1;
        self.counts.record_bytes += commit.record_bytes;
        self.counts.committed_bytes += commit.written.len() as u64;
        self.tail_cache.push(commit.position, commit.written);
        self.answer_all(&mut commit.answers);

        let open = self.catalog.segments.open();
        if self.committer.spare == Spare::None && open.is_some_and(Segment::is_half_full) {
            // Without a number left it fails when it is needed.
            if self.committer.create(&mut self.io, false).is_err() {
                self.committer.spare = Spare::Failed;
            }
        }
    }

    /// What the disk holds of it is unknown: later commits go to a fresh segment that declares it
    /// void.
    fn fail_commit(&mut self, fault: StoreFault) {
        let Some(commit) = self.committer.in_flight.take() else {
            return;
        };
        self.catalog.segments.rotate(None);
        self.committer.void_from.get_or_insert(commit.position);
        for (ticket, _) in commit.answers {
            self.answer(ticket, Outcome::Failed(fault));
        }
        // A Delete that is partly in it can only be the first that waits.
        if let Some((_, Change::Delete(delete))) = self.committer.waiting.front()
            && delete.done_count > 0
            && let Some((ticket, _)) = self.committer.waiting.pop_front()
        {
            self.answer(ticket, Outcome::Failed(fault));
        }
    }

    /// Every command that waits to change something fails.
    pub(super) fn fail_waiting(&mut self, fault: StoreFault) {
        for (ticket, _) in core::mem::take(&mut self.committer.waiting) {
            self.answer(ticket, Outcome::Failed(fault));
        }
    }

    fn answer_all(&mut self, answers: &mut Vec<(Ticket, Outcome)>) {
        for (ticket, outcome) in answers.drain(..) {
            self.answer(ticket, outcome);
        }
    }
}

// The header block of a fresh segment and the largest record fit into one commit.
const _: () = assert!(
    (record::SEGMENT_HEADER_SIZE + footprint(record::RECORD_SIZE_MAX)) as u64 <= COMMIT_SIZE_MAX
);
