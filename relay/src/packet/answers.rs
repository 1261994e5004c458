//! The packets of an answer: its fragments through the reply blocks that the request brought.

use cepa_crypto::packet::{BuiltPacket, answer};
use cepa_wire::packet::fragment::{MessageId, MessageKind, fragments};
use cepa_wire::packet::request::{PacketAnswer, PacketRequest, block_uses};

/// The packets to send, each to its first relay: none when the request brought no reply block. They are made
/// as they are taken: one permutation each, no Diffie-Hellman. Whoever sends them paces them.
pub fn answer_packets<'a>(
    id: MessageId,
    request: &PacketRequest<'a>,
    answered: &PacketAnswer<'_>,
) -> impl Iterator<Item = BuiltPacket> + use<'a> {
    let blocks = request.blocks();
    // Within its blocks an answer is far below the largest message.
    let contents: Vec<_> = answered
        .encode_within(blocks.len())
        .and_then(|bytes| Some(fragments(id, MessageKind::Answer, &bytes).ok()?.collect()))
        .unwrap_or_default();
    let uses = block_uses(blocks.len(), contents.len());
    blocks
        .zip(uses)
        .filter_map(move |(block, fragment)| answer(&block, contents.get(fragment)?).ok())
}

#[cfg(test)]
mod tests {
    use cepa_wire::packet::request::AnswerEncoding;
    use cepa_wire::packet::{RelayId, ReplyBlock};

    use super::*;

    fn firsts(block_count: u8, size: usize) -> Vec<u8> {
        let blocks: Vec<_> = (0..block_count)
            .map(|number| ReplyBlock {
                first: RelayId([number; 16]),
                header: [number; 360],
                payload_key: [number; 32],
            })
            .collect();
        let message = PacketRequest::encode(&blocks, "info", b"").unwrap();
        let request = PacketRequest::parse(&message).unwrap();
        let answered = PacketAnswer::Body {
            status: 200,
            encoding: AnswerEncoding::Raw,
            body: &vec![7; size],
        };
        let packets = answer_packets(MessageId([1; 16]), &request, &answered);
        packets.map(|packet| packet.first.0[0]).collect()
    }

    #[test]
    fn every_block_goes_to_its_relay_once() {
        assert_eq!(firsts(0, 1), [0; 0]);
        assert_eq!(firsts(1, 5000), [0], "too few, and told so");
        assert_eq!(firsts(2, 1000), [0, 1]);
        assert_eq!(firsts(5, 1), [0, 1, 2], "three copies at most");
    }
}
