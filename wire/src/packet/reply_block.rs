//! A reply block on the wire.
//!
//! ```text
//! first relay 16 | header 360 | payload key 32
//! ```

use super::RelayId;
use super::geometry::{
    HEADER_SIZE, PAYLOAD_KEY_SIZE, RELAY_ID_SIZE, REPLY_BLOCK_SIZE, split, split_mut,
};

/// A whole header.
pub type HeaderBytes = [u8; HEADER_SIZE];

/// What a client gives to whoever shall answer it: good for one packet. Whoever has the key reads the
/// answer, so it has no `Debug`; it travels inside of contents only.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyBlock {
    /// The relay that the packet goes to.
    pub first: RelayId,
    /// Its header, ready made.
    pub header: HeaderBytes,
    /// The key of the replier's permutation.
    pub payload_key: [u8; PAYLOAD_KEY_SIZE],
}

impl ReplyBlock {
    /// Its size.
    pub const SIZE: usize = REPLY_BLOCK_SIZE;

    /// Reads a block: any bytes are one.
    pub fn parse(bytes: &[u8; REPLY_BLOCK_SIZE]) -> Self {
        let (first, rest) =
            split::<RELAY_ID_SIZE, { HEADER_SIZE + PAYLOAD_KEY_SIZE }, REPLY_BLOCK_SIZE>(bytes);
        let (header, payload_key) = split(rest);
        Self {
            first: RelayId(*first),
            header: *header,
            payload_key: *payload_key,
        }
    }

    /// Reads the blocks that stand one behind the other; `None` when the last is cut.
    pub fn parse_all(bytes: &[u8]) -> Option<impl ExactSizeIterator<Item = Self>> {
        let (blocks, rest) = bytes.as_chunks();
        rest.is_empty().then(|| blocks.iter().map(Self::parse))
    }

    /// Writes what [`Self::parse`] reads.
    pub fn encode(&self) -> [u8; REPLY_BLOCK_SIZE] {
        let mut bytes = [0; REPLY_BLOCK_SIZE];
        let (first, rest) =
            split_mut::<RELAY_ID_SIZE, { HEADER_SIZE + PAYLOAD_KEY_SIZE }, REPLY_BLOCK_SIZE>(
                &mut bytes,
            );
        let (header, payload_key) = split_mut(rest);
        *first = self.first.0;
        *header = self.header;
        *payload_key = self.payload_key;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        let bytes: [u8; REPLY_BLOCK_SIZE] =
            core::array::from_fn(|index| (index % 253).to_le_bytes()[0]);
        let block = ReplyBlock::parse(&bytes);
        assert_eq!(block.first.0, bytes[..16]);
        assert_eq!(block.header, bytes[16..376]);
        assert_eq!(block.payload_key, bytes[376..]);
        assert_eq!(block.encode(), bytes);
        let two = [bytes, bytes].concat();
        assert!(
            ReplyBlock::parse_all(&two)
                .unwrap()
                .all(|other| other == block)
        );
        assert!(ReplyBlock::parse_all(&two[1..]).is_none());
    }
}
