//! Mailboxes, namespaces and message hashes.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::{Ed25519PublicKey, Timestamp};

/// A numbered box in a mailbox, with its own rules of access
/// (`../shared/protocol/session-client.md`, section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(pub i16);

impl Namespace {
    /// The default inbox.
    pub const INBOX: Self = Self(0);

    /// Whether anybody may store into it (numbers divisible by ten).
    pub const fn is_public_inbox(self) -> bool {
        self.0 % 10 == 0
    }

    /// Whether it is a public outbox: its owner stores, anybody reads (-1, -21, -41, ...).
    pub const fn is_public_outbox(self) -> bool {
        self.0 < 0 && self.0 % 20 == -1
    }

    /// Whether a revoked subaccount may go on reading it (-11, -111, ...): there it finds out that it
    /// is revoked.
    pub const fn is_readable_by_revoked(self) -> bool {
        self.0 < 0 && self.0 % 100 == -11
    }
}

/// Which boxes of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every one.
    All,
    /// One.
    One(Namespace),
}

impl Scope {
    /// Whether a box is meant.
    pub fn contains(self, namespace: Namespace) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == namespace,
        }
    }
}

/// In which direction an expiry may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Up and down.
    Any,
    /// Only to an earlier time.
    Shorten,
    /// Only to a later time.
    Extend,
}

impl Direction {
    /// Whether an expiry may move so.
    pub fn allows(self, from: Timestamp, to: Timestamp) -> bool {
        match self {
            Self::Any => true,
            Self::Shorten => to < from,
            Self::Extend => to > from,
        }
    }
}

/// The address that messages are stored for: a network prefix (05 for an account, 03 for a group)
/// and a 32-byte key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    /// The network prefix.
    pub prefix: u8,
    /// The X25519 key (05) or Ed25519 key (others).
    pub key: [u8; 32],
}

impl Mailbox {
    /// The prefix of an account.
    pub const ACCOUNT: u8 = 0x05;

    /// That of an account, from its X25519 key.
    pub const fn account(key: [u8; 32]) -> Self {
        Self {
            prefix: Self::ACCOUNT,
            key,
        }
    }

    /// From 66 hex digits, in either case.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 33];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Self::from_slice(&bytes)
    }

    /// From 33 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (prefix, key) = bytes.split_first()?;
        Some(Self {
            prefix: *prefix,
            key: key.try_into().ok()?,
        })
    }

    /// Its 33 bytes.
    pub fn to_bytes(self) -> [u8; 33] {
        let mut bytes = [self.prefix; 33];
        for (to, from) in bytes.iter_mut().skip(1).zip(self.key) {
            *to = from;
        }
        bytes
    }

    /// Its point on the ring of swarms: the XOR of the four big-endian words of its key
    /// (`../shared/protocol/session-node.md`, 5.6).
    pub fn swarm_point(&self) -> u64 {
        let (words, _) = self.key.as_chunks();
        words
            .iter()
            .fold(0, |point, word| point ^ u64::from_be_bytes(*word))
    }

    /// 66 lower-case hex digits: the form that signatures and answers use.
    pub fn to_hex(self) -> String {
        hex::encode(self.to_bytes())
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({self})")
    }
}

/// What a mailbox's owner gives to somebody else to read or write it with: prefix, rights, two zero
/// bytes and an Ed25519 key (`../shared/protocol/session-client.md`, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubaccountToken(pub [u8; 36]);

impl SubaccountToken {
    /// Its size in bytes.
    pub const SIZE: usize = 36;
    /// May read.
    pub const READ: u8 = 1;
    /// May store and extend.
    pub const WRITE: u8 = 2;
    /// May delete and shorten.
    pub const DELETE: u8 = 4;
    /// Good for mailboxes with another network prefix than its own.
    pub const ANY_PREFIX: u8 = 8;

    /// From exactly [`Self::SIZE`] bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Whether it is good for mailboxes of a prefix.
    pub const fn allows_prefix(&self, prefix: u8) -> bool {
        let [own, flags, ..] = self.0;
        own == prefix || flags & Self::ANY_PREFIX != 0
    }

    /// Whether it gives all of some rights.
    pub const fn allows(&self, rights: u8) -> bool {
        let [_, flags, ..] = self.0;
        flags & rights == rights
    }

    /// The key that its holder signs with.
    pub fn key(&self) -> Ed25519PublicKey {
        let [_, _, _, _, key @ ..] = self.0;
        Ed25519PublicKey(key)
    }
}

/// The identity of a stored message: BLAKE2b-256 over mailbox, namespace and payload; written as
/// 43 characters of unpadded base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageHash(pub [u8; 32]);

impl MessageHash {
    /// From its 43 characters. Any other text is the hash of no message.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 33];
        let size = STANDARD_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let bytes = bytes.get(..size)?;
        bytes.try_into().ok().map(Self)
    }

    /// Its 43 characters.
    pub fn to_text(self) -> String {
        STANDARD_NO_PAD.encode(self.0)
    }
}

impl fmt::Display for MessageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl fmt::Debug for MessageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageHash({self})")
    }
}
