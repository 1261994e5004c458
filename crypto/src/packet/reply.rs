//! Reply blocks: how a client is answered by whom it does not show itself to.
//!
//! The client makes the header of a path to itself. The replier puts one permutation over its answer and
//! sends it with that header; every relay on the way takes off a permutation that was never there, as it
//! does with every packet; the client, who made all keys, puts them back. So a relay can't tell a reply
//! from a request.

use cepa_wire::packet::geometry::{
    CONTENT_SIZE, HEADER_SIZE, PACKET_SIZE, PAYLOAD_KEY_SIZE, PAYLOAD_SIZE, ZERO_PREFIX_SIZE, split,
};
use cepa_wire::packet::{ClientId, Command, HeaderBytes, PacketBytes, ReplyBlock};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::build::{BuildError, BuiltPacket, PathHop, PayloadKeys, build_header, join, payload_of};
use super::hctr2;
use super::peel::{PayloadTampered, has_zero_prefix};

/// How a client finds the keys of an answer: the first 16 bytes of the packet that its guard hands it.
/// They are random, and the client knew them when it made the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub [u8; 16]);

impl ReplyId {
    /// The id of a packet that the guard handed on.
    pub fn of(packet: &PacketBytes) -> Self {
        Self(*split::<16, { PACKET_SIZE - 16 }, PACKET_SIZE>(packet).0)
    }

    fn of_header(header: &HeaderBytes) -> Self {
        Self(*split::<16, { HEADER_SIZE - 16 }, HEADER_SIZE>(header).0)
    }
}

/// What a client keeps of a reply block, to read the one answer. Zeroized when dropped; never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ReplyKeys {
    #[zeroize(skip)]
    id: ReplyId,
    payload_key: [u8; PAYLOAD_KEY_SIZE],
    hops: PayloadKeys,
}

/// Makes a reply block. The path begins at the relay that the replier sends to and ends at the client's
/// guard, which knows the client as `client`.
pub fn reply_block(
    path: &[PathHop],
    client: ClientId,
    random: &mut impl FnMut(&mut [u8]),
) -> Result<(ReplyBlock, ReplyKeys), BuildError> {
    let header = build_header(path, Command::Reply(client), random)?;
    let mut payload_key = [0; PAYLOAD_KEY_SIZE];
    random(&mut payload_key);
    let block = ReplyBlock {
        first: header.first,
        header: header.bytes,
        payload_key,
    };
    let keys = ReplyKeys {
        id: ReplyId::of_header(&header.left),
        payload_key,
        hops: header.keys,
    };
    Ok((block, keys))
}

/// Makes the packet that answers with `content`, filled up with zeros. A block is good for one: the replay
/// filter drops a second.
pub fn answer(block: &ReplyBlock, content: &[u8]) -> Result<BuiltPacket, BuildError> {
    let mut payload = payload_of(content)?;
    hctr2::encrypt(&block.payload_key, &mut payload);
    Ok(join(block.first, &block.header, &payload))
}

impl ReplyKeys {
    /// The id of the answer.
    pub const fn id(&self) -> ReplyId {
        self.id
    }

    /// Reads the packet that the guard handed on. The keys go: there is one answer.
    pub fn open(self, packet: &PacketBytes) -> Result<[u8; CONTENT_SIZE], PayloadTampered> {
        let (_, payload) = split::<HEADER_SIZE, PAYLOAD_SIZE, PACKET_SIZE>(packet);
        let mut payload = *payload;
        self.hops.apply(&mut payload);
        hctr2::decrypt(&self.payload_key, &mut payload);
        has_zero_prefix(&payload)?;
        Ok(*split::<ZERO_PREFIX_SIZE, CONTENT_SIZE, PAYLOAD_SIZE>(&payload).1)
    }
}
