//! What a shard promises, in maps.

use std::collections::BTreeMap;

use bytes::Bytes;
use cepa_storage::command::{Direction, DumpCursor, Scope, SurveyCount};
use cepa_storage::territory::Territory;
use cepa_storage::{Command, Outcome, StoreFault, StoredMessage};
use cepa_wire::record::STORE_OVERHEAD;
use cepa_wire::request::MESSAGE_SIZE_MAX;
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};

pub(crate) type Key = (Mailbox, MessageHash);

/// So many revocations of a mailbox are kept.
const REVOCATION_COUNT_MAX: usize = 50;

/// What is kept beside messages is forgotten so long after its last change, if its mailbox is empty.
const STATE_LIFE: core::time::Duration = core::time::Duration::from_hours(31 * 24);

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) namespace: Namespace,
    timestamp: Timestamp,
    expiry: Timestamp,
    data: Bytes,
    /// Unique, ascending.
    pub(crate) arrival: u64,
}

impl Message {
    /// As it is given out.
    pub(crate) fn given(&self, hash: MessageHash) -> StoredMessage {
        StoredMessage {
            hash,
            timestamp: self.timestamp,
            expiry: self.expiry,
            data: self.data.clone(),
        }
    }

    /// What a retrieve counts for it.
    fn counted_size(&self) -> usize {
        self.data.len().div_ceil(3) * 4 + 100
    }
}

/// A value, and when it changed last.
#[derive(Clone, Debug)]
struct State<T> {
    value: T,
    changed: Timestamp,
}

type Revocations = Vec<(SubaccountToken, Timestamp)>;

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Those that expired among them: whoever looks asks for the time.
    messages: BTreeMap<Key, Message>,
    next_arrival: u64,
    revocations: BTreeMap<Mailbox, State<Revocations>>,
    /// Forgotten for their age, but perhaps still in the log.
    forgotten: BTreeMap<Mailbox, State<Revocations>>,
    cursors: BTreeMap<[u8; 32], State<Option<DumpCursor>>>,
}

impl Model {
    pub(crate) fn live(&self, key: Key, now: Timestamp) -> Option<&Message> {
        let message = self.messages.get(&key)?;
        (message.expiry > now).then_some(message)
    }

    pub(crate) fn all_live(&self, now: Timestamp) -> impl Iterator<Item = (Key, &Message)> {
        self.messages
            .iter()
            .filter(move |(_, message)| message.expiry > now)
            .map(|(key, message)| (*key, message))
    }

    fn in_scope(&self, mailbox: Mailbox, scope: Scope, now: Timestamp) -> Vec<(Key, Message)> {
        self.all_live(now)
            .filter(|(key, message)| key.0 == mailbox && scope.contains(message.namespace))
            .map(|(key, message)| (key, message.clone()))
            .collect()
    }

    /// Makes a change; gives its outcome.
    pub(crate) fn change(&mut self, command: &Command, now: Timestamp) -> Outcome {
        match command {
            Command::Store { .. } => self.store(command, now),
            Command::Delete { mailbox, hashes } => {
                let mut deleted = Vec::new();
                for hash in hashes {
                    if self.live((*mailbox, *hash), now).is_some() {
                        self.messages.remove(&(*mailbox, *hash));
                        deleted.push(*hash);
                    }
                }
                deleted.sort_unstable();
                Outcome::Deleted(deleted)
            }
            Command::DeleteAll {
                mailbox,
                scope,
                before,
            } => {
                let mut deleted = Vec::new();
                for (key, message) in self.in_scope(*mailbox, *scope, now) {
                    if before.is_none_or(|before| message.timestamp <= before) {
                        self.messages.remove(&key);
                        deleted.push((message.namespace, key.1));
                    }
                }
                deleted.sort_unstable();
                Outcome::DeletedAll(deleted)
            }
            Command::Expire {
                mailbox,
                targets,
                direction,
            } => self.expire(*mailbox, targets, *direction, now),
            Command::ExpireAll {
                mailbox,
                scope,
                expiry,
            } => {
                let mut updated = Vec::new();
                for (key, message) in self.in_scope(*mailbox, *scope, now) {
                    if message.expiry > *expiry {
                        self.set_expiry(key, *expiry);
                        updated.push((message.namespace, key.1));
                    }
                }
                updated.sort_unstable();
                Outcome::ExpiredAll(updated)
            }
            Command::Revoke { mailbox, tokens } => self.revoke(*mailbox, tokens, now),
            Command::Unrevoke { mailbox, tokens } => self.unrevoke(*mailbox, tokens, now),
            Command::KeepCursor { peer, cursor } => {
                if self.cursor(*peer) != *cursor {
                    let state = State {
                        value: *cursor,
                        changed: now,
                    };
                    self.cursors.insert(*peer, state);
                }
                Outcome::CursorKept
            }
            question => panic!("{question:?} changes nothing"),
        }
    }

    fn store(&mut self, command: &Command, now: Timestamp) -> Outcome {
        let Command::Store {
            mailbox,
            namespace,
            hash,
            timestamp,
            expiry,
            data,
        } = command
        else {
            panic!("{command:?} is no store");
        };
        if data.len() > MESSAGE_SIZE_MAX {
            return Outcome::Failed(StoreFault::TooLarge);
        }
        let key = (*mailbox, *hash);
        let outcome = if let Some(live) = self.live(key, now) {
            let expiry = live.expiry.max(*expiry);
            self.set_expiry(key, expiry);
            Outcome::Stored {
                already: true,
                expiry,
            }
        } else {
            let message = Message {
                namespace: *namespace,
                timestamp: *timestamp,
                expiry: *expiry,
                data: data.clone(),
                arrival: self.next_arrival,
            };
            self.next_arrival += 1;
            self.messages.insert(key, message);
            Outcome::Stored {
                already: false,
                expiry: *expiry,
            }
        };
        if namespace.is_public_outbox() {
            self.messages.retain(|other, message| {
                other.0 != *mailbox || message.namespace != *namespace || other.1 == *hash
            });
        }
        outcome
    }

    fn set_expiry(&mut self, key: Key, expiry: Timestamp) {
        if let Some(message) = self.messages.get_mut(&key) {
            message.expiry = expiry;
        }
    }

    fn expire(
        &mut self,
        mailbox: Mailbox,
        targets: &[(MessageHash, Timestamp)],
        direction: Direction,
        now: Timestamp,
    ) -> Outcome {
        let mut updated = Vec::new();
        let mut unchanged = Vec::new();
        for (hash, expiry) in targets {
            let key = (mailbox, *hash);
            let Some(live) = self.live(key, now) else {
                continue;
            };
            let is_allowed = match direction {
                Direction::Any => true,
                Direction::Shorten => *expiry < live.expiry,
                Direction::Extend => *expiry > live.expiry,
            };
            if is_allowed {
                self.set_expiry(key, *expiry);
                updated.push((*hash, *expiry));
            } else {
                unchanged.push((*hash, live.expiry));
            }
        }
        updated.sort_unstable();
        unchanged.sort_unstable();
        Outcome::Expired { updated, unchanged }
    }

    fn revoke(&mut self, mailbox: Mailbox, tokens: &[SubaccountToken], now: Timestamp) -> Outcome {
        let mut value = self.revoked(mailbox);
        let mut count = 0;
        for token in tokens {
            let before = value.len();
            value.retain(|(other, _)| other != token);
            count += usize::from(value.len() == before);
            value.push((*token, now));
        }
        value.drain(..value.len().saturating_sub(REVOCATION_COUNT_MAX));
        self.set_revoked(mailbox, value, now);
        Outcome::Revoked { count }
    }

    fn unrevoke(
        &mut self,
        mailbox: Mailbox,
        tokens: &[SubaccountToken],
        now: Timestamp,
    ) -> Outcome {
        let mut value = self.revoked(mailbox);
        let before = value.len();
        value.retain(|(token, _)| !tokens.contains(token));
        let count = before - value.len();
        self.set_revoked(mailbox, value, now);
        Outcome::Revoked { count }
    }

    fn revoked(&self, mailbox: Mailbox) -> Revocations {
        let state = self.revocations.get(&mailbox);
        state.map_or_else(Vec::new, |state| state.value.clone())
    }

    fn set_revoked(&mut self, mailbox: Mailbox, value: Revocations, now: Timestamp) {
        if value != self.revoked(mailbox) {
            let state = State {
                value,
                changed: now,
            };
            self.revocations.insert(mailbox, state);
            // What was forgotten is older than this.
            self.forgotten.remove(&mailbox);
        }
    }

    /// Messages of a box behind a cursor, by count and size.
    pub(crate) fn retrieve(
        &self,
        mailbox: Mailbox,
        namespace: Namespace,
        after: Option<MessageHash>,
        (count_max, size_max): (usize, usize),
        now: Timestamp,
    ) -> Outcome {
        let mut in_box = self.in_scope(mailbox, Scope::One(namespace), now);
        in_box.sort_unstable_by_key(|(_, message)| message.arrival);
        let cursor = in_box
            .iter()
            .find(|(key, _)| Some(key.1) == after)
            .map(|(_, message)| message.arrival);
        let behind =
            in_box.iter().filter(|(_, message)| cursor.is_none_or(|at| message.arrival > at));
        let mut messages = Vec::new();
        let mut size = 0;
        let mut more = false;
        for (key, message) in behind {
            size += message.counted_size();
            let is_full = messages.len() >= count_max.max(1);
            if is_full || (size > size_max && !messages.is_empty()) {
                more = true;
                break;
            }
            messages.push(message.given(key.1));
        }
        Outcome::Retrieved { messages, more }
    }

    pub(crate) fn expiries(
        &self,
        mailbox: Mailbox,
        hashes: &[MessageHash],
        now: Timestamp,
    ) -> Vec<(MessageHash, Timestamp)> {
        let expiry = |hash: &MessageHash| {
            let live = self.live((mailbox, *hash), now)?;
            Some((*hash, live.expiry))
        };
        hashes.iter().filter_map(expiry).collect()
    }

    pub(crate) fn revocations(&self, mailbox: Mailbox) -> Vec<SubaccountToken> {
        let revoked = self.revoked(mailbox);
        revoked.iter().map(|(token, _)| *token).collect()
    }

    pub(crate) fn cursor(&self, peer: [u8; 32]) -> Option<DumpCursor> {
        self.cursors.get(&peer).and_then(|state| state.value)
    }

    pub(crate) fn survey(&self, territory: &Territory, now: Timestamp) -> SurveyCount {
        let mut count = SurveyCount::default();
        let mut last = None;
        for ((mailbox, _), message) in self.all_live(now) {
            if territory.contains(&mailbox) {
                count.mailbox_count += u64::from(last.replace(mailbox) != Some(mailbox));
                count.message_count += 1;
                count.size += (STORE_OVERHEAD + message.data.len()) as u64;
            }
        }
        count
    }

    /// Time passed, or the shard began again: what expired is gone, and what is old is forgotten.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.messages.retain(|_, message| message.expiry > now);
        let is_old = |changed: Timestamp| changed.saturating_add(STATE_LIFE) <= now;
        self.cursors.retain(|_, state| !is_old(state.changed));
        let messages = &self.messages;
        let forgotten = self.revocations.extract_if(.., |mailbox, state| {
            is_old(state.changed) && !messages.keys().any(|key| key.0 == *mailbox)
        });
        self.forgotten.extend(forgotten);
    }

    /// What was forgotten is back after a restart, if its mailbox has messages again.
    pub(crate) fn adopt_revocations(&mut self, mailbox: Mailbox, found: &[SubaccountToken]) {
        let is_back = |state: &State<Revocations>| {
            let tokens = state.value.iter().map(|(token, _)| token);
            tokens.eq(found)
        };
        if !found.is_empty()
            && !self.revocations.contains_key(&mailbox)
            && self.forgotten.get(&mailbox).is_some_and(is_back)
            && let Some(state) = self.forgotten.remove(&mailbox)
        {
            self.revocations.insert(mailbox, state);
        }
    }
}
