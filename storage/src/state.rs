//! What is kept beside messages: revocations of subaccounts, and how far dumps are. Each is one State
//! record that holds all of it; the newest counts.

use core::time::Duration;
use std::collections::BTreeMap;

use cepa_wire::record::{self, STATE_VALUE_SIZE_MAX};
use cepa_wire::{Mailbox, SubaccountToken, Timestamp};

use crate::command::DumpCursor;
use crate::disk::SegmentId;

/// So many revocations of a mailbox are kept, the newest
/// (`../shared/protocol/session-node.md`, 5.6).
pub(crate) const REVOCATION_COUNT_MAX: usize = 50;

/// All of it takes so many bytes at most: some 15,000 mailboxes with all their revocations.
pub(crate) const STATES_SIZE_MAX: usize = 32 << 20;

/// What is kept for each, beside the value.
const ENTRY_OVERHEAD: usize = 128;

/// Kept for so long after the last change even if its mailbox has no message: longer than any
/// message could have lived.
pub(crate) const STATE_LIFE: Duration = Duration::from_hours(31 * 24);

const REVOCATION_SIZE: usize = 36 + 8;
const _: () = assert!(REVOCATION_COUNT_MAX * REVOCATION_SIZE <= STATE_VALUE_SIZE_MAX);

/// What a State is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject(pub(crate) u8);

impl Subject {
    /// Tokens and when they were revoked.
    pub(crate) const REVOCATIONS: Self = Self(1);
    /// Segment and offset. The mailbox is none: prefix 0 and the peer's key.
    pub(crate) const CURSOR: Self = Self(2);
}

pub(crate) type Key = (Mailbox, Subject);

/// The mailbox that a peer's cursor is kept under.
pub(crate) const fn peer(key: [u8; 32]) -> Mailbox {
    Mailbox { prefix: 0, key }
}

/// The newest State of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) sequence: u64,
    pub(crate) timestamp: Timestamp,
    pub(crate) segment: SegmentId,
    pub(crate) value: Box<[u8]>,
}

impl State {
    /// Of its record.
    pub(crate) const fn record_size(&self) -> u64 {
        record::State::size_with(self.value.len()) as u64
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct States {
    states: BTreeMap<Key, State>,
    size: usize,
}

impl States {
    pub(crate) fn get(&self, key: &Key) -> Option<&State> {
        self.states.get(key)
    }

    /// Whether a value of so many bytes may be added.
    pub(crate) const fn has_room(&self, value_size: usize) -> bool {
        self.size + ENTRY_OVERHEAD + value_size <= STATES_SIZE_MAX
    }

    /// Keeps a State; gives the one that it replaces, or itself if a newer one is there.
    pub(crate) fn insert(&mut self, key: Key, state: State) -> Option<State> {
        if self
            .states
            .get(&key)
            .is_some_and(|old| old.sequence > state.sequence)
        {
            return Some(state);
        }
        self.size += ENTRY_OVERHEAD + state.value.len();
        let old = self.states.insert(key, state);
        if let Some(old) = &old {
            self.size -= ENTRY_OVERHEAD + old.value.len();
        }
        old
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<State> {
        let old = self.states.remove(key)?;
        self.size -= ENTRY_OVERHEAD + old.value.len();
        Some(old)
    }

    /// The State was copied to another segment.
    pub(crate) fn set_segment(&mut self, key: &Key, segment: SegmentId) {
        if let Some(state) = self.states.get_mut(key) {
            state.segment = segment;
        }
    }

    /// From the key on, in order.
    pub(crate) fn from(&self, key: Key) -> impl Iterator<Item = (&Key, &State)> {
        self.states.range(key..)
    }
}

/// The revoked tokens of a mailbox, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revocations(Vec<(SubaccountToken, Timestamp)>);

impl Revocations {
    pub(crate) fn parse(value: &[u8]) -> Self {
        let (entries, _) = value.as_chunks::<REVOCATION_SIZE>();
        let parse = |entry: &[u8; REVOCATION_SIZE]| {
            let (token, time) = entry.split_first_chunk::<36>()?;
            let time = u64::from_le_bytes(time.try_into().ok()?);
            Some((SubaccountToken(*token), Timestamp::from_millis(time)))
        };
        Self(entries.iter().filter_map(parse).collect())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        for (token, time) in &self.0 {
            value.extend_from_slice(&token.0);
            value.extend_from_slice(&time.as_millis().to_le_bytes());
        }
        value
    }

    pub(crate) fn tokens(&self) -> Vec<SubaccountToken> {
        self.0.iter().map(|(token, _)| *token).collect()
    }

    /// Revokes tokens; one that is revoked already counts as new. Gives how many were not.
    pub(crate) fn revoke(&mut self, tokens: &[SubaccountToken], now: Timestamp) -> usize {
        let mut count = 0;
        for token in tokens {
            count += usize::from(self.unrevoke(&[*token]) == 0);
            self.0.push((*token, now));
        }
        let surplus = self.0.len().saturating_sub(REVOCATION_COUNT_MAX);
        self.0.drain(..surplus);
        count
    }

    /// Accepts tokens again. Gives how many were revoked.
    pub(crate) fn unrevoke(&mut self, tokens: &[SubaccountToken]) -> usize {
        let before = self.0.len();
        self.0.retain(|(token, _)| !tokens.contains(token));
        before - self.0.len()
    }
}

pub(crate) fn encode_cursor(cursor: Option<DumpCursor>) -> Vec<u8> {
    cursor.map_or_else(Vec::new, |cursor| {
        let mut value = cursor.segment.to_le_bytes().to_vec();
        for number in [cursor.offset, cursor.since, cursor.began] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        value
    })
}

pub(crate) fn parse_cursor(value: &[u8]) -> Option<DumpCursor> {
    let (segment, numbers) = value.split_first_chunk()?;
    let (numbers, _) = numbers.as_chunks();
    let [offset, since, began] = numbers else {
        return None;
    };
    Some(DumpCursor {
        segment: u32::from_le_bytes(*segment),
        offset: u64::from_le_bytes(*offset),
        since: u64::from_le_bytes(*since),
        began: u64::from_le_bytes(*began),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(number: u8) -> SubaccountToken {
        SubaccountToken([number; 36])
    }

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_newest_fifty_are_kept() {
        let mut revocations = Revocations::default();
        for number in 0..60 {
            assert_eq!(revocations.revoke(&[token(number)], at(1)), 1);
        }
        let expected: Vec<_> = (10..60).map(token).collect();
        assert_eq!(revocations.tokens(), expected);
        assert_eq!(revocations.revoke(&[token(10)], at(2)), 0, "again");
        assert_eq!(revocations.tokens().last(), Some(&token(10)));
        assert_eq!(revocations.unrevoke(&[token(10), token(1)]), 1);
        assert_eq!(Revocations::parse(&revocations.encode()), revocations);
    }

    #[test]
    fn a_cursor_comes_back() {
        let cursor = DumpCursor {
            segment: 7,
            offset: 4096,
            since: 1 << 40,
            began: u64::MAX,
        };
        assert_eq!(parse_cursor(&encode_cursor(Some(cursor))), Some(cursor));
        assert_eq!(parse_cursor(&encode_cursor(None)), None);
    }

    #[test]
    fn an_older_state_does_not_replace_a_newer() {
        let state = |sequence, value: &[u8]| State {
            sequence,
            timestamp: at(0),
            segment: SegmentId(0),
            value: value.into(),
        };
        let mut states = States::default();
        let key = (peer([1; 32]), Subject::CURSOR);
        assert_eq!(states.insert(key, state(5, b"new")), None);
        assert_eq!(
            states.insert(key, state(4, b"older")),
            Some(state(4, b"older"))
        );
        assert_eq!(states.insert(key, state(6, b"")), Some(state(5, b"new")));
        assert_eq!(states.size, ENTRY_OVERHEAD);
        states.remove(&key);
        assert_eq!(states.size, 0);
    }
}
