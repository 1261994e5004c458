//! Arbitrary bytes as an onion's frame: what is accepted is written back the same.
#![no_main]

use cepa_wire::onion::{Frame, LayerAddress};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(frame) = Frame::parse(input) else { return };
    assert_eq!(frame.encode(), input);
    if let Ok(address) = LayerAddress::parse(frame.control) {
        assert_eq!(LayerAddress::parse(&address.encode()), Ok(address));
    }
});
