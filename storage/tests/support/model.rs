//! What the model knows, and what commands may make of it.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::option_option,
    reason = "for tests, and one match shows a whole table"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cepa_storage::command::{Direction, DumpCursor, Scope};
use cepa_storage::{Command, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};

use super::{HASH_COUNT, Key, NAMESPACES};
use crate::disk::Rng;

/// A command that changes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Store(Timestamp),
    Delete,
    Expire(Timestamp, Direction),
    /// To this expiry, if it is later.
    Lower(Timestamp),
}

impl Change {
    pub(super) fn apply(self, state: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Store(expiry) => Some(state.map_or(expiry, |current| current.max(expiry))),
            Self::Delete => None,
            Self::Expire(expiry, direction) => state.map(|current| {
                if direction.allows(current, expiry) {
                    expiry
                } else {
                    current
                }
            }),
            Self::Lower(expiry) => state.map(|current| current.min(expiry)),
        }
    }
}

/// A command that changes the revocations of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Revoke(Vec<SubaccountToken>),
    Unrevoke(Vec<SubaccountToken>),
}

impl Rights {
    pub(super) fn apply(&self, tokens: &mut Vec<SubaccountToken>) {
        match self {
            Self::Revoke(added) => {
                for token in added {
                    tokens.retain(|other| other != token);
                    tokens.push(*token);
                }
                let surplus = tokens.len().saturating_sub(50);
                tokens.drain(..surplus);
            }
            Self::Unrevoke(removed) => tokens.retain(|token| !removed.contains(token)),
        }
    }
}

/// What the model knows of a mailbox's revocations. One command of them is in flight at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoked {
    pub(super) certain: Vec<SubaccountToken>,
    pub(super) in_flight: Option<Rights>,
    pub(super) failed: Vec<Rights>,
}

impl Revoked {
    /// Whether a crash may leave these.
    pub(super) fn allows(&self, observed: &[SubaccountToken]) -> bool {
        let mut states = vec![self.certain.clone()];
        for change in self.failed.iter().chain(&self.in_flight) {
            let changed: Vec<_> = states
                .iter()
                .map(|state| {
                    let mut state = state.clone();
                    change.apply(&mut state);
                    state
                })
                .collect();
            states.extend(changed);
        }
        states.iter().any(|state| state == observed)
    }
}

/// What the model knows of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Belief {
    /// Its expiry, if it is there.
    pub(super) certain: Option<Timestamp>,
    /// Its place in the order of arrival, if it is known.
    pub(super) arrival: Option<u64>,
    /// In the order of submission.
    pub(super) in_flight: Vec<(Ticket, Change)>,
    pub(super) failed: Vec<(Ticket, Change)>,
    /// Failed in several steps, of which some may count already: until something is known again.
    pub(super) maybe: Vec<(Ticket, Change)>,
    /// Grows with everything that happens to it.
    pub(super) version: u64,
}

impl Belief {
    /// It is known what this command made of it, but not whether a Store that failed before has
    /// brought it there. One that came later may have failed earlier.
    pub(super) fn settle_maybe(&mut self, ticket: Ticket) {
        if !self.maybe.is_empty() {
            self.arrival = None;
            self.maybe.retain(|(other, _)| *other > ticket);
        }
    }

    /// What a crash may leave.
    pub(super) fn possible(&self) -> BTreeSet<Option<Timestamp>> {
        let mut states = BTreeSet::from([self.certain]);
        let in_flight = self.in_flight.iter().map(|(_, change)| *change);
        let mut failed: Vec<_> = self.maybe.iter().chain(&self.failed).collect();
        failed.sort_by_key(|(ticket, _)| *ticket);
        let failed = failed.into_iter().map(|(_, change)| *change);
        for change in failed.chain(in_flight) {
            let changed: Vec<_> = states.iter().map(|state| change.apply(*state)).collect();
            states.extend(changed);
        }
        states
    }
}

pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) at: Timestamp,
    /// Of a retrieve: the version of every message of the box that nothing was in flight for.
    pub(super) versions: BTreeMap<Key, u64>,
}

/// What the model knows of the one cursor; one command of it is in flight at a time.
#[derive(Debug, Default)]
pub(super) struct CursorBelief {
    pub(super) certain: Option<DumpCursor>,
    pub(super) in_flight: Option<Option<DumpCursor>>,
    pub(super) failed: Vec<Option<DumpCursor>>,
    /// Where dumps have been.
    pub(super) seen: Vec<DumpCursor>,
}

pub(super) fn mailbox(index: usize) -> Mailbox {
    Mailbox {
        prefix: 5,
        key: [u8::try_from(index).unwrap(); 32],
    }
}

pub(super) fn hash(index: usize) -> MessageHash {
    let byte = u8::try_from(index).unwrap();
    MessageHash([byte.wrapping_mul(97); 32])
}

/// Everything about a message but its expiry follows from its identity.
pub(super) fn namespace(hash: MessageHash) -> Namespace {
    Namespace(NAMESPACES[usize::from(hash.0[0] % 4)])
}

pub(super) fn timestamp(hash: MessageHash) -> Timestamp {
    Timestamp::from_millis(u64::from(hash.0[1]) * 1000)
}

pub(super) fn data(mailbox: Mailbox, hash: MessageHash) -> Bytes {
    let mut rng = Rng::new(u64::from(hash.0[0]) << 8 | u64::from(mailbox.key[0]));
    let size = match rng.below(10) {
        0 => 0,
        1..=6 => rng.below(2000),
        7 | 8 => rng.below(20_000),
        _ => 76_800 - rng.below(2000),
    };
    (0..size.div_ceil(8))
        .flat_map(|_| rng.next().to_le_bytes())
        .take(size)
        .collect()
}

/// The messages that a store into a public outbox replaces.
pub(super) fn replaced_by(key: Key) -> Vec<Key> {
    let box_namespace = namespace(key.1);
    if !box_namespace.is_public_outbox() {
        return Vec::new();
    }
    let mut others = in_scope(key.0, Scope::One(box_namespace));
    others.retain(|other| *other != key);
    others
}

/// Every message that there may be in these boxes.
pub(super) fn in_scope(mailbox: Mailbox, scope: Scope) -> Vec<Key> {
    (0..HASH_COUNT)
        .map(hash)
        .filter(|hash| scope.contains(namespace(*hash)))
        .map(|hash| (mailbox, hash))
        .collect()
}

/// What a command changes.
pub(super) fn keys_of(command: &Command) -> Vec<Key> {
    match command {
        Command::Store { mailbox, hash, .. } => {
            let mut keys = replaced_by((*mailbox, *hash));
            keys.push((*mailbox, *hash));
            keys
        }
        Command::Delete { mailbox, hashes } => {
            hashes.iter().map(|hash| (*mailbox, *hash)).collect()
        }
        Command::Expire {
            mailbox, targets, ..
        } => targets.iter().map(|(hash, _)| (*mailbox, *hash)).collect(),
        Command::DeleteAll {
            mailbox,
            scope,
            before,
        } => {
            let mut keys = in_scope(*mailbox, *scope);
            keys.retain(|key| before.is_none_or(|before| timestamp(key.1) <= before));
            keys
        }
        Command::ExpireAll { mailbox, scope, .. } => in_scope(*mailbox, *scope),
        _ => Vec::new(),
    }
}

/// Whether it goes through several commits, so that a part may count when it fails.
pub(super) fn is_stepwise(command: &Command) -> bool {
    match command {
        Command::Store { hash, .. } => namespace(*hash).is_public_outbox(),
        Command::DeleteAll { .. } | Command::ExpireAll { .. } => true,
        _ => false,
    }
}
