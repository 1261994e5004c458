//! The clear header of a link frame, which is one datagram.
//!
//! ```text
//! type 1 | reserved 3 | receiver index, little endian 4 | counter, little endian 8
//! ```
//!
//! The first reserved byte of a data frame is the suite of the packet within; the other two are zero. A
//! frame that is no data frame has its own length; all data frames are 1,232 bytes, and all keep-alives 32.

use thiserror::Error;

use super::SUITE;
use super::geometry::{
    DATAGRAM_SIZE, LINK_HEADER_SIZE, LINK_TAG_SIZE, PACKET_SIZE, split, split_mut,
};

/// A packet and its link tag: the sealed part of a data frame.
pub const SEALED_PACKET_SIZE: usize = PACKET_SIZE + LINK_TAG_SIZE;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// The first message of a handshake.
    HandshakeInit = 1,
    /// Its answer.
    HandshakeResponse = 2,
    /// What a responder under load answers before it computes.
    Cookie = 3,
    /// A packet.
    Data = 4,
    /// No packet: it shows that its sender has the keys.
    KeepAlive = 5,
}

/// The clear header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHeader {
    /// What the frame is.
    pub frame_type: FrameType,
    /// The receiver's number of the link; 0 before it has one.
    pub receiver_index: u32,
    /// The frame's number in the link, and its nonce; 0 in a handshake.
    pub counter: u64,
}

/// Why a datagram is no link frame. Anybody may have sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LinkFrameError {
    /// Shorter than a header, longer than a datagram, or not as long as its type is.
    #[error("frame has the wrong size")]
    Size,
    /// No such type.
    #[error("unknown type of frame")]
    Type,
    /// A reserved byte is not what this version writes.
    #[error("unknown suite")]
    Suite,
}

impl LinkHeader {
    /// Splits a datagram into its header and what follows. Only the header is read: what follows is
    /// authenticated by whoever has the link's keys, with [`Self::encode`] as associated data.
    pub fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), LinkFrameError> {
        let (header, body) = datagram
            .split_first_chunk::<LINK_HEADER_SIZE>()
            .ok_or(LinkFrameError::Size)?;
        let (begin, counter) = split::<8, 8, LINK_HEADER_SIZE>(header);
        let [frame_type, suite, reserved_0, reserved_1, i0, i1, i2, i3] = *begin;
        let (frame_type, suite_due) = match frame_type {
            1 => (FrameType::HandshakeInit, 0),
            2 => (FrameType::HandshakeResponse, 0),
            3 => (FrameType::Cookie, 0),
            4 => (FrameType::Data, SUITE),
            5 => (FrameType::KeepAlive, 0),
            _ => return Err(LinkFrameError::Type),
        };
        if suite != suite_due || reserved_0 != 0 || reserved_1 != 0 {
            return Err(LinkFrameError::Suite);
        }
        let size_is_good = match frame_type {
            FrameType::Data => datagram.len() == DATAGRAM_SIZE,
            FrameType::KeepAlive => datagram.len() == LINK_HEADER_SIZE + LINK_TAG_SIZE,
            _ => datagram.len() <= DATAGRAM_SIZE,
        };
        if !size_is_good {
            return Err(LinkFrameError::Size);
        }
        let header = Self {
            frame_type,
            receiver_index: u32::from_le_bytes([i0, i1, i2, i3]),
            counter: u64::from_le_bytes(*counter),
        };
        Ok((header, body))
    }

    /// Writes the header.
    pub fn encode(&self) -> [u8; LINK_HEADER_SIZE] {
        let suite = match self.frame_type {
            FrameType::Data => SUITE,
            _ => 0,
        };
        let [i0, i1, i2, i3] = self.receiver_index.to_le_bytes();
        let mut bytes = [0; LINK_HEADER_SIZE];
        let (begin, counter) = split_mut::<8, 8, LINK_HEADER_SIZE>(&mut bytes);
        *begin = [self.frame_type as u8, suite, 0, 0, i0, i1, i2, i3];
        *counter = self.counter.to_le_bytes();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(frame_type: FrameType, size: usize) -> Vec<u8> {
        let header = LinkHeader {
            frame_type,
            receiver_index: 0x0403_0201,
            counter: 0x0807_0605_0403_0201,
        };
        let mut bytes = header.encode().to_vec();
        bytes.resize(size, 9);
        assert_eq!(
            LinkHeader::parse(&bytes).map(|(parsed, _)| parsed),
            Ok(header)
        );
        bytes
    }

    #[test]
    fn headers_come_back() {
        let data = datagram(FrameType::Data, DATAGRAM_SIZE);
        assert_eq!(data[..16], [4, 1, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
        let (_, body) = LinkHeader::parse(&data).unwrap();
        assert_eq!(body.len(), SEALED_PACKET_SIZE);
        for frame_type in [
            FrameType::HandshakeInit,
            FrameType::HandshakeResponse,
            FrameType::Cookie,
        ] {
            datagram(frame_type, LINK_HEADER_SIZE);
            datagram(frame_type, DATAGRAM_SIZE);
        }
        datagram(FrameType::KeepAlive, 32);
    }

    #[test]
    fn other_datagrams_are_refused() {
        let data = datagram(FrameType::Data, DATAGRAM_SIZE);
        let with = |at: usize, byte: u8| {
            let mut bytes = data.clone();
            bytes[at] = byte;
            bytes
        };
        let long = [&with(0, 1)[..], &[0]].concat();
        let mut keep_alive = datagram(FrameType::KeepAlive, 32);
        keep_alive.push(0);
        let cases = [
            (Vec::new(), LinkFrameError::Size),
            (data[..15].to_vec(), LinkFrameError::Size),
            (data[..1231].to_vec(), LinkFrameError::Size),
            (with(0, 0), LinkFrameError::Type),
            (with(0, 6), LinkFrameError::Type),
            (keep_alive, LinkFrameError::Size),
            (with(0, 1), LinkFrameError::Suite),
            (with(1, 0), LinkFrameError::Suite),
            (with(2, 1), LinkFrameError::Suite),
            (with(3, 1), LinkFrameError::Suite),
            (long, LinkFrameError::Suite),
        ];
        for (bytes, error) in cases {
            assert_eq!(LinkHeader::parse(&bytes), Err(error));
        }
        let mut cookie = datagram(FrameType::Cookie, DATAGRAM_SIZE);
        cookie.push(0);
        assert_eq!(LinkHeader::parse(&cookie), Err(LinkFrameError::Size));
    }
}
