//! Arbitrary bytes as a packet, as they are and with a tag that fits: what is refused is left as it came,
//! and many are as one by one.
#![no_main]

use cepa_crypto::X25519SecretKey;
use cepa_crypto::packet::{HopKey, PeelError, open, parts, peel, peel_many};
use cepa_wire::packet::epoch::Epoch;
use cepa_wire::packet::geometry::DELAY_MAX;
use cepa_wire::packet::{PacketBytes, RelayId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The seeds are built for this key.
    let hop = HopKey::new(X25519SecretKey::from_bytes([7; 32]), RelayId([7; 16]), Epoch(0));
    let mut packet: PacketBytes = [0; 1200];
    packet.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
    let mut tagged = packet;
    parts::write_tag(&hop, &mut tagged);

    let mut many = [packet, tagged];
    let mut peeled = [const { Err(PeelError::BadTag) }; 2];
    peel_many(&hop, &mut many, &mut peeled);
    for ((packet, after), peeled) in [packet, tagged].iter().zip(&many).zip(peeled) {
        let mut singly = *packet;
        assert!(peel(&hop, &mut singly) == peeled);
        assert!(singly == *after);
        match peeled {
            Ok(block) => assert!(block.delay() <= DELAY_MAX),
            Err(_) => assert!(after == packet),
        }
    }
    // A tag is found, or the key was weak.
    assert!(matches!(open(&hop, &tagged), Ok(_) | Err(PeelError::WeakKey)));
});
