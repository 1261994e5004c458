//! The packet lane, version 1: packets of one size, each an onion of up to five layers with a fresh
//! X25519 key a hop (Sphinx of Danezis and Goldberg, 2009, with a KEM in the place of the blinded
//! element, as Outfox of Rial and Piotrowska, 2024). The construction is ours and unaudited.
//!
//! ```text
//! datagram 1,232: link header 16 | packet 1,200 | link tag 16
//! packet 1,200:   header 360 | payload 840
//! header 360:     ephemeral key 32 | tag 16 | sealed 312 (routing block 24 | the next hop's header 288..)
//! payload 840:    zero prefix 16 | content 824, under one permutation a hop
//! content 824:    fragment header 24 | data 800
//! ```
//!
//! A relay opens the sealed part with 72 zero bytes after it, so that what comes out is a routing block
//! and again a header of 360 bytes: the size never tells where on the path a packet is.

pub mod descriptor;
pub mod descriptor_list;
pub mod epoch;
pub mod fragment;
pub mod geometry;
pub mod link_frame;
pub mod reassembler;
mod reply_block;
pub mod request;
mod routing_block;

use core::fmt;

use geometry::{
    CONTENT_SIZE, EPHEMERAL_KEY_SIZE, HEADER_SIZE, HOP_HEADER_SIZE, HOP_TAG_SIZE, PACKET_SIZE,
    PAYLOAD_SIZE, RELAY_ID_SIZE, SEALED_SIZE, ZERO_PREFIX_SIZE, split,
};

pub use fragment::ContentBytes;
pub use reply_block::{HeaderBytes, ReplyBlock};
pub use routing_block::{Command, RoutingBlock, RoutingBlockError};

use crate::X25519PublicKey;

/// A whole packet. Every content is one: what it means is found by peeling it.
pub type PacketBytes = [u8; PACKET_SIZE];

/// The version and the set of primitives that this module speaks. It stands in the link frame and is
/// bound into the keys of every layer.
pub const SUITE: u8 = 1;

/// Names a relay in a routing block: the first 16 bytes of BLAKE3 of its Ed25519 key, worked out by
/// `cepa-crypto` (`packet::relay_id`). Whoever wants two relays of one id must find a collision of 128
/// bits, and the view refuses a second relay of the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(pub [u8; RELAY_ID_SIZE]);

impl fmt::Debug for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayId({})", hex::encode(self.0))
    }
}

/// Names a client at its guard in the last routing block of a reply: 16 random bytes that the two agreed
/// on with their link. It says where a client is, so it has no `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; RELAY_ID_SIZE]);

/// A packet as its parts. Every 1,200 bytes are a packet, so nothing here fails.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    ephemeral: &'a [u8; EPHEMERAL_KEY_SIZE],
    tag: &'a [u8; HOP_TAG_SIZE],
    sealed: &'a [u8; SEALED_SIZE],
    payload: &'a [u8; PAYLOAD_SIZE],
}

impl<'a> Packet<'a> {
    /// Views a packet.
    pub fn new(bytes: &'a PacketBytes) -> Self {
        let (header, payload) = split::<HEADER_SIZE, PAYLOAD_SIZE, PACKET_SIZE>(bytes);
        let (ephemeral, rest) =
            split::<EPHEMERAL_KEY_SIZE, { HEADER_SIZE - EPHEMERAL_KEY_SIZE }, HEADER_SIZE>(header);
        let (tag, sealed) =
            split::<HOP_TAG_SIZE, SEALED_SIZE, { HEADER_SIZE - EPHEMERAL_KEY_SIZE }>(rest);
        Self {
            ephemeral,
            tag,
            sealed,
            payload,
        }
    }

    /// Views a packet, or `None` when there are not exactly 1,200 bytes.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }

    /// The client's key for this hop.
    pub const fn ephemeral_key(&self) -> X25519PublicKey {
        X25519PublicKey(*self.ephemeral)
    }

    /// The tag over [`Self::sealed`].
    pub const fn tag(&self) -> &'a [u8; HOP_TAG_SIZE] {
        self.tag
    }

    /// The encrypted part of the header.
    pub const fn sealed(&self) -> &'a [u8; SEALED_SIZE] {
        self.sealed
    }

    /// The payload.
    pub const fn payload(&self) -> &'a [u8; PAYLOAD_SIZE] {
        self.payload
    }

    /// The payload without the zero prefix: the content, once the last layer is off.
    pub fn content(&self) -> &'a ContentBytes {
        split::<ZERO_PREFIX_SIZE, CONTENT_SIZE, PAYLOAD_SIZE>(self.payload).1
    }
}

const _: () = assert!(HOP_HEADER_SIZE == EPHEMERAL_KEY_SIZE + HOP_TAG_SIZE + 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_packet() {
        let bytes: PacketBytes = core::array::from_fn(|index| (index % 251).to_le_bytes()[0]);
        let packet = Packet::parse(&bytes).unwrap();
        let parts = [
            &packet.ephemeral_key().0[..],
            packet.tag(),
            packet.sealed(),
            packet.payload(),
        ];
        assert_eq!(parts.concat(), bytes);
        assert!(Packet::parse(&bytes[1..]).is_none());
    }
}
