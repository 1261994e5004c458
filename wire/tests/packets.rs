//! Messages of several pieces survive whatever a network does to the pieces.

use core::time::Duration;

use cepa_wire::Timestamp;
use cepa_wire::packet::RoutingBlock;
use cepa_wire::packet::fragment::{Fragment, MessageId, MessageKind, fragments};
use cepa_wire::packet::reassembler::{Progress, Reassembler, ReassemblerLimits};
use proptest::prelude::*;

proptest! {
    #[test]
    fn messages_come_together_in_any_order(
        sizes in proptest::collection::vec(0_usize..6000, 1..6),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        pause_ms in 0_u64..1000,
    ) {
        let messages: Vec<Vec<u8>> = sizes
            .iter()
            .zip(1_u8..)
            .map(|(size, number)| (0..*size).map(|at| (at % 251).to_le_bytes()[0] ^ number).collect())
            .collect();
        let mut contents = Vec::new();
        for (bytes, number) in messages.iter().zip(0_u8..) {
            contents.extend(fragments(MessageId([number; 16]), MessageKind::Answer, bytes).unwrap());
        }
        // In any order with any of them twice or more, and then all of them: nothing may be lost.
        let chosen = order.iter().map(|index| *index.get(&contents));
        let sent: Vec<_> = chosen.chain(contents.iter().copied()).collect();
        let mut reassembler = Reassembler::new(ReassemblerLimits::TILE);
        let mut now = Timestamp::ZERO;
        let mut whole = vec![None; messages.len()];
        for content in &sent {
            let fragment = Fragment::parse(content).unwrap();
            let progress = reassembler.handle_fragment(now, &fragment);
            prop_assert!(!matches!(progress, Progress::Conflict));
            if let Progress::Complete(message) = progress {
                let place = &mut whole[usize::from(message.id.0[0])];
                prop_assert!(place.is_none(), "each is whole once");
                *place = Some(message.bytes);
            }
            now = now.saturating_add(Duration::from_millis(pause_ms % 300));
        }
        prop_assert_eq!(whole, messages.into_iter().map(Some).collect::<Vec<_>>());
        prop_assert_eq!((reassembler.message_count(), reassembler.fragment_count()), (0, 0));
    }

    #[test]
    fn a_routing_block_has_one_encoding(bytes in any::<[u8; 24]>(), command in 0_u8..5) {
        let mut bytes = bytes;
        bytes[0] = command;
        bytes[1..4].fill(0);
        bytes[6..8].fill(0);
        if let Ok(block) = RoutingBlock::parse(&bytes) {
            prop_assert_eq!(block.encode(), bytes);
        }
    }
}
