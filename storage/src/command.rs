//! What may be asked of a shard, and how it ends.

use bytes::Bytes;
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};
use thiserror::Error;

/// Names a command until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep a message. If its hash is there already, its expiry only moves up.
    Store {
        /// For whom.
        mailbox: Mailbox,
        /// Which box.
        namespace: Namespace,
        /// Its identity.
        hash: MessageHash,
        /// When it was sent.
        timestamp: Timestamp,
        /// When to forget it.
        expiry: Timestamp,
        /// The payload.
        data: Bytes,
    },
    /// Read messages of one box in the order of their arrival.
    Retrieve {
        /// Whose.
        mailbox: Mailbox,
        /// Which box.
        namespace: Namespace,
        /// Begin after this one; from the beginning when it is `None` or not there.
        after: Option<MessageHash>,
        /// At most so many messages.
        count_max: usize,
        /// At most so many bytes, counted as base64 of the payload + 100 each; the first message is
        /// given whatever its size.
        size_max: usize,
    },
    /// Delete messages by hash, in any namespace of the mailbox.
    Delete {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        hashes: Vec<MessageHash>,
    },
}

impl Command {
    /// Whose messages it is about: what decides which shard carries it out.
    pub const fn mailbox(&self) -> &Mailbox {
        match self {
            Self::Store { mailbox, .. }
            | Self::Retrieve { mailbox, .. }
            | Self::Delete { mailbox, .. } => mailbox,
        }
    }
}

/// A message as it is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its identity.
    pub hash: MessageHash,
    /// When it was sent.
    pub timestamp: Timestamp,
    /// When it will be forgotten.
    pub expiry: Timestamp,
    /// The payload.
    pub data: Bytes,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is durable.
    Stored {
        /// It was there already.
        already: bool,
        /// Its expiry now (larger than asked when it was there with a later one).
        expiry: Timestamp,
    },
    /// What was read.
    Retrieved {
        /// In the order of arrival.
        messages: Vec<StoredMessage>,
        /// Whether there are more.
        more: bool,
    },
    /// These were there and are durably gone, sorted.
    Deleted(Vec<MessageHash>),
    /// It did not happen; nothing was promised.
    Failed(StoreFault),
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreFault {
    /// The disk is full.
    #[error("disk is full")]
    DiskFull,
    /// The disk failed.
    #[error("disk failed")]
    DiskFailed,
    /// The payload is larger than a record carries
    /// ([`MESSAGE_SIZE_MAX`](cepa_wire::request::MESSAGE_SIZE_MAX)). The asker's fault.
    #[error("message is larger than 76800 bytes")]
    TooLarge,
    /// Too many commands are waiting.
    #[error("too many requests are waiting for the disk")]
    Busy,
}
