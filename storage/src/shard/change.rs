//! The commands that change something, and how far they are. One that needs more records than a
//! commit takes goes through several; it stays at the head of the queue meanwhile.

use bytes::Bytes;
use cepa_wire::record::Position;
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};

use crate::Outcome;
use crate::command::{Direction, DumpCursor, Scope};
use crate::state;

pub(super) enum Change {
    Store(StoreChange),
    Delete(DeleteChange),
    DeleteAll(DeleteAllChange),
    Expire(ExpireChange),
    ExpireAll(ExpireAllChange),
    State(StateChange),
}

impl Change {
    /// Whether a part of it is in a commit already.
    pub(super) const fn is_begun(&self) -> bool {
        match self {
            Self::Store(_) | Self::State(_) => false,
            Self::Delete(change) => change.done_count > 0,
            Self::DeleteAll(change) => change.is_begun,
            Self::Expire(change) => change.done_count > 0,
            Self::ExpireAll(change) => change.is_begun,
        }
    }
}

pub(super) struct StoreChange {
    pub(super) mailbox: Mailbox,
    pub(super) namespace: Namespace,
    pub(super) hash: MessageHash,
    pub(super) timestamp: Timestamp,
    pub(super) expiry: Timestamp,
    pub(super) data: Bytes,
}

pub(super) struct DeleteChange {
    pub(super) mailbox: Mailbox,
    /// Sorted; each once.
    pub(super) hashes: Vec<MessageHash>,
    /// So many of them are done.
    pub(super) done_count: usize,
    /// Those of them that were there.
    pub(super) deleted: Vec<MessageHash>,
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

/// Deletes whatever matches until nothing does.
pub(super) struct DeleteAllChange {
    pub(super) mailbox: Mailbox,
    pub(super) scope: Scope,
    pub(super) before: Option<Timestamp>,
    /// Not this one: the message of an outbox that replaces the others.
    pub(super) keep: Option<MessageHash>,
    pub(super) deleted: Vec<(Namespace, MessageHash)>,
    pub(super) is_begun: bool,
    /// What to answer when it is done, if not what was deleted.
    pub(super) outcome: Option<Outcome>,
}

impl DeleteAllChange {
    pub(super) const fn new(mailbox: Mailbox, scope: Scope, before: Option<Timestamp>) -> Self {
        Self {
            mailbox,
            scope,
            before,
            keep: None,
            deleted: Vec::new(),
            is_begun: false,
            outcome: None,
        }
    }

    /// What follows the store of a message into a public outbox.
    pub(super) const fn replace(store: &StoreChange, outcome: Outcome) -> Self {
        Self {
            mailbox: store.mailbox,
            scope: Scope::One(store.namespace),
            before: None,
            keep: Some(store.hash),
            deleted: Vec::new(),
            is_begun: true,
            outcome: Some(outcome),
        }
    }

    pub(super) fn into_outcome(mut self) -> Outcome {
        self.outcome.take().unwrap_or_else(|| {
            self.deleted.sort_unstable();
            Outcome::DeletedAll(self.deleted)
        })
    }
}

pub(super) struct ExpireChange {
    pub(super) mailbox: Mailbox,
    pub(super) targets: Vec<(MessageHash, Timestamp)>,
    pub(super) direction: Direction,
    pub(super) done_count: usize,
    pub(super) updated: Vec<(MessageHash, Timestamp)>,
    pub(super) unchanged: Vec<(MessageHash, Timestamp)>,
}

impl ExpireChange {
    pub(super) const fn new(
        mailbox: Mailbox,
        targets: Vec<(MessageHash, Timestamp)>,
        direction: Direction,
    ) -> Self {
        Self {
            mailbox,
            targets,
            direction,
            done_count: 0,
            updated: Vec::new(),
            unchanged: Vec::new(),
        }
    }

    pub(super) fn into_outcome(mut self) -> Outcome {
        self.updated.sort_unstable();
        self.unchanged.sort_unstable();
        Outcome::Expired {
            updated: self.updated,
            unchanged: self.unchanged,
        }
    }
}

/// Shortens whatever lives longer until nothing does.
pub(super) struct ExpireAllChange {
    pub(super) mailbox: Mailbox,
    pub(super) scope: Scope,
    pub(super) expiry: Timestamp,
    pub(super) updated: Vec<(Namespace, MessageHash)>,
    pub(super) is_begun: bool,
}

impl ExpireAllChange {
    pub(super) const fn new(mailbox: Mailbox, scope: Scope, expiry: Timestamp) -> Self {
        Self {
            mailbox,
            scope,
            expiry,
            updated: Vec::new(),
            is_begun: false,
        }
    }

    pub(super) fn into_outcome(mut self) -> Outcome {
        self.updated.sort_unstable();
        Outcome::ExpiredAll(self.updated)
    }
}

pub(super) enum StateChange {
    Revoke(Mailbox, Vec<SubaccountToken>),
    Unrevoke(Mailbox, Vec<SubaccountToken>),
    Cursor([u8; 32], Option<DumpCursor>),
}

impl StateChange {
    pub(super) const fn key(&self) -> state::Key {
        match self {
            Self::Revoke(mailbox, _) | Self::Unrevoke(mailbox, _) => {
                (*mailbox, state::Subject::REVOCATIONS)
            }
            Self::Cursor(peer, _) => (state::peer(*peer), state::Subject::CURSOR),
        }
    }
}

/// A record that compaction wants elsewhere: its bytes and its place.
pub(super) struct Copy {
    pub(super) position: Position,
    pub(super) bytes: Bytes,
}
