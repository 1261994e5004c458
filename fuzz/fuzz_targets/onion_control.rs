//! Arbitrary bytes as the control of a peeled layer.
#![no_main]

use cepa_wire::onion::Control;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(control) = Control::parse(input) {
        assert_eq!(Control::parse(&control.encode()), Ok(control));
    }
});
