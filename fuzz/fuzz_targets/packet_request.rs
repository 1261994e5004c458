//! Arbitrary bytes as a request of the packet lane and as an answer: what is read is written again.
#![no_main]

use cepa_wire::packet::ReplyBlock;
use cepa_wire::packet::request::{PacketAnswer, PacketRequest, block_count, block_uses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(request) = PacketRequest::parse(input) {
        let blocks: Vec<ReplyBlock> = request.blocks().collect();
        let again = PacketRequest::encode(&blocks, request.method(), request.params());
        assert!(again.is_err() || again.is_ok_and(|again| again == input));
    }
    if let Ok(answer) = PacketAnswer::parse(input) {
        assert_eq!(answer.encode(), input);
        let blocks = usize::from(input[0]);
        if let Some(message) = answer.encode_within(blocks) {
            let needed = block_count(message.len());
            assert!(needed <= blocks);
            let uses: Vec<usize> = block_uses(blocks, needed).collect();
            assert!((0..needed).all(|fragment| uses.contains(&fragment)));
        }
    }
});
