//! Which rows of the database become messages.

use cepa_crypto::swarm_space::message_hash;
use cepa_storage::Command;
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use super::source::{MessageRow, Payload, Source};
use crate::failure::Failure;

/// A message that the log is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mailbox: Mailbox,
    pub(super) namespace: Namespace,
    pub(super) hash: MessageHash,
    pub(super) timestamp: Timestamp,
    pub(super) expiry: Timestamp,
    pub(super) data: Vec<u8>,
}

/// Why a row is not to become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// Its time is over.
    Expired,
    /// Its hash is not that of its payload: nobody could prove that it is what was sent.
    HashMismatch,
    /// Its payload is larger than any client may send.
    TooLarge,
    /// A later message of a public outbox took its place.
    Replaced,
    /// A column is missing or is none: no owner, a namespace that there is not.
    Unreadable,
}

/// How many rows were skipped, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skips {
    pub(super) expired: u64,
    pub(super) hash_mismatch: u64,
    pub(super) too_large: u64,
    pub(super) replaced: u64,
    pub(super) unreadable: u64,
}

impl Skips {
    pub(super) fn count(&mut self, skip: Skip) {
        let counter = match skip {
            Skip::Expired => &mut self.expired,
            Skip::HashMismatch => &mut self.hash_mismatch,
            Skip::TooLarge => &mut self.too_large,
            Skip::Replaced => &mut self.replaced,
            Skip::Unreadable => &mut self.unreadable,
        };
        *counter += 1;
    }

    pub(super) fn sum(&self) -> u64 {
        self.expired + self.hash_mismatch + self.too_large + self.replaced + self.unreadable
    }
}

/// What becomes of a row at a time.
pub(super) fn judge(
    source: &Source,
    row: MessageRow,
    now: Timestamp,
) -> Result<Result<Wanted, Skip>, Failure> {
    let id = row.id;
    let wanted = match judge_alone(row, now) {
        Ok(wanted) => wanted,
        Err(skip) => return Ok(Err(skip)),
    };
    if wanted.namespace.is_public_outbox() && source.has_later(id)? {
        return Ok(Err(Skip::Replaced));
    }
    Ok(Ok(wanted))
}

/// The same, without looking at other rows.
fn judge_alone(row: MessageRow, now: Timestamp) -> Result<Wanted, Skip> {
    let expiry = row.expiry.ok_or(Skip::Unreadable)?;
    // What is before 1970 is over as well.
    let expiry = Timestamp::from_millis(u64::try_from(expiry).unwrap_or(0));
    if expiry <= now {
        return Err(Skip::Expired);
    }
    let data = match row.data {
        Payload::Bytes(data) => data,
        Payload::TooLarge => return Err(Skip::TooLarge),
        Payload::None => return Err(Skip::Unreadable),
    };
    let namespace = row.namespace.and_then(|number| i16::try_from(number).ok());
    let timestamp = row.timestamp.and_then(|millis| u64::try_from(millis).ok());
    let mailbox = row.mailbox.ok_or(Skip::Unreadable)?;
    let namespace = Namespace(namespace.ok_or(Skip::Unreadable)?);
    let hash = message_hash(&mailbox, namespace, &data);
    if row.hash.ok_or(Skip::Unreadable)? != hash.to_text() {
        return Err(Skip::HashMismatch);
    }
    Ok(Wanted {
        mailbox,
        namespace,
        hash,
        timestamp: Timestamp::from_millis(timestamp.ok_or(Skip::Unreadable)?),
        expiry,
        data,
    })
}

impl Wanted {
    /// What keeps it.
    pub(super) fn into_store(self) -> Command {
        Command::Store {
            mailbox: self.mailbox,
            namespace: self.namespace,
            hash: self.hash,
            timestamp: self.timestamp,
            expiry: self.expiry,
            data: self.data.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1000);

    fn row() -> MessageRow {
        let mailbox = Mailbox {
            prefix: 5,
            key: [7; 32],
        };
        MessageRow {
            id: 1,
            mailbox: Some(mailbox),
            namespace: Some(5),
            hash: Some(message_hash(&mailbox, Namespace(5), b"x").to_text()),
            timestamp: Some(900),
            expiry: Some(1001),
            data: Payload::Bytes(b"x".to_vec()),
        }
    }

    #[test]
    fn a_good_row_is_a_message() {
        let wanted = judge_alone(row(), NOW).unwrap();
        assert_eq!(wanted.namespace, Namespace(5));
        assert_eq!(wanted.expiry, Timestamp::from_millis(1001));
        assert_eq!(wanted.hash.to_text(), row().hash.unwrap());
        assert_eq!(wanted.data, b"x");
    }

    #[test]
    fn a_bad_row_is_skipped_for_its_reason() {
        type Spoil = fn(&mut MessageRow);
        let table: [(Spoil, Skip); 13] = [
            (|row| row.expiry = Some(1000), Skip::Expired),
            (|row| row.expiry = Some(-1), Skip::Expired),
            (|row| row.expiry = None, Skip::Unreadable),
            (|row| row.data = Payload::TooLarge, Skip::TooLarge),
            (|row| row.data = Payload::None, Skip::Unreadable),
            (
                |row| row.data = Payload::Bytes(b"y".to_vec()),
                Skip::HashMismatch,
            ),
            (|row| row.namespace = Some(6), Skip::HashMismatch),
            (|row| row.namespace = Some(40_000), Skip::Unreadable),
            (|row| row.namespace = None, Skip::Unreadable),
            (|row| row.hash = Some("x".to_owned()), Skip::HashMismatch),
            (|row| row.hash = None, Skip::Unreadable),
            (|row| row.mailbox = None, Skip::Unreadable),
            (|row| row.timestamp = Some(-1), Skip::Unreadable),
        ];
        for (number, (spoil, expected)) in table.into_iter().enumerate() {
            let mut row = row();
            spoil(&mut row);
            assert_eq!(judge_alone(row, NOW), Err(expected), "{number}");
        }
    }
}
