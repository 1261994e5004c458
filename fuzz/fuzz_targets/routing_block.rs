//! Arbitrary bytes as a routing block, and as a reply block.
#![no_main]

use cepa_wire::packet::{ReplyBlock, RoutingBlock};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(bytes) = input.first_chunk() {
        if let Ok(block) = RoutingBlock::parse(bytes) {
            assert_eq!(block.encode(), *bytes);
        }
    }
    if let Some(blocks) = ReplyBlock::parse_all(input) {
        let bytes: Vec<u8> = blocks.flat_map(|block| block.encode()).collect();
        assert_eq!(bytes, input);
    }
});
