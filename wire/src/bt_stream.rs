//! Requests and replies on one QUIC stream, as oxen-libquic's `BTRequestStream` frames them
//! (`session-node.md`, 5.5): `<size>:<bt list>`, again and again, in both directions.
//!
//! A command is `l1:C i<id>e <endpoint> <body>e` (without the spaces), a reply `l1:R i<id>e <body>e`,
//! an error `l1:E i<id>e <body>e`. Each side counts its own commands, and may leave one unanswered:
//! whether a command wants a reply does not stand on the wire.

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

use crate::bt::{BtError, Value};

/// Largest frame, without its size: the body limit of every transport, 10 MiB. oxen-libquic itself
/// neither sends nor takes more than 10,000,000 bytes.
pub const FRAME_SIZE_MAX: usize = 10 << 20;

/// Digits of [`FRAME_SIZE_MAX`].
const DIGIT_COUNT_MAX: usize = 8;

/// Values of a command, its list included: the most that a frame holds.
const VALUE_COUNT_MAX: usize = 5;

const _: () = assert!(FRAME_SIZE_MAX < 10_usize.pow(8) && FRAME_SIZE_MAX >= 10_usize.pow(7));

/// What a peer did wrong. The stream is of no use afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BtStreamError {
    /// The size before a frame is no plain decimal number above zero.
    #[error("frame size is malformed")]
    Size,
    /// The frame is larger than [`FRAME_SIZE_MAX`].
    #[error("frame is too large")]
    TooLarge,
    /// The frame is not bt, or holds more than a message does.
    #[error("frame is no bt: {0}")]
    Bt(#[from] BtError),
    /// The frame is bt, but neither command nor reply nor error.
    #[error("frame is no command, reply or error")]
    Message,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Something is asked or told.
    Command {
        /// What the reply will name; counted by the sender.
        id: i64,
        /// What is asked for.
        endpoint: Bytes,
        /// With what.
        body: Bytes,
    },
    /// A command succeeded.
    Reply {
        /// The command's.
        id: i64,
        /// What came of it.
        body: Bytes,
    },
    /// A command failed.
    Error {
        /// The command's.
        id: i64,
        /// Why.
        body: Bytes,
    },
}

impl Message {
    /// The frame, its size before it.
    ///
    /// What is larger than [`FRAME_SIZE_MAX`] is written all the same: [`Self::fits`] tells before.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, id, endpoint, body) = match self {
            Self::Command { id, endpoint, body } => (b'C', id, Some(endpoint), body),
            Self::Reply { id, body } => (b'R', id, None, body),
            Self::Error { id, body } => (b'E', id, None, body),
        };
        let mut head = [b"l1:", &[kind][..], b"i"].concat();
        head.extend_from_slice(id.to_string().as_bytes());
        head.push(b'e');
        if let Some(endpoint) = endpoint {
            head.extend_from_slice(endpoint.len().to_string().as_bytes());
            head.push(b':');
            head.extend_from_slice(endpoint);
        }
        head.extend_from_slice(body.len().to_string().as_bytes());
        head.push(b':');
        let size = head.len() + body.len() + 1;
        let mut frame = Vec::with_capacity(size + DIGIT_COUNT_MAX + 1);
        frame.extend_from_slice(size.to_string().as_bytes());
        frame.push(b':');
        frame.extend_from_slice(&head);
        frame.extend_from_slice(body);
        frame.push(b'e');
        frame
    }

    /// Whether a peer takes it: it is not above [`FRAME_SIZE_MAX`], whatever its id.
    pub fn fits(&self) -> bool {
        // "l1:C", "i", the longest id, "e", two sizes with their colons, "e".
        const AROUND: usize = 4 + 1 + 20 + 1 + 2 * (DIGIT_COUNT_MAX + 1) + 1;
        let (endpoint, body) = match self {
            Self::Command { endpoint, body, .. } => (endpoint.len(), body.len()),
            Self::Reply { body, .. } | Self::Error { body, .. } => (0, body.len()),
        };
        endpoint.saturating_add(body) <= FRAME_SIZE_MAX - AROUND
    }

    fn parse(frame: &Bytes) -> Result<Self, BtStreamError> {
        let value = Value::parse_bounded(frame, VALUE_COUNT_MAX)?;
        let list = value.as_list().ok_or(BtStreamError::Message)?;
        let mut values = list.iter();
        let mut next = || values.next();
        let kind = next().and_then(|value| value.as_bytes());
        let id = next().and_then(|value| value.as_i64());
        let id = id.ok_or(BtStreamError::Message)?;
        let mut next_bytes = || {
            let bytes = next().and_then(|value| value.as_bytes());
            bytes
                .map(|bytes| frame.slice_ref(bytes))
                .ok_or(BtStreamError::Message)
        };
        let message = match kind {
            Some(b"C") => Self::Command {
                id,
                endpoint: next_bytes()?,
                body: next_bytes()?,
            },
            Some(b"R") => Self::Reply {
                id,
                body: next_bytes()?,
            },
            Some(b"E") => Self::Error {
                id,
                body: next_bytes()?,
            },
            _ => return Err(BtStreamError::Message),
        };
        match values.next() {
            None => Ok(message),
            Some(_) => Err(BtStreamError::Message),
        }
    }
}

/// Takes a stream however it is cut and gives its messages. It makes no room for what has not arrived:
/// a size alone costs nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// The size of the frame that stands first in the buffer, once it was read.
    size: Option<usize>,
}

impl Decoder {
    /// At a stream's begin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived. Poll all messages before the next: what is not polled is held.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held: those of a message that has not arrived whole, once all others were polled.
    pub fn held_size(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a message has begun to arrive.
    pub fn is_within_message(&self) -> bool {
        self.size.is_some() || !self.buffer.is_empty()
    }

    /// The next message that has arrived whole.
    pub fn poll_message(&mut self) -> Result<Option<Message>, BtStreamError> {
        let size = match self.size {
            Some(size) => size,
            None => match self.read_size()? {
                Some(size) => *self.size.insert(size),
                None => return Ok(None),
            },
        };
        if self.buffer.len() < size {
            return Ok(None);
        }
        self.size = None;
        Message::parse(&self.buffer.split_to(size).freeze()).map(Some)
    }

    /// Takes the size off the buffer, if its colon is there.
    fn read_size(&mut self) -> Result<Option<usize>, BtStreamError> {
        let head = self.buffer.iter().take(DIGIT_COUNT_MAX + 1);
        let mut size = 0_usize;
        for (index, byte) in head.enumerate() {
            size = match byte {
                b'0'..=b'9' if index < DIGIT_COUNT_MAX && (index, *byte) != (0, b'0') => {
                    size * 10 + usize::from(byte - b'0')
                }
                b':' if index > 0 && size <= FRAME_SIZE_MAX => {
                    self.buffer.advance(index + 1);
                    return Ok(Some(size));
                }
                b':' | b'0'..=b'9' if index > 0 => return Err(BtStreamError::TooLarge),
                _ => return Err(BtStreamError::Size),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> (Vec<Message>, Result<(), BtStreamError>) {
        let mut decoder = Decoder::new();
        decoder.handle_bytes(input);
        let mut messages = Vec::new();
        loop {
            match decoder.poll_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, Ok(())),
                Err(error) => return (messages, Err(error)),
            }
        }
    }

    /// As oxen-libquic writes them.
    #[test]
    fn each_kind_stands_on_the_wire_as_the_reference_has_it() {
        let messages = [
            (
                Message::Command {
                    id: 0,
                    endpoint: "snode_ping".into(),
                    body: Bytes::new(),
                },
                &b"23:l1:Ci0e10:snode_ping0:e"[..],
            ),
            (
                Message::Reply {
                    id: 12,
                    body: "pong".into(),
                },
                b"15:l1:Ri12e4:ponge",
            ),
            (
                Message::Error {
                    id: -3,
                    body: "404".into(),
                },
                b"14:l1:Ei-3e3:404e",
            ),
        ];
        for (message, written) in messages {
            assert_eq!(message.encode(), written);
            assert_eq!(read(written), (vec![message.clone()], Ok(())));
            let twice = [written, written].concat();
            assert_eq!(read(&twice), (vec![message.clone(), message], Ok(())));
        }
    }

    #[test]
    fn what_is_malformed_ends_the_stream() {
        let cases = [
            (&b"0:"[..], BtStreamError::Size),
            (b"01:x", BtStreamError::Size),
            (b":", BtStreamError::Size),
            (b"-1:", BtStreamError::Size),
            (b"1x:", BtStreamError::Size),
            (b"10485761:", BtStreamError::TooLarge),
            (b"99999999:", BtStreamError::TooLarge),
            (b"100000000", BtStreamError::TooLarge),
            (b"4:4:ab", BtStreamError::Bt(BtError::Truncated)),
            (b"2:de", BtStreamError::Message),
            (b"2:le", BtStreamError::Message),
            (b"11:l1:Xi0e0:0:", BtStreamError::Bt(BtError::Count)),
            (b"12:l1:Xi0e0:0:e", BtStreamError::Message),
            (b"10:l1:Ci0e0:e", BtStreamError::Message),
            (b"12:l1:Ri0e0:0:e", BtStreamError::Message),
            (b"10:l1:R1:00:e", BtStreamError::Message),
            (b"14:l1:Ci0e0:0:0:e", BtStreamError::Bt(BtError::Count)),
            (b"28:l1:Ri9223372036854775808e0:e", BtStreamError::Message),
        ];
        for (input, error) in cases {
            let shown = String::from_utf8_lossy(input);
            assert_eq!(read(input), (Vec::new(), Err(error)), "{shown}");
        }
    }

    #[test]
    fn a_size_alone_makes_no_room() {
        let mut decoder = Decoder::new();
        assert!(!decoder.is_within_message());
        decoder.handle_bytes(b"10485760:l1:C");
        assert_eq!(decoder.poll_message(), Ok(None));
        assert_eq!(decoder.held_size(), 4);
        assert!(decoder.is_within_message());
        assert!(decoder.buffer.capacity() < 1024);
    }

    #[test]
    fn what_fits_is_taken_whatever_its_id() {
        let body = Bytes::from(vec![b'x'; FRAME_SIZE_MAX - 45]);
        let message = Message::Reply { id: i64::MIN, body };
        assert!(message.fits());
        assert_eq!(read(&message.encode()), (vec![message], Ok(())));
        let body = Bytes::from(vec![b'x'; FRAME_SIZE_MAX - 10]);
        assert!(!Message::Reply { id: 0, body }.fits());
    }
}
