//! What a client asks over the packet lane, and what it is answered: the bytes of a message of fragments.
//!
//! ```text
//! request: reply block count 1 | reply blocks 408 each | method length 1 | method | parameters
//! answer:  status 2 | encoding 1 | body                                    (little endian)
//! ```
//!
//! Method, parameters and authentication are those of OMQ's `storage.METHOD`: bt or JSON, and the answer in
//! the same ([`crate::request::ClientRequest::parse_params`]).
//!
//! **Blocks.** An answer of N bytes needs [`block_count`] of N reply blocks, a block a fragment. It has the
//! id of its request. Fragment *i* goes through block *i*; what blocks are left carry the fragments again
//! from the first, until each went [`COPY_COUNT_MAX`] times ([`block_uses`]): a client that expects loss, or
//! does not want its answer's size to be seen, gives more. When there are too few, nothing of the answer is
//! sent but [`PacketAnswer::TooFewBlocks`], by the first block; without any block there is no answer.
//!
//! **Twice.** A client sends fragments again under the same id with the same bytes: the node drops those
//! that it has, and of a finished message all of them, for as long as it remembers the id (60 s). So a
//! request is run once for each id, whatever is lost or doubled on the way. When no answer comes, the answer
//! may be what was lost, and its blocks are used up: the client asks with a new id, fresh blocks and fresh
//! paths. That runs the request again, which is harmless: stores, deletes and changes of expiry name what
//! they do by hash or by time, and do it once.

use core::str;

use thiserror::Error;

use super::ReplyBlock;
use super::geometry::{FRAGMENT_DATA_SIZE, MESSAGE_SIZE_MAX, REPLY_BLOCK_SIZE};
use crate::request::Encoding;

/// Reply blocks of a request: an answer of 160,000 bytes, which is one message of the largest size
/// (76,800 bytes) in base64 with half as much beside it. They take 82 KB of the request.
pub const REPLY_BLOCK_COUNT_MAX: usize = 200;
/// The longest answer that can be asked for.
pub const ANSWER_SIZE_MAX: usize = REPLY_BLOCK_COUNT_MAX * FRAGMENT_DATA_SIZE;
/// How often a fragment of an answer is sent when there are blocks enough: a node sends no more than that
/// for what it has to say once.
pub const COPY_COUNT_MAX: usize = 3;
/// The longest name of a method has 18 bytes.
const METHOD_SIZE_MAX: usize = 32;
/// Before the body of an answer.
const ANSWER_HEADER_SIZE: usize = 3;

const _: () = {
    assert!(REPLY_BLOCK_COUNT_MAX <= u8::MAX as usize);
    assert!(1 + REPLY_BLOCK_COUNT_MAX * REPLY_BLOCK_SIZE < MESSAGE_SIZE_MAX);
    assert!(ANSWER_SIZE_MAX <= MESSAGE_SIZE_MAX);
};

/// A request, checked but for its parameters.
#[derive(Clone, Copy)]
pub struct PacketRequest<'a> {
    /// Whole blocks.
    blocks: &'a [[u8; REPLY_BLOCK_SIZE]],
    method: &'a str,
    params: &'a [u8],
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketRequestError {
    /// It ends too early.
    #[error("request is cut")]
    Truncated,
    /// More than [`REPLY_BLOCK_COUNT_MAX`] blocks.
    #[error("too many reply blocks")]
    Blocks,
    /// The method's name is empty, too long, or not of lower-case letters and `_`.
    #[error("no name of a method")]
    Method,
}

/// What does not fit into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("request is larger than {MESSAGE_SIZE_MAX} bytes")]
pub struct PacketRequestTooLarge;

impl<'a> PacketRequest<'a> {
    /// Reads a request.
    pub fn parse(message: &'a [u8]) -> Result<Self, PacketRequestError> {
        let truncated = PacketRequestError::Truncated;
        let (count, rest) = message.split_first().ok_or(truncated)?;
        let count = usize::from(*count);
        if count > REPLY_BLOCK_COUNT_MAX {
            return Err(PacketRequestError::Blocks);
        }
        let split = rest.split_at_checked(count * REPLY_BLOCK_SIZE);
        let (blocks, rest) = split.ok_or(truncated)?;
        let (size, rest) = rest.split_first().ok_or(truncated)?;
        let split = rest.split_at_checked(usize::from(*size));
        let (method, params) = split.ok_or(truncated)?;
        let method = str::from_utf8(method).map_err(|_| PacketRequestError::Method)?;
        if !is_method_name(method) {
            return Err(PacketRequestError::Method);
        }
        let (blocks, _) = blocks.as_chunks();
        Ok(Self {
            blocks,
            method,
            params,
        })
    }

    /// The reply blocks, in the order in which they are used.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = ReplyBlock> + Clone + use<'a> {
        self.blocks.iter().map(ReplyBlock::parse)
    }

    /// The name of a method; whether there is one of that name is found by who runs it.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// Its parameters, in bt or JSON.
    pub const fn params(&self) -> &'a [u8] {
        self.params
    }

    /// Writes a request. At most [`REPLY_BLOCK_COUNT_MAX`] blocks, and a method's name: both are ours.
    pub fn encode(
        blocks: &[ReplyBlock],
        method: &str,
        params: &[u8],
    ) -> Result<Vec<u8>, PacketRequestTooLarge> {
        assert!(is_method_name(method), "a client names a method");
        assert!(blocks.len() <= REPLY_BLOCK_COUNT_MAX, "no more blocks");
        let size = Self::encoded_size(blocks.len(), method, params);
        if size > MESSAGE_SIZE_MAX {
            return Err(PacketRequestTooLarge);
        }
        let mut message = Vec::with_capacity(size);
        message.extend(u8::try_from(blocks.len()));
        for block in blocks {
            message.extend_from_slice(&block.encode());
        }
        message.extend(u8::try_from(method.len()));
        message.extend_from_slice(method.as_bytes());
        message.extend_from_slice(params);
        Ok(message)
    }

    /// The size of what [`Self::encode`] writes.
    pub const fn encoded_size(block_count: usize, method: &str, params: &[u8]) -> usize {
        2 + block_count * REPLY_BLOCK_SIZE + method.len() + params.len()
    }
}

fn is_method_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (1..=METHOD_SIZE_MAX).contains(&name.len()) && name.bytes().all(is_letter)
}

/// How many reply blocks an answer of so many bytes takes, its header counted.
pub fn block_count(answer_size: usize) -> usize {
    answer_size.div_ceil(FRAGMENT_DATA_SIZE).max(1)
}

/// Which fragment each block carries, in the order of the blocks: nothing when there are too few.
pub fn block_uses(block_count: usize, fragment_count: usize) -> impl Iterator<Item = usize> {
    let fits = fragment_count > 0 && fragment_count <= block_count;
    let count = if fits { block_count } else { 0 };
    let most = fragment_count.saturating_mul(COPY_COUNT_MAX);
    (0..count.min(most)).map(move |index| index % fragment_count)
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketAnswer<'a> {
    /// What `storage.METHOD` answers.
    Body {
        /// An HTTP status.
        status: u16,
        /// How the body is written.
        encoding: AnswerEncoding,
        /// The body.
        body: &'a [u8],
    },
    /// The request was run, and its answer needs more blocks than there were.
    TooFewBlocks {
        /// So many; at most what a `u16` holds.
        needed: u16,
    },
}

/// How the body of an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEncoding {
    /// Plain text, UTF-8.
    Text = 0,
    /// JSON.
    Json = 1,
    /// bt.
    Bt = 2,
    /// Bytes that are no document.
    Raw = 3,
}

/// Follows [`AnswerEncoding`].
const TOO_FEW_BLOCKS: u8 = 4;
/// The status beside it, for whoever looks at that alone (RFC 9110: content too large).
const TOO_FEW_BLOCKS_STATUS: u16 = 413;

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketAnswerError {
    /// It ends too early, or something stands behind its end.
    #[error("answer has the wrong size")]
    Size,
    /// The status is not of three digits.
    #[error("no status")]
    Status,
    /// No such encoding.
    #[error("unknown encoding")]
    Encoding,
}

impl From<Encoding> for AnswerEncoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self::Json,
            Encoding::Bt => Self::Bt,
        }
    }
}

impl<'a> PacketAnswer<'a> {
    /// Reads an answer.
    pub fn parse(message: &'a [u8]) -> Result<Self, PacketAnswerError> {
        let split = message.split_first_chunk::<ANSWER_HEADER_SIZE>();
        let (header, body) = split.ok_or(PacketAnswerError::Size)?;
        let [s0, s1, encoding] = *header;
        let status = u16::from_le_bytes([s0, s1]);
        if !(100..1000).contains(&status) {
            return Err(PacketAnswerError::Status);
        }
        let encoding = match encoding {
            0 => AnswerEncoding::Text,
            1 => AnswerEncoding::Json,
            2 => AnswerEncoding::Bt,
            3 => AnswerEncoding::Raw,
            TOO_FEW_BLOCKS if status == TOO_FEW_BLOCKS_STATUS => {
                let needed = body.try_into().map_err(|_| PacketAnswerError::Size)?;
                let needed = u16::from_le_bytes(needed);
                return Ok(Self::TooFewBlocks { needed });
            }
            _ => return Err(PacketAnswerError::Encoding),
        };
        Ok(Self::Body {
            status,
            encoding,
            body,
        })
    }

    /// Writes what [`Self::parse`] reads. The status has three digits.
    pub fn encode(&self) -> Vec<u8> {
        let needed_bytes;
        let (status, encoding, body) = match *self {
            Self::Body {
                status,
                encoding,
                body,
            } => (status, encoding as u8, body),
            Self::TooFewBlocks { needed } => {
                needed_bytes = needed.to_le_bytes();
                (
                    TOO_FEW_BLOCKS_STATUS,
                    TOO_FEW_BLOCKS,
                    needed_bytes.as_slice(),
                )
            }
        };
        let mut message = Vec::with_capacity(ANSWER_HEADER_SIZE + body.len());
        message.extend_from_slice(&status.to_le_bytes());
        message.push(encoding);
        message.extend_from_slice(body);
        message
    }

    /// What a node sends to a request with so many blocks: the answer, or that the blocks are too few. `None`
    /// when there are none. The fragments of it go through the blocks as [`block_uses`] says.
    pub fn encode_within(&self, blocks: usize) -> Option<Vec<u8>> {
        if blocks == 0 {
            return None;
        }
        let message = self.encode();
        let needed = block_count(message.len());
        if needed <= blocks {
            return Some(message);
        }
        let needed = u16::try_from(needed).unwrap_or(u16::MAX);
        Some(Self::TooFewBlocks { needed }.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::super::RelayId;
    use super::*;

    fn block(number: u8) -> ReplyBlock {
        ReplyBlock {
            first: RelayId([number; 16]),
            header: [number; 360],
            payload_key: [number; 32],
        }
    }

    #[test]
    fn requests_come_back() {
        for (count, method, params) in [
            (0, "info", &b""[..]),
            (1, "get_swarm", b"d6:pubkey1:xe"),
            (200, "revoked_subaccounts", &[7; 1000]),
        ] {
            let blocks: Vec<_> = (0..count).map(block).collect();
            let message = PacketRequest::encode(&blocks, method, params).unwrap();
            let size = PacketRequest::encoded_size(blocks.len(), method, params);
            assert_eq!(message.len(), size);
            let request = PacketRequest::parse(&message).unwrap();
            assert_eq!((request.method(), request.params()), (method, params));
            assert!(request.blocks().eq(blocks.iter().cloned()));
        }
        let large = vec![0; MESSAGE_SIZE_MAX];
        assert!(PacketRequest::encode(&[], "store", &large).is_err());
    }

    #[test]
    fn the_parts_are_where_they_should_be() {
        let message = PacketRequest::encode(&[block(9)], "store", b"{}").unwrap();
        assert_eq!((message[0], &message[1..409]), (1, &[9; 408][..]));
        assert_eq!(&message[409..], b"\x05store{}");
        let answer = PacketAnswer::Body {
            status: 421,
            encoding: AnswerEncoding::Bt,
            body: b"de",
        };
        assert_eq!(answer.encode(), [0xa5, 1, 2, b'd', b'e']);
        let few = PacketAnswer::TooFewBlocks { needed: 258 };
        assert_eq!(few.encode(), [0x9d, 1, 4, 2, 1]);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        use PacketRequestError::{Blocks, Method, Truncated};
        let good = PacketRequest::encode(&[block(9)], "store", b"").unwrap();
        for size in 0..good.len() {
            let cut = PacketRequest::parse(&good[..size]).err();
            assert_eq!(cut, Some(Truncated), "{size}");
        }
        let cases = [
            (&[201][..], Blocks),
            (b"\0\0", Method),
            (b"\0\x05Store", Method),
            (b"\0\x02\xff\xfe", Method),
            (b"\0\x21aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Method),
        ];
        for (message, error) in cases {
            assert_eq!(PacketRequest::parse(message).err(), Some(error));
        }
    }

    #[test]
    fn answers_come_back() {
        use PacketAnswerError::{Encoding, Size, Status};
        let body = |status, encoding, body| PacketAnswer::Body {
            status,
            encoding,
            body,
        };
        for answer in [
            body(200, AnswerEncoding::Text, b"".as_slice()),
            body(999, AnswerEncoding::Json, b"{}"),
            body(100, AnswerEncoding::Raw, &[0; 2000]),
            PacketAnswer::TooFewBlocks { needed: 131 },
        ] {
            assert_eq!(PacketAnswer::parse(&answer.encode()), Ok(answer));
        }
        let cases = [
            (&b""[..], Size),
            (&[200, 0], Size),
            (&[99, 0, 1], Status),
            (&[232, 3, 1], Status),
            (&[200, 0, 5], Encoding),
            (&[200, 0, 4, 1, 1], Encoding),
            (&[157, 1, 4, 1], Size),
            (&[157, 1, 4, 1, 1, 1], Size),
        ];
        for (message, error) in cases {
            assert_eq!(PacketAnswer::parse(message), Err(error));
        }
    }

    #[test]
    fn an_answer_is_sent_within_its_blocks() {
        let answer = PacketAnswer::Body {
            status: 200,
            encoding: AnswerEncoding::Raw,
            body: &[1; 798],
        };
        assert_eq!(answer.encode_within(0), None);
        let few = PacketAnswer::TooFewBlocks { needed: 2 }.encode();
        assert_eq!(answer.encode_within(1), Some(few));
        assert_eq!(answer.encode_within(2), Some(answer.encode()));
    }

    #[test]
    fn spare_blocks_carry_it_again() {
        let uses = |blocks, fragments| block_uses(blocks, fragments).collect::<Vec<_>>();
        assert_eq!(uses(0, 1), [0; 0]);
        assert_eq!(uses(1, 2), [0; 0]);
        assert_eq!(uses(2, 2), [0, 1]);
        assert_eq!(uses(5, 2), [0, 1, 0, 1, 0]);
        assert_eq!(uses(200, 2), [0, 1, 0, 1, 0, 1]);
        assert_eq!(uses(5, 0), [0; 0]);
        assert_eq!([0, 1, 800, 801].map(block_count), [1, 1, 1, 2]);
    }
}
