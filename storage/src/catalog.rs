//! Index, states and segments together: what a durable record changes.

use cepa_wire::record::{self, Expire, Position};
use cepa_wire::{Mailbox, MessageHash, Timestamp};

use crate::disk::SegmentId;
use crate::index::{Entry, ExpireAt, Index, MessageId};
use crate::segment::Segments;
use crate::state::{self, State, States};

/// What a record changes once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A Store: replaces what was there by this hash (it had expired).
    Insert(Entry),
    /// An Expire.
    SetExpiry(Mailbox, MessageHash, Timestamp, ExpireAt),
    /// A Delete that stands in this segment.
    Remove(Mailbox, MessageHash, SegmentId),
    /// A Store was copied, with this expiry.
    Move {
        mailbox: Mailbox,
        hash: MessageHash,
        from: Position,
        to: Position,
        expiry: Timestamp,
        version: u64,
    },
    /// The Expire that counts for a message was copied.
    MoveExpiry {
        mailbox: Mailbox,
        hash: MessageHash,
        from: ExpireAt,
        to: SegmentId,
        stored_in: SegmentId,
    },
    /// A Delete or an Expire of a message that is gone was copied to the first segment; the
    /// message's Store stands, or stood, in the second.
    Hide(SegmentId, SegmentId),
    /// A State.
    State(state::Key, State),
    /// The State that counts was copied.
    MoveState {
        key: state::Key,
        sequence: u64,
        to: SegmentId,
    },
}

/// What the latest Expire of a message counts as live bytes of its segment: a record for itself.
const EXPIRE_SIZE: u64 = record::footprint(Expire::size(1)) as u64;

/// A State does not expire as messages do.
const NEVER: Timestamp = Timestamp::MAX;

/// Which messages there are, and which segments they need.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) index: Index,
    pub(crate) states: States,
    pub(crate) segments: Segments,
}

impl Catalog {
    pub(crate) fn new(table_key: &[u8; 16]) -> Self {
        Self {
            index: Index::new(table_key),
            states: States::default(),
            segments: Segments::default(),
        }
    }

    /// The message of that hash, if it has not expired.
    pub(crate) fn find_live(
        &self,
        mailbox: Mailbox,
        hash: MessageHash,
        now: Timestamp,
    ) -> Option<(MessageId, Entry)> {
        let found = self.index.find_entry(mailbox, hash)?;
        (found.1.expiry > now).then_some(found)
    }

    /// Makes the change.
    pub(crate) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Insert(entry) => {
                if let Some(old) = self.index.find(entry.mailbox, entry.hash) {
                    self.remove(old);
                }
                self.insert(&entry);
            }
            Effect::SetExpiry(mailbox, hash, expiry, at) => {
                if let Some(id) = self.index.find(mailbox, hash) {
                    self.set_expiry(id, expiry, at);
                }
            }
            Effect::Remove(mailbox, hash, segment) => {
                if let Some(id) = self.index.find(mailbox, hash)
                    && let Some((entry, expire)) = self.index.remove(id)
                {
                    self.release(&entry, expire);
                    self.segments.hide(segment, entry.segment());
                }
            }
            Effect::Move {
                mailbox,
                hash,
                from,
                to,
                expiry,
                version,
            } => {
                self.move_message(mailbox, hash, (from, to), expiry);
                self.segments.note_copy(SegmentId(to.segment), version);
            }
            Effect::MoveExpiry {
                mailbox,
                hash,
                from,
                to,
                stored_in,
            } => {
                if let Some((id, entry)) = self.index.find_entry(mailbox, hash)
                    && self.index.expire_at(id) == Some(from)
                {
                    let at = ExpireAt {
                        segment: to,
                        ..from
                    };
                    self.index.set_expire_at(id, at);
                    self.segments.hold(to, EXPIRE_SIZE, entry.expiry);
                    self.segments.release(from.segment, EXPIRE_SIZE);
                } else {
                    // It expired meanwhile, or moved again: the copy hides what the original did.
                    self.segments.hide(to, stored_in);
                }
            }
            Effect::Hide(by, hidden) => self.segments.hide(by, hidden),
            Effect::State(key, state) => {
                self.insert_state(key, state);
            }
            Effect::MoveState { key, sequence, to } => {
                if let Some(state) = self.states.get(&key)
                    && state.sequence == sequence
                {
                    let (from, size) = (state.segment, state.record_size());
                    self.states.set_segment(&key, to);
                    self.segments.hold(to, size, NEVER);
                    self.segments.release(from, size);
                    // The copy hides what the original did, and the original.
                    self.segments.hide_likewise(to, from);
                }
            }
        }
    }

    /// Adds a message whose hash is not there.
    pub(crate) fn insert(&mut self, entry: &Entry) -> MessageId {
        self.insert_at(None, entry)
    }

    /// The same, when the number of its mailbox is known.
    pub(crate) fn insert_at(&mut self, owner: Option<u32>, entry: &Entry) -> MessageId {
        let size = u64::from(entry.record_size);
        self.segments.hold(entry.segment(), size, entry.expiry);
        self.index.insert_at(owner, entry)
    }

    /// Moves the expiry of a message, as an Expire says.
    pub(crate) fn set_expiry(&mut self, id: MessageId, expiry: Timestamp, at: ExpireAt) {
        self.segments.hold(at.segment, EXPIRE_SIZE, expiry);
        if let Some(old) = self.index.set_expiry(id, expiry, at) {
            self.segments.release(old.segment, EXPIRE_SIZE);
        }
    }

    /// Keeps a State, unless a newer one is there.
    pub(crate) fn insert_state(&mut self, key: state::Key, state: State) {
        self.segments
            .hold(state.segment, state.record_size(), NEVER);
        let Some(older) = self.states.insert(key, state) else {
            return;
        };
        self.segments.release(older.segment, older.record_size());
        if let Some(newest) = self.states.get(&key)
            && newest.sequence != older.sequence
        {
            self.segments.hide(newest.segment, older.segment);
        }
    }

    /// Forgets a State, leaving nothing on the disk.
    pub(crate) fn remove_state(&mut self, key: &state::Key) {
        if let Some(state) = self.states.remove(key) {
            let size = state.record_size();
            self.segments.release(state.segment, size);
        }
    }

    /// Takes out a message that has expired: its record says so by itself.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Entry> {
        let (entry, expire) = self.index.remove(id)?;
        self.release(&entry, expire);
        Some(entry)
    }

    /// Takes out a message whose record stays as if nothing had happened: it is not ours, or could
    /// not be read. If it is stored again and deleted, the Delete must outlive this record too.
    pub(crate) fn abandon(&mut self, id: MessageId) -> Option<Entry> {
        let entry = self.remove(id)?;
        self.segments.mark_stale(entry.segment());
        Some(entry)
    }

    fn release(&mut self, entry: &Entry, expire: Option<ExpireAt>) {
        let size = u64::from(entry.record_size);
        self.segments.release(entry.segment(), size);
        if let Some(ExpireAt { segment, .. }) = expire {
            self.segments.release(segment, EXPIRE_SIZE);
            // It may have been shortened: the Store says a later time.
            self.segments.hide(segment, entry.segment());
        }
    }

    fn move_message(
        &mut self,
        mailbox: Mailbox,
        hash: MessageHash,
        (from, to): (Position, Position),
        expiry: Timestamp,
    ) {
        let Some((id, entry)) = self.index.find_entry(mailbox, hash) else {
            return;
        };
        if entry.position != from {
            return;
        }
        let size = u64::from(entry.record_size);
        let expire = self.index.set_position(id, to, expiry);
        self.segments.hold(SegmentId(to.segment), size, expiry);
        self.segments.release(SegmentId(from.segment), size);
        if let Some(at) = expire {
            self.segments.release(at.segment, EXPIRE_SIZE);
        }
        // Its former place is stale until the segment is gone: the copy has the larger version, so
        // it must stay as long as that, or an older expiry would count again.
        self.segments
            .hide(SegmentId(to.segment), SegmentId(from.segment));
    }
}
