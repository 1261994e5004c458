//! Arbitrary bytes as a datagram of the packet lane.
#![no_main]

use cepa_wire::packet::link_frame::{FrameType, LinkHeader, SEALED_PACKET_SIZE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok((header, body)) = LinkHeader::parse(input) else { return };
    assert_eq!([&header.encode()[..], body].concat(), input);
    if header.frame_type == FrameType::Data {
        assert_eq!(body.len(), SEALED_PACKET_SIZE);
    }
});
