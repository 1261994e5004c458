//! Judging changes: what each writes, and what it will be answered, given the index and what commits
//! under way will make of it.

use cepa_wire::record::{
    self, DELETE_TARGET_COUNT_MAX, Delete, DeleteTarget, EXPIRE_TARGET_COUNT_MAX, Expire,
    ExpireTarget, IndexEncoder, STORE_OVERHEAD, Store, footprint,
};
use cepa_wire::{Mailbox, MessageHash, Timestamp};

use super::change::{
    DeleteAllChange, DeleteChange, ExpireAllChange, ExpireChange, StateChange, StoreChange,
};
use super::commit::Commit;
use super::part::Part;
use super::pending::{Fate, Live, Pendings};
use super::quota;
use crate::catalog::{Catalog, Effect};
use crate::class::Class;
use crate::command::Direction;
use crate::index::{Entry, ExpireAt};
use crate::state::{self, Revocations, State};
use crate::{Outcome, Settings, StoreFault};

/// How judging a change went.
pub(super) enum Verdict {
    /// This is to be answered when the commit is durable.
    Done(Outcome),
    /// A part of it is in the commit; the rest comes next.
    Partly,
    /// The open segment of this class has no room.
    Full(Class),
    /// It can't be judged before the commits under way have ended.
    Wait,
}

/// There is no room in the open segment of a class, or no such segment.
pub(super) struct NoRoom(pub(super) Class);

/// A commit that is being formed, and what it is judged against.
pub(super) struct Former<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) pendings: &'a mut Pendings,
    /// States that commits under way change.
    pub(super) pending_states: &'a mut std::collections::BTreeSet<state::Key>,
    pub(super) next_sequence: &'a mut u64,
    pub(super) commit: &'a mut Commit,
    /// For the headers of fresh segments.
    pub(super) void: (u64, u64),
    pub(super) settings: &'a Settings,
    /// What is no Store may go into a segment of any class.
    pub(super) is_cramped: bool,
    pub(super) now: Timestamp,
}

impl Former<'_> {
    pub(super) const fn sequence(&mut self) -> u64 {
        let sequence = *self.next_sequence;
        *self.next_sequence += 1;
        sequence
    }

    /// The part of a class, with room for a record of so many bytes.
    pub(super) fn room(
        &mut self,
        class: Class,
        size: usize,
        is_store: bool,
    ) -> Result<&mut Part, NoRoom> {
        let mut class = class;
        if self.is_cramped && self.room_in(class, size, is_store).is_err() {
            let mut others = Class::ALL.into_iter();
            let other = others.find(|other| self.room_in(*other, size, is_store).is_ok());
            class = other.unwrap_or(class);
        }
        self.room_in(class, size, is_store)
    }

    fn room_in(&mut self, class: Class, size: usize, is_store: bool) -> Result<&mut Part, NoRoom> {
        let open = self.catalog.segments.open(class).ok_or(NoRoom(class))?;
        let place = self
            .commit
            .parts
            .get_mut(class.number())
            .ok_or(NoRoom(class))?;
        let (used, entries_size) = match place {
            Some(part) => (part.size(), part.index.size()),
            None => (Part::overhead(open), 0),
        };
        let entries_size = entries_size + IndexEncoder::entry_size(size, is_store);
        if !open.fits(used + footprint(size), entries_size) {
            return Err(NoRoom(class));
        }
        Ok(place.get_or_insert_with(|| Part::new(class, open, self.void)))
    }

    /// The message as it will be, if it will not have expired.
    fn find_live(&self, mailbox: Mailbox, hash: MessageHash) -> Option<Live> {
        let live = match self.pendings.get(mailbox, hash) {
            Fate::Live(live) => Some(live),
            Fate::Gone => None,
            Fate::Unchanged => {
                let found = self.catalog.index.find_entry(mailbox, hash);
                found.map(|(_, entry)| Live {
                    namespace: entry.namespace,
                    expiry: entry.expiry,
                    segment: entry.segment(),
                })
            }
        };
        live.filter(|live| live.expiry > self.now)
    }

    pub(super) fn store(&mut self, store: &StoreChange) -> Verdict {
        let Some(live) = self.find_live(store.mailbox, store.hash) else {
            return self.store_new(store);
        };
        let expiry = live.expiry.max(store.expiry);
        if expiry > live.expiry {
            let moved = [(store.hash, Live { expiry, ..live })];
            if let Err(NoRoom(class)) = self.append_expire(store.mailbox, &moved) {
                return Verdict::Full(class);
            }
        }
        Verdict::Done(Outcome::Stored {
            already: true,
            expiry,
        })
    }

    fn store_new(&mut self, store: &StoreChange) -> Verdict {
        let size = STORE_OVERHEAD + store.data.len();
        if !quota::admits(&self.catalog.index, self.settings, store, size as u64) {
            return Verdict::Done(Outcome::Failed(StoreFault::MailboxFull));
        }
        let class = Class::of(store.expiry, self.now);
        let sequence = *self.next_sequence;
        let record = Store {
            mailbox: store.mailbox,
            namespace: store.namespace,
            hash: store.hash,
            sequence,
            version: sequence,
            timestamp: store.timestamp,
            expiry: store.expiry,
            data: &store.data,
        };
        // Never in another class's segment: that is room for what makes room.
        let part = match self.room_in(class, size, true) {
            Ok(part) => part,
            Err(NoRoom(class)) => return Verdict::Full(class),
        };
        let (position, size) = part.append(|at, out| record.encode(at, out));
        *self.next_sequence += 1;
        let entry = Entry {
            mailbox: store.mailbox,
            namespace: store.namespace,
            hash: store.hash,
            timestamp: store.timestamp,
            expiry: store.expiry,
            position,
            record_size: u32::try_from(size).unwrap_or(u32::MAX),
        };
        let live = Live {
            namespace: store.namespace,
            expiry: store.expiry,
            segment: entry.segment(),
        };
        self.set_pending(store.mailbox, store.hash, Some(live));
        self.commit.record_bytes += size as u64;
        self.commit.effects.push(Effect::Insert(entry));
        Verdict::Done(Outcome::Stored {
            already: false,
            expiry: store.expiry,
        })
    }

    /// Appends one record for the next of its hashes that are there, at most as many as a record
    /// takes.
    pub(super) fn delete(&mut self, delete: &mut DeleteChange) -> Verdict {
        let mut judged_count = 0;
        let mut found = Vec::new();
        for hash in delete.hashes.iter().skip(delete.done_count) {
            if found.len() == DELETE_TARGET_COUNT_MAX {
                break;
            }
            judged_count += 1;
            if let Some(live) = self.find_live(delete.mailbox, *hash) {
                found.push((*hash, live));
            }
        }
        if let Err(NoRoom(class)) = self.append_delete(delete.mailbox, &found) {
            return Verdict::Full(class);
        }
        delete.deleted.extend(found.iter().map(|(hash, _)| *hash));
        delete.done_count += judged_count;
        if delete.done_count < delete.hashes.len() {
            return Verdict::Partly;
        }
        Verdict::Done(Outcome::Deleted(core::mem::take(&mut delete.deleted)))
    }

    /// Appends one record for messages that match. `Ok(true)` when no more do.
    pub(super) fn delete_all(&mut self, delete: &mut DeleteAllChange) -> Result<bool, Verdict> {
        if self.pendings.has_mailbox(delete.mailbox) {
            return Err(Verdict::Wait);
        }
        let found = self.collect(
            delete.mailbox,
            delete.scope,
            DELETE_TARGET_COUNT_MAX,
            |entry| {
                Some(entry.hash) != delete.keep
                    && delete.before.is_none_or(|before| entry.timestamp <= before)
            },
        );
        self.append_delete(delete.mailbox, &found)
            .map_err(|NoRoom(class)| Verdict::Full(class))?;
        let deleted = found.iter().map(|(hash, live)| (live.namespace, *hash));
        delete.deleted.extend(deleted);
        delete.is_begun = true;
        Ok(found.len() < DELETE_TARGET_COUNT_MAX)
    }

    /// Appends one record for the next of its targets, at most as many as a record takes.
    pub(super) fn expire(&mut self, expire: &mut ExpireChange) -> Verdict {
        let mut judged_count = 0;
        let mut moved: Vec<(MessageHash, Live)> = Vec::new();
        let mut updated = Vec::new();
        let mut unchanged = Vec::new();
        for (hash, expiry) in expire.targets.iter().skip(expire.done_count) {
            // One that comes twice is judged by what the first made of it: in the next record.
            if moved.len() == EXPIRE_TARGET_COUNT_MAX
                || moved.iter().rev().take(64).any(|(other, _)| other == hash)
            {
                break;
            }
            judged_count += 1;
            let Some(live) = self.find_live(expire.mailbox, *hash) else {
                continue;
            };
            if !expire.direction.allows(live.expiry, *expiry) {
                unchanged.push((*hash, live.expiry));
                continue;
            }
            updated.push((*hash, *expiry));
            if live.expiry != *expiry {
                let expiry = *expiry;
                moved.push((*hash, Live { expiry, ..live }));
            }
        }
        if let Err(NoRoom(class)) = self.append_expire(expire.mailbox, &moved) {
            return Verdict::Full(class);
        }
        expire.done_count += judged_count;
        expire.updated.extend(updated);
        expire.unchanged.extend(unchanged);
        if expire.done_count < expire.targets.len() {
            return Verdict::Partly;
        }
        let done = ExpireChange::new(expire.mailbox, Vec::new(), Direction::Any);
        Verdict::Done(core::mem::replace(expire, done).into_outcome())
    }

    /// Appends one record for messages that live longer. `Ok(true)` when no more do.
    pub(super) fn expire_all(&mut self, expire: &mut ExpireAllChange) -> Result<bool, Verdict> {
        if self.pendings.has_mailbox(expire.mailbox) {
            return Err(Verdict::Wait);
        }
        let expiry = expire.expiry;
        let found = self.collect(
            expire.mailbox,
            expire.scope,
            EXPIRE_TARGET_COUNT_MAX,
            |entry| entry.expiry > expiry,
        );
        let moved: Vec<_> = found
            .iter()
            .map(|(hash, live)| (*hash, Live { expiry, ..*live }))
            .collect();
        self.append_expire(expire.mailbox, &moved)
            .map_err(|NoRoom(class)| Verdict::Full(class))?;
        let updated = found.iter().map(|(hash, live)| (live.namespace, *hash));
        expire.updated.extend(updated);
        expire.is_begun = true;
        Ok(found.len() < EXPIRE_TARGET_COUNT_MAX)
    }

    pub(super) fn state(&mut self, change: &StateChange) -> Verdict {
        let key = change.key();
        if self.pending_states.contains(&key) {
            return Verdict::Wait;
        }
        let old = self.catalog.states.get(&key);
        let old = old.map_or(&[][..], |state| &state.value);
        let (value, outcome) = new_state(change, old, self.now);
        if value == old {
            return Verdict::Done(outcome);
        }
        if value.len() > old.len() && !self.catalog.states.has_room(value.len()) {
            return Verdict::Done(Outcome::Failed(StoreFault::StoreFull));
        }
        let record = record::State {
            mailbox: key.0,
            subject: key.1.0,
            sequence: *self.next_sequence,
            timestamp: self.now,
            value: &value,
        };
        let part = match self.room(Class::LONGEST, record.size(), false) {
            Ok(part) => part,
            Err(NoRoom(class)) => return Verdict::Full(class),
        };
        let (position, size) = part.append(|at, out| record.encode(at, out));
        let state = State {
            sequence: self.sequence(),
            timestamp: self.now,
            segment: crate::disk::SegmentId(position.segment),
            value: value.into_boxed_slice(),
        };
        self.commit.record_bytes += size as u64;
        self.commit.effects.push(Effect::State(key, state));
        self.pending_states.insert(key);
        Verdict::Done(outcome)
    }

    /// Live messages of some boxes that match, at most `count_max`.
    fn collect(
        &self,
        mailbox: Mailbox,
        scope: crate::command::Scope,
        count_max: usize,
        matches: impl Fn(&Entry) -> bool,
    ) -> Vec<(MessageHash, Live)> {
        let index = &self.catalog.index;
        let ids = index.in_scope(mailbox, scope);
        ids.filter_map(|id| index.get(id))
            .filter(|entry| entry.expiry > self.now && matches(entry))
            .take(count_max)
            .map(|entry| {
                let live = Live {
                    namespace: entry.namespace,
                    expiry: entry.expiry,
                    segment: entry.segment(),
                };
                (entry.hash, live)
            })
            .collect()
    }

    /// Appends a Delete of these messages, if there are any.
    fn append_delete(
        &mut self,
        mailbox: Mailbox,
        found: &[(MessageHash, Live)],
    ) -> Result<(), NoRoom> {
        let Some(last_expiry) = found.iter().map(|(_, live)| live.expiry).max() else {
            return Ok(());
        };
        let targets: Vec<_> = found
            .iter()
            .map(|(hash, live)| DeleteTarget {
                hash: *hash,
                segment: live.segment.0,
            })
            .collect();
        let class = Class::of(last_expiry, self.now);
        let sequence = *self.next_sequence;
        let part = self.room(class, Delete::size(targets.len()), false)?;
        let segment = part.segment();
        let (_, size) = part.append(|at, out| Delete::encode(mailbox, sequence, &targets, at, out));
        *self.next_sequence += 1;
        self.commit.record_bytes += size as u64;
        for (hash, _) in found {
            self.set_pending(mailbox, *hash, None);
            let effect = Effect::Remove(mailbox, *hash, segment);
            self.commit.effects.push(effect);
        }
        Ok(())
    }

    /// Appends an Expire that makes of these messages what is given, if there are any.
    fn append_expire(
        &mut self,
        mailbox: Mailbox,
        moved: &[(MessageHash, Live)],
    ) -> Result<(), NoRoom> {
        let Some(last_expiry) = moved.iter().map(|(_, live)| live.expiry).max() else {
            return Ok(());
        };
        let targets: Vec<_> = moved
            .iter()
            .map(|(hash, live)| ExpireTarget {
                hash: *hash,
                segment: live.segment.0,
                expiry: live.expiry,
            })
            .collect();
        let class = Class::of(last_expiry, self.now);
        let sequence = *self.next_sequence;
        let part = self.room(class, Expire::size(targets.len()), false)?;
        let segment = part.segment();
        let (_, size) = part.append(|at, out| Expire::encode(mailbox, sequence, &targets, at, out));
        *self.next_sequence += 1;
        self.commit.record_bytes += size as u64;
        for (hash, live) in moved {
            self.set_pending(mailbox, *hash, Some(*live));
            let at = ExpireAt { segment, sequence };
            let effect = Effect::SetExpiry(mailbox, *hash, live.expiry, at);
            self.commit.effects.push(effect);
        }
        Ok(())
    }

    pub(super) fn set_pending(&mut self, mailbox: Mailbox, hash: MessageHash, state: Option<Live>) {
        let number = self.commit.number;
        self.pendings.set(mailbox, hash, number, state);
    }
}

/// What a change makes of a State, and its answer.
fn new_state(change: &StateChange, old: &[u8], now: Timestamp) -> (Vec<u8>, Outcome) {
    match change {
        StateChange::Revoke(_, tokens) => {
            let mut revocations = Revocations::parse(old);
            let count = revocations.revoke(tokens, now);
            (revocations.encode(), Outcome::Revoked { count })
        }
        StateChange::Unrevoke(_, tokens) => {
            let mut revocations = Revocations::parse(old);
            let count = revocations.unrevoke(tokens);
            (revocations.encode(), Outcome::Revoked { count })
        }
        StateChange::Cursor(_, cursor) => (state::encode_cursor(*cursor), Outcome::CursorKept),
    }
}

/// Namespaces of one mailbox; Session uses about ten.
pub(super) const BOX_COUNT_MAX: u32 = 256;
