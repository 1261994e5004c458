//! What may be asked of a shard, and how it ends.

use bytes::Bytes;
pub use cepa_wire::{Direction, Scope};
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};
use thiserror::Error;

use crate::territory::Territory;

/// Names a command until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep a message. If its hash is there already, its expiry only moves up. In a public outbox
    /// it replaces every other message.
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
    /// Read messages by hash, in any namespace of the mailbox.
    Fetch {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        hashes: Vec<MessageHash>,
    },
    /// Delete messages by hash, in any namespace of the mailbox.
    Delete {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        hashes: Vec<MessageHash>,
    },
    /// Delete every message, or every one that was sent up to a time.
    DeleteAll {
        /// Whose.
        mailbox: Mailbox,
        /// In which boxes.
        scope: Scope,
        /// Only those with this timestamp and older ones.
        before: Option<Timestamp>,
    },
    /// Move the expiry of messages.
    Expire {
        /// Whose.
        mailbox: Mailbox,
        /// Which, each with its new expiry.
        targets: Vec<(MessageHash, Timestamp)>,
        /// In which direction it may move.
        direction: Direction,
    },
    /// Let every message expire no later than a time.
    ExpireAll {
        /// Whose.
        mailbox: Mailbox,
        /// In which boxes.
        scope: Scope,
        /// The new expiry of those that would live longer.
        expiry: Timestamp,
    },
    /// Tell when messages expire.
    Expiries {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        hashes: Vec<MessageHash>,
    },
    /// Refuse subaccounts from now on; the newest 50 of a mailbox are kept.
    Revoke {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        tokens: Vec<SubaccountToken>,
    },
    /// Accept subaccounts again.
    Unrevoke {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        tokens: Vec<SubaccountToken>,
    },
    /// Tell which subaccounts are refused.
    Revocations {
        /// Whose.
        mailbox: Mailbox,
    },
    /// Read the log on, for a transfer to other nodes: messages of every mailbox in a territory.
    Dump {
        /// From where; a new dump begins at [`DumpCursor::START`].
        from: DumpCursor,
        /// Whose messages.
        territory: Territory,
        /// At most so many bytes of payloads, or one message. There may be none although there is
        /// more to read.
        size_max: usize,
    },
    /// Keep, durably, how far a dump for somebody is, or forget it.
    KeepCursor {
        /// For whom: the key of a peer, or of a swarm.
        peer: [u8; 32],
        /// How far.
        cursor: Option<DumpCursor>,
    },
    /// Tell how far a dump for somebody is.
    Cursor {
        /// For whom.
        peer: [u8; 32],
    },
    /// Count mailboxes and messages of territories.
    Survey {
        /// Which.
        territories: Vec<Territory>,
    },
}

impl Command {
    /// Whose messages it is about: what decides which shard carries it out. `None` for what
    /// concerns a shard as a whole.
    pub const fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Store { mailbox, .. }
            | Self::Retrieve { mailbox, .. }
            | Self::Fetch { mailbox, .. }
            | Self::Delete { mailbox, .. }
            | Self::DeleteAll { mailbox, .. }
            | Self::Expire { mailbox, .. }
            | Self::ExpireAll { mailbox, .. }
            | Self::Expiries { mailbox, .. }
            | Self::Revoke { mailbox, .. }
            | Self::Unrevoke { mailbox, .. }
            | Self::Revocations { mailbox } => Some(mailbox),
            Self::Dump { .. }
            | Self::KeepCursor { .. }
            | Self::Cursor { .. }
            | Self::Survey { .. } => None,
        }
    }
}

/// How far a dump is: a place in the log. It stays good over restarts, and whatever happens to the
/// messages before and behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DumpCursor {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    /// Only copies with this version and newer ones: what was moved while a pass before this went
    /// on. Zero in the first pass.
    pub(crate) since: u64,
    /// Copies that were made since this pass began have this version at least. Zero before it begins.
    pub(crate) began: u64,
}

impl DumpCursor {
    /// Before everything.
    pub const START: Self = Self {
        segment: 0,
        offset: 0,
        since: 0,
        began: 0,
    };
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

/// A message of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedMessage {
    /// For whom.
    pub mailbox: Mailbox,
    /// Which box.
    pub namespace: Namespace,
    /// The message.
    pub message: StoredMessage,
}

/// What there is of a territory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SurveyCount {
    /// Mailboxes with messages.
    pub mailbox_count: u64,
    /// Their messages.
    pub message_count: u64,
    /// Bytes of their records.
    pub size: u64,
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
    /// Those that are there and could be read, in the order asked.
    Fetched(Vec<DumpedMessage>),
    /// These were there and are durably gone, sorted.
    Deleted(Vec<MessageHash>),
    /// These were there and are durably gone, sorted by namespace and hash.
    DeletedAll(Vec<(Namespace, MessageHash)>),
    /// What became of the expiries, durably.
    Expired {
        /// Those that moved, and to when, sorted.
        updated: Vec<(MessageHash, Timestamp)>,
        /// Those that are there and did not move, with their expiry, sorted.
        unchanged: Vec<(MessageHash, Timestamp)>,
    },
    /// The expiry of these moved, durably; sorted by namespace and hash.
    ExpiredAll(Vec<(Namespace, MessageHash)>),
    /// Those that are there, with their expiry, in the order asked.
    Expiries(Vec<(MessageHash, Timestamp)>),
    /// So many tokens were revoked or unrevoked by it, durably.
    Revoked {
        /// Tokens whose state it changed.
        count: usize,
    },
    /// The tokens that are revoked, the newest last.
    Revocations(Vec<SubaccountToken>),
    /// A part of a dump.
    Dumped {
        /// Of any mailbox of the territory. A message may come twice, if it was moved meanwhile.
        messages: Vec<DumpedMessage>,
        /// Where to go on; `None` when that was all.
        next: Option<DumpCursor>,
    },
    /// The cursor is kept, or forgotten.
    CursorKept,
    /// How far the dump is.
    Cursor(Option<DumpCursor>),
    /// A count for each territory.
    Surveyed(Vec<SurveyCount>),
    /// It did not happen; nothing was promised.
    Failed(StoreFault),
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreFault {
    /// The disk is full (ENOSPC).
    #[error("disk is full")]
    DiskFull,
    /// The disk failed (EIO).
    #[error("disk failed")]
    DiskFailed,
    /// The store holds as much as it may.
    #[error("message store is full")]
    StoreFull,
    /// The mailbox holds as much as it may; others may go on.
    #[error("mailbox is full")]
    MailboxFull,
    /// The payload is larger than a record carries
    /// ([`MESSAGE_SIZE_MAX`](cepa_wire::request::MESSAGE_SIZE_MAX)). The asker's fault.
    #[error("message is larger than 76800 bytes")]
    TooLarge,
    /// Too many commands are waiting.
    #[error("too many requests are waiting for the disk")]
    Busy,
}
