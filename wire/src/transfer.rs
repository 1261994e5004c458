//! Mailboxes on their way to a new member: the blob of `sn.data`
//! (`../shared/protocol/session-node.md`, 5.6).
//!
//! The reference sends `[mailbox, hash, timestamp, expiry, data]` and so loses the namespace. A sixth
//! element is ignored by its receivers: we send the namespace there unless it is 0.

use bytes::Bytes;
use thiserror::Error;

use crate::bt::{BtError, List, Value, Writer};
use crate::{Mailbox, MessageHash, Namespace, Timestamp};

/// The format's version byte.
const VERSION: u8 = 1;

/// A message that is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Whose.
    pub mailbox: Mailbox,
    /// Which box; 0 also when the sender did not say.
    pub namespace: Namespace,
    /// Its identity.
    pub hash: MessageHash,
    /// When it was sent.
    pub timestamp: Timestamp,
    /// When to forget it.
    pub expiry: Timestamp,
    /// The payload.
    pub data: Bytes,
}

/// Why a blob is unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// Another version than 1, or nothing at all.
    #[error("unknown version of the transfer format")]
    Version,
    /// Not bt.
    #[error("not bt: {0}")]
    Bt(BtError),
    /// Not a list of messages; the position counts from 0.
    #[error("message {0} is malformed")]
    Message(usize),
}

/// Reads a blob. What it gives shares the blob's memory.
pub fn parse(blob: &Bytes) -> Result<Vec<Transferred>, TransferError> {
    let Some((&VERSION, list)) = blob.split_first() else {
        return Err(TransferError::Version);
    };
    let list = Value::parse(list).map_err(TransferError::Bt)?;
    let list = list.as_list().ok_or(TransferError::Message(0))?;
    list.iter()
        .enumerate()
        .map(|(index, message)| {
            let fields = message.as_list();
            fields
                .and_then(|fields| read_message(blob, fields))
                .ok_or(TransferError::Message(index))
        })
        .collect()
}

fn read_message(blob: &Bytes, fields: List<'_>) -> Option<Transferred> {
    let mut fields = fields.iter();
    let mailbox = Mailbox::from_slice(fields.next()?.as_bytes()?)?;
    let hash = MessageHash::from_text(fields.next()?.as_bytes()?)?;
    let timestamp = Timestamp::from_millis(fields.next()?.as_u64()?);
    let expiry = Timestamp::from_millis(fields.next()?.as_u64()?);
    let data = blob.slice_ref(fields.next()?.as_bytes()?);
    let namespace = match fields.next() {
        None => Namespace::INBOX,
        Some(number) => Namespace(
            number
                .as_i64()
                .and_then(|number| i16::try_from(number).ok())?,
        ),
    };
    Some(Transferred {
        mailbox,
        namespace,
        hash,
        timestamp,
        expiry,
        data,
    })
}

/// Writes a blob.
pub fn encode(messages: &[Transferred]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.list();
    for message in messages {
        writer.list();
        writer.bytes(&message.mailbox.to_bytes());
        writer.bytes(message.hash.to_text().as_bytes());
        writer.integer(message.timestamp.as_millis());
        writer.integer(message.expiry.as_millis());
        writer.bytes(&message.data);
        if message.namespace != Namespace::INBOX {
            writer.integer(message.namespace.0);
        }
        writer.end();
    }
    writer.end();
    let mut blob = vec![VERSION];
    blob.append(&mut writer.finish());
    blob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_travels_as_a_sixth_element() {
        let message = |namespace| Transferred {
            mailbox: Mailbox {
                prefix: 5,
                key: [1; 32],
            },
            namespace: Namespace(namespace),
            hash: MessageHash([2; 32]),
            timestamp: Timestamp::from_millis(3),
            expiry: Timestamp::from_millis(4),
            data: Bytes::from_static(b"data"),
        };
        let messages = vec![message(0), message(-10)];
        let blob = Bytes::from(encode(&messages));
        assert_eq!(parse(&blob), Ok(messages));
        assert!(blob.ends_with(b"4:datai-10eee"));
    }

    #[test]
    fn garbage_is_refused() {
        let refused = |blob: &'static [u8]| parse(&Bytes::from_static(blob)).unwrap_err();
        assert_eq!(refused(b""), TransferError::Version);
        assert_eq!(refused(b"\x02le"), TransferError::Version);
        assert_eq!(
            refused(b"\x01garbage"),
            TransferError::Bt(BtError::Unexpected)
        );
        assert_eq!(refused(b"\x01de"), TransferError::Message(0));
        assert_eq!(refused(b"\x01llee"), TransferError::Message(0));
        assert_eq!(parse(&Bytes::from_static(b"\x01le")), Ok(Vec::new()));
    }
}
