//! Group commit: what waits when a commit may begin is the next one.
//!
//! A commit writes into the open segment of each class that it has records for: whole blocks, from a
//! block's beginning on, because a block that holds acknowledged records is never written again: a
//! torn rewrite could destroy them. Its cost is at most 4,095 bytes a segment and commit.
//!
//! Several commits are under way at a time; there is no timer. Changes are judged when their commit
//! is formed, against the index and what commits under way will make of it ([`Pendings`]). The index
//! learns of a commit when it and every one before it are durable, so nothing is shown or answered
//! that is not, or that rests on something that is not.
//!
//! When a write fails, nobody knows what the disk holds. Every commit under way fails with it, the
//! open segments are sealed, and the log is *in doubt* until a commit to a fresh segment, whose
//! header declares the failed sequence numbers void, is durable. While in doubt one commit is under
//! way at a time, and no change is answered without one: an answer from memory might contradict a
//! Delete that failed here and yet stands on the disk.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::change::{Change, Copy, DeleteAllChange};
use super::judge::{Former, NoRoom, Verdict};
use super::part::Part;
use super::pending::Pendings;
use super::spare::{Rotation, Spare};
use super::{Purpose, Shard, fault};
use crate::catalog::Effect;
use crate::class::{CLASS_COUNT, Class};
use crate::disk::{DiskError, Operation, SegmentId};
use crate::settings::Durability;
use crate::{Disk, Outcome, Settings, StoreFault, Ticket, state};

/// A commit takes no further change when it has so many bytes: memory for it is bounded, and the
/// first of its commands does not wait for ever more.
const COMMIT_SIZE_MAX: usize = 1 << 20;

/// Nor when it changes so many messages: to judge and to apply them takes a millisecond.
const EFFECT_COUNT_MAX: usize = 2048;

/// Of which so many may be copies: they come behind what somebody waits for.
const COPY_SIZE_MAX: usize = 256 << 10;

/// The commands that change something.
pub(super) struct Committer {
    pub(super) waiting: VecDeque<(Ticket, Change)>,
    /// From compaction.
    pub(super) copies: VecDeque<Copy>,
    pub(super) in_flight: VecDeque<Commit>,
    pub(super) pendings: Pendings,
    pending_states: BTreeSet<state::Key>,
    pub(super) spare: Spare,
    /// `None` when no number is left.
    pub(super) next_segment: Option<SegmentId>,
    pub(super) next_sequence: u64,
    next_commit: u64,
    doubt: Option<Doubt>,
    /// There is no segment more: Deletes, Expires and copies go into that of any class.
    pub(super) is_cramped: bool,
    /// Records with smaller numbers are durable, when answers do not wait for that.
    pub(super) synced: u64,
}

/// What failed and is not yet void.
struct Doubt {
    /// The first sequence number.
    from: u64,
    /// Where it may stand.
    segments: BTreeSet<SegmentId>,
}

/// A commit that is being formed or written.
pub(super) struct Commit {
    pub(super) number: u64,
    first_sequence: u64,
    pub(super) parts: [Option<Part>; CLASS_COUNT],
    written: Vec<Written>,
    pub(super) record_bytes: u64,
    pub(super) copied_bytes: u64,
    pub(super) effects: Vec<Effect>,
    answers: Vec<(Ticket, Outcome)>,
    /// Writes that have not completed.
    outstanding: usize,
    fault: Option<DiskError>,
    /// Declares void what failed before.
    resolves_doubt: bool,
    /// Copies in it.
    pub(super) copy_count: usize,
    /// Its writes are durable when they complete.
    is_durable: bool,
}

/// A part that is being written.
struct Written {
    part: Part,
    data: Bytes,
}

/// Why no more changes were taken into a commit.
enum Stop {
    /// Nothing more waits.
    Empty,
    /// The next does not fit into the open segment of a class. Whether it is a Store.
    Full(Class, bool),
    /// The next waits for commits under way.
    Wait,
    /// The commit is large enough.
    Large,
}

impl Commit {
    fn new(number: u64, first_sequence: u64) -> Self {
        Self {
            number,
            first_sequence,
            parts: [const { None }; CLASS_COUNT],
            written: Vec::new(),
            record_bytes: 0,
            copied_bytes: 0,
            effects: Vec::new(),
            answers: Vec::new(),
            outstanding: 0,
            fault: None,
            resolves_doubt: false,
            copy_count: 0,
            is_durable: false,
        }
    }

    /// Where what it writes into a segment begins.
    pub(super) fn begin_in(&self, segment: SegmentId) -> Option<u64> {
        let parts = self.written.iter().map(|written| &written.part);
        let mut here = parts.filter(|part| part.segment() == segment);
        here.next().map(|part| part.position.offset)
    }

    fn size(&self) -> usize {
        self.parts.iter().flatten().map(Part::size).sum()
    }

    fn is_empty(&self) -> bool {
        self.parts.iter().all(Option::is_none)
    }

    fn has_room(&self) -> bool {
        self.size() < COMMIT_SIZE_MAX && self.effects.len() < EFFECT_COUNT_MAX
    }
}

impl Committer {
    pub(super) fn new(table_key: &[u8; 16]) -> Self {
        Self {
            waiting: VecDeque::new(),
            copies: VecDeque::new(),
            in_flight: VecDeque::new(),
            pendings: Pendings::new(table_key),
            pending_states: BTreeSet::new(),
            spare: Spare::None,
            next_segment: Some(SegmentId(0)),
            next_sequence: 1,
            next_commit: 0,
            doubt: None,
            is_cramped: false,
            synced: 0,
        }
    }

    /// Sets out from what recovery found.
    pub(super) const fn recover(&mut self, next_segment: Option<SegmentId>, next_sequence: u64) {
        self.next_segment = next_segment;
        self.next_sequence = next_sequence;
        self.synced = next_sequence;
    }

    /// What was answered and may not be durable yet begins here.
    pub(super) fn first_unsettled(&self) -> u64 {
        let first = self.in_flight.front();
        first.map_or(self.next_sequence, |commit| commit.first_sequence)
    }

    /// Whether something failed and is not yet void.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.copies.is_empty()
    }

    fn may_begin(&self, settings: &Settings) -> bool {
        let count_max = if self.doubt.is_some() {
            1
        } else {
            settings.commit_count_max
        };
        let has_failed = self.in_flight.iter().any(|commit| commit.fault.is_some());
        !self.is_idle() && !has_failed && self.in_flight.len() < count_max
    }
}

/// Judges waiting changes in their order until nothing waits or the next can't be taken.
fn fill(former: &mut Former<'_>, waiting: &mut VecDeque<(Ticket, Change)>) -> Stop {
    while former.commit.has_room() {
        let Some((ticket, mut change)) = waiting.pop_front() else {
            return Stop::Empty;
        };
        let verdict = judge(former, &mut change);
        match (verdict, change) {
            (Verdict::Done(outcome @ Outcome::Stored { .. }), Change::Store(store))
                if store.namespace.is_public_outbox() =>
            {
                // The others go when this one is durable, so that a crash leaves one of them.
                let replace = DeleteAllChange::replace(&store, outcome);
                waiting.push_front((ticket, Change::DeleteAll(replace)));
            }
            (Verdict::Done(outcome), _) => former.commit.answers.push((ticket, outcome)),
            (Verdict::Partly, change) => waiting.push_front((ticket, change)),
            (Verdict::Full(class), change) => {
                let is_store = matches!(change, Change::Store(_));
                waiting.push_front((ticket, change));
                return Stop::Full(class, is_store);
            }
            (Verdict::Wait, change) => {
                waiting.push_front((ticket, change));
                return Stop::Wait;
            }
        }
    }
    Stop::Large
}

fn judge(former: &mut Former<'_>, change: &mut Change) -> Verdict {
    match change {
        Change::Store(store) => former.store(store),
        Change::Delete(delete) => former.delete(delete),
        Change::Expire(expire) => former.expire(expire),
        Change::State(state) => former.state(state),
        Change::DeleteAll(delete) => match former.delete_all(delete) {
            Ok(true) => {
                let empty = DeleteAllChange::new(delete.mailbox, delete.scope, None);
                Verdict::Done(core::mem::replace(delete, empty).into_outcome())
            }
            Ok(false) => Verdict::Partly,
            Err(verdict) => verdict,
        },
        Change::ExpireAll(expire) => match former.expire_all(expire) {
            Ok(true) => {
                let empty = super::change::ExpireAllChange::new(
                    expire.mailbox,
                    expire.scope,
                    expire.expiry,
                );
                Verdict::Done(core::mem::replace(expire, empty).into_outcome())
            }
            Ok(false) => Verdict::Partly,
            Err(verdict) => verdict,
        },
    }
}

impl<D: Disk> Shard<D> {
    /// Forms commits from what waits, as many as may be under way.
    pub(super) fn begin_commits(&mut self) {
        while self.committer.may_begin(&self.settings) {
            let is_in_doubt = self.committer.doubt.is_some();
            if is_in_doubt && self.catalog.segments.open(Class::LONGEST).is_none() {
                // For the commit that says what is void, whatever else it has.
                match self.rotate_for_doubt() {
                    Rotation::Done => {}
                    Rotation::Creating => return,
                    Rotation::Refused(fault) => return self.fail_waiting(fault),
                }
            }
            let (commit, stop) = self.form_commit();
            let has_records = !commit.is_empty();
            // Or copies that nothing needed any more.
            let has_answers = !commit.answers.is_empty() || commit.copy_count > 0;
            if has_records {
                self.submit_commit(commit);
            } else if has_answers {
                // Nothing to write, but it rests on the commits under way: it ends behind them.
                self.committer.in_flight.push_back(commit);
                self.settle_commits();
            }
            match stop {
                Stop::Full(class, is_store) if !has_records && !has_answers => {
                    match self.rotate(class, is_store) {
                        Rotation::Done => {}
                        Rotation::Creating => return,
                        // What makes room goes wherever there is some.
                        Rotation::Refused(StoreFault::StoreFull)
                            if !is_store && !self.committer.is_cramped =>
                        {
                            self.committer.is_cramped = true;
                        }
                        Rotation::Refused(fault) => self.refuse_first(is_store, fault),
                    }
                }
                Stop::Wait if !has_records => return,
                // Copies wait until nothing is in doubt.
                Stop::Empty if !has_records && !has_answers => return,
                _ => {}
            }
        }
    }

    fn form_commit(&mut self) -> (Commit, Stop) {
        let Self {
            committer,
            catalog,
            settings,
            clock,
            ..
        } = self;
        let next = committer.next_sequence;
        let mut commit = Commit::new(committer.next_commit, next);
        committer.next_commit += 1;
        let void = committer
            .doubt
            .as_ref()
            .map_or((0, 0), |doubt| (doubt.from, next));
        let is_in_doubt = committer.doubt.is_some();
        commit.resolves_doubt = is_in_doubt;
        let mut former = Former {
            catalog,
            pendings: &mut committer.pendings,
            pending_states: &mut committer.pending_states,
            next_sequence: &mut committer.next_sequence,
            commit: &mut commit,
            void,
            settings,
            is_cramped: committer.is_cramped,
            now: *clock,
        };
        let mut stop = fill(&mut former, &mut committer.waiting);
        if !is_in_doubt && matches!(stop, Stop::Empty | Stop::Large) {
            let copies = &mut committer.copies;
            if let Some(class) = fill_copies(&mut former, copies) {
                stop = Stop::Full(class, false);
            }
        }
        if is_in_doubt && former.commit.is_empty() && !former.commit.answers.is_empty() {
            // Answers need a commit now, if only one that says what is void. The segment is fresh,
            // so there is room.
            drop(former.room(Class::LONGEST, 0, true));
        }
        (commit, stop)
    }

    fn submit_commit(&mut self, mut commit: Commit) {
        let has_copies = commit.copy_count > 0;
        let is_durable = has_copies || self.settings.durability == Durability::Durable;
        commit.is_durable = is_durable;
        let settled = match self.settings.durability {
            Durability::Durable => self.committer.first_unsettled().min(commit.first_sequence),
            Durability::Relaxed(_) => self.committer.synced,
        };
        for part in core::mem::take(&mut commit.parts).into_iter().flatten() {
            let mut part = part;
            let segment = part.segment();
            let data = part.finish(commit.first_sequence, settled);
            if let Some(open) = self.catalog.segments.open_mut(part.class) {
                open.append(data.len() as u64, part.index.size());
            }
            // Once for the write, once until the commit has ended.
            self.catalog.segments.pin(segment);
            self.catalog.segments.pin(segment);
            let operation = Operation::Write {
                segment,
                offset: part.position.offset,
                data: data.clone(),
                is_durable,
            };
            let purpose = Purpose::CommitWrite(commit.number, segment);
            self.io.submit(purpose, operation);
            commit.outstanding += 1;
            commit.written.push(Written { part, data });
        }
        self.committer.in_flight.push_back(commit);
    }

    pub(super) fn handle_commit_write(
        &mut self,
        number: u64,
        segment: SegmentId,
        result: Result<(), DiskError>,
    ) {
        self.catalog.segments.unpin(segment);
        let mut in_flight = self.committer.in_flight.iter_mut();
        // One that is not there failed with another; what its write did is void.
        let Some(commit) = in_flight.find(|commit| commit.number == number) else {
            return;
        };
        commit.outstanding -= 1;
        commit.fault = commit.fault.or_else(|| result.err());
        if !commit.is_durable {
            // Now, and not when it was submitted: a sync covers what had been written before.
            self.relaxed.handle_written(segment, self.clock);
        }
        self.settle_commits();
    }

    /// Ends commits that are written, in their order.
    fn settle_commits(&mut self) {
        while let Some(commit) = self.committer.in_flight.front() {
            if commit.outstanding > 0 {
                return;
            }
            match commit.fault {
                None => self.finish_commit(),
                Some(error) => self.fail_commits(fault(error)),
            }
        }
    }

    fn finish_commit(&mut self) {
        let Some(mut commit) = self.committer.in_flight.pop_front() else {
            return;
        };
        if commit.resolves_doubt
            && let Some(doubt) = self.committer.doubt.take()
        {
            let fresh = commit.written.iter().map(|written| &written.part);
            for part in fresh.filter(|part| part.position.offset == 0) {
                let segments = doubt.segments.iter().copied();
                self.catalog.segments.hide_void(part.segment(), segments);
            }
        }
        let has_stored = |effect: &Effect| matches!(effect, Effect::Insert(_));
        if commit.effects.iter().any(has_stored) {
            self.last_fault = None;
        }
        for effect in commit.effects.drain(..) {
            settle_pending(&mut self.committer, &effect, commit.number);
            self.catalog.apply(effect);
        }
        if !commit.written.is_empty() {
            self.counts.commit_count += 1;
            self.counts.count_changes(commit.answers.len());
        }
        self.counts.record_bytes += commit.record_bytes;
        self.counts.copied_bytes += commit.copied_bytes;
        for Written { part, data } in commit.written {
            self.counts.committed_bytes += data.len() as u64;
            let (segment, position) = (part.segment(), part.position);
            self.catalog.segments.add_index(segment, part.index);
            self.catalog.segments.unpin(segment);
            self.tail_cache.push(position, data);
        }
        self.handle_copied(commit.copy_count);
        for (ticket, outcome) in commit.answers {
            self.answer(ticket, outcome);
        }
        self.make_spare();
    }

    /// What the disk holds of the commits under way is unknown: later ones go to fresh segments
    /// that declare them void.
    fn fail_commits(&mut self, fault: StoreFault) {
        let commits = core::mem::take(&mut self.committer.in_flight);
        let mut doubt = self.committer.doubt.take().unwrap_or_else(|| Doubt {
            from: u64::MAX,
            segments: BTreeSet::new(),
        });
        for commit in commits {
            doubt.from = doubt.from.min(commit.first_sequence);
            for Written { part, .. } in commit.written {
                doubt.segments.insert(part.segment());
                self.catalog.segments.cut(part.position);
                self.catalog.segments.unpin(part.segment());
            }
            for (ticket, _) in commit.answers {
                self.answer(ticket, Outcome::Failed(fault));
            }
        }
        self.last_fault = Some(fault);
        self.committer.pendings.clear();
        self.committer.pending_states.clear();
        for class in Class::ALL {
            self.catalog.segments.rotate(class, None, true);
        }
        self.committer.doubt = Some(doubt);
        self.abort_compaction();
        // One that is partly in them can only be the first that waits.
        let mut waiting = self.committer.waiting.iter();
        if waiting.next().is_some_and(|(_, change)| change.is_begun())
            && let Some((ticket, _)) = self.committer.waiting.pop_front()
        {
            self.answer(ticket, Outcome::Failed(fault));
        }
    }

    /// There is no segment for the first that waits.
    fn refuse_first(&mut self, is_store: bool, fault: StoreFault) {
        self.last_fault = Some(fault);
        if fault != StoreFault::StoreFull {
            self.fail_waiting(fault);
        } else if let Some((ticket, _)) = self.committer.waiting.pop_front() {
            self.answer(ticket, Outcome::Failed(fault));
        } else if !is_store {
            self.abort_compaction();
        }
    }

    /// Every command that waits to change something fails.
    pub(super) fn fail_waiting(&mut self, fault: StoreFault) {
        self.last_fault = Some(fault);
        for (ticket, _) in core::mem::take(&mut self.committer.waiting) {
            self.answer(ticket, Outcome::Failed(fault));
        }
        self.abort_compaction();
    }

    /// Whether a commit under way changes this message.
    pub(super) fn is_pending(
        &self,
        mailbox: cepa_wire::Mailbox,
        hash: cepa_wire::MessageHash,
    ) -> bool {
        self.committer.pendings.contains(mailbox, hash)
    }
}

/// Takes copies into the commit; gives the class that has no room for the next.
fn fill_copies(former: &mut Former<'_>, copies: &mut VecDeque<Copy>) -> Option<Class> {
    let begin = former.commit.size();
    while former.commit.size() < begin + COPY_SIZE_MAX
        && former.commit.effects.len() < 2 * EFFECT_COUNT_MAX
    {
        let copy = copies.pop_front()?;
        if let Err(NoRoom(class)) = former.copy(&copy) {
            copies.push_front(copy);
            return Some(class);
        }
        former.commit.copy_count += 1;
    }
    None
}

fn settle_pending(committer: &mut Committer, effect: &Effect, number: u64) {
    match effect {
        Effect::Insert(entry) => {
            committer.pendings.settle(entry.mailbox, entry.hash, number);
        }
        Effect::SetExpiry(mailbox, hash, ..)
        | Effect::Remove(mailbox, hash, _)
        | Effect::Move { mailbox, hash, .. }
        | Effect::MoveExpiry { mailbox, hash, .. } => {
            committer.pendings.settle(*mailbox, *hash, number);
        }
        Effect::State(key, _) => {
            committer.pending_states.remove(key);
        }
        // A copy changes nothing that another change would have to wait for.
        Effect::MoveState { .. } | Effect::Hide(..) => {}
    }
}
