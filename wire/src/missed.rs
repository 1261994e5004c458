//! What a member of the swarm did not get while it was away, as it is kept in a file until it is back.
//!
//! frame: `size 4 | crc 4 | entry`, little endian; the crc is CRC-32 of the entry, `size` that of the
//! entry. An entry begins with its kind: 1 is a message (33 bytes of mailbox, 32 of hash), 2 a request
//! (a byte with the size of the method's name, the name, bt parameters).

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

use crate::{Mailbox, MessageHash};

/// Largest entry. A request that is larger is not kept: its member gets everything anew.
pub const ENTRY_SIZE_MAX: usize = 256 << 10;

const HEAD_SIZE: usize = 8;
const KIND_MESSAGE: u8 = 1;
const KIND_REQUEST: u8 = 2;

/// Something that a member did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// A message, which is stored here.
    Message {
        /// Whose.
        mailbox: Mailbox,
        /// Which.
        hash: MessageHash,
    },
    /// A request that changes messages: `sn.storage_cc [method][params]`.
    Request {
        /// Method, of at most 255 bytes.
        method: Cow<'static, str>,
        /// bt parameters.
        params: Bytes,
    },
}

/// A frame is damaged: what stands behind it is lost too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the file of missed changes is damaged")]
pub struct Damaged;

/// An entry is larger than [`ENTRY_SIZE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a missed request is too large to be kept")]
pub struct TooLarge;

impl Missed {
    /// Appends a frame to `output`.
    pub fn encode(&self, output: &mut Vec<u8>) -> Result<(), TooLarge> {
        let mut entry = Vec::new();
        match self {
            Self::Message { mailbox, hash } => {
                entry.push(KIND_MESSAGE);
                entry.extend_from_slice(&mailbox.to_bytes());
                entry.extend_from_slice(&hash.0);
            }
            Self::Request { method, params } => {
                entry.push(KIND_REQUEST);
                entry.push(u8::try_from(method.len()).map_err(|_| TooLarge)?);
                entry.extend_from_slice(method.as_bytes());
                entry.extend_from_slice(params);
            }
        }
        let size = u32::try_from(entry.len())
            .ok()
            .filter(|_| entry.len() <= ENTRY_SIZE_MAX)
            .ok_or(TooLarge)?;
        output.extend_from_slice(&size.to_le_bytes());
        output.extend_from_slice(&crc32fast::hash(&entry).to_le_bytes());
        output.extend_from_slice(&entry);
        Ok(())
    }

    /// Reads the frame that `input` begins with, and tells its size; `None` when it is not all there.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, Damaged> {
        let Some((size, rest)) = input.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| Damaged)?;
        if size > ENTRY_SIZE_MAX {
            return Err(Damaged);
        }
        let Some((crc, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let Some(entry) = rest.get(..size) else {
            return Ok(None);
        };
        if crc32fast::hash(entry) != u32::from_le_bytes(*crc) {
            return Err(Damaged);
        }
        let missed = Self::parse_entry(entry).ok_or(Damaged)?;
        Ok(Some((missed, HEAD_SIZE + size)))
    }

    fn parse_entry(entry: &[u8]) -> Option<Self> {
        let (kind, rest) = entry.split_first()?;
        match *kind {
            KIND_MESSAGE => {
                let (mailbox, hash) = rest.split_at_checked(33)?;
                Some(Self::Message {
                    mailbox: Mailbox::from_slice(mailbox)?,
                    hash: MessageHash(hash.try_into().ok()?),
                })
            }
            KIND_REQUEST => {
                let (size, rest) = rest.split_first()?;
                let (method, params) = rest.split_at_checked(usize::from(*size))?;
                let method = core::str::from_utf8(method).ok()?.to_owned();
                Some(Self::Request {
                    method: Cow::Owned(method),
                    params: Bytes::copy_from_slice(params),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> [Missed; 3] {
        [
            Missed::Message {
                mailbox: Mailbox {
                    prefix: 5,
                    key: [1; 32],
                },
                hash: MessageHash([2; 32]),
            },
            Missed::Request {
                method: Cow::Borrowed("delete"),
                params: Bytes::from_static(b"de"),
            },
            Missed::Request {
                method: Cow::Borrowed(""),
                params: Bytes::new(),
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_end_is_no_damage() {
        let mut file = Vec::new();
        for entry in entries() {
            entry.encode(&mut file).unwrap();
        }
        let mut rest = file.as_slice();
        for entry in entries() {
            for cut in 0..8 {
                assert_eq!(Missed::parse(&rest[..cut]), Ok(None));
            }
            let (read, size) = Missed::parse(rest).unwrap().unwrap();
            assert_eq!(read, entry);
            rest = &rest[size..];
        }
        assert_eq!(Missed::parse(rest), Ok(None));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut file = Vec::new();
        entries()[0].encode(&mut file).unwrap();
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Missed::parse(&damaged);
            assert!(
                matches!(read, Err(Damaged) | Ok(None)),
                "bit {bit}: {read:?}"
            );
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let large = Missed::Request {
            method: Cow::Borrowed("delete"),
            params: vec![0; ENTRY_SIZE_MAX].into(),
        };
        assert_eq!(large.encode(&mut Vec::new()), Err(TooLarge));
    }
}
