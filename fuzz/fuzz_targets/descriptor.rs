//! Arbitrary bytes as the descriptor of a node.
#![no_main]

use cepa_crypto::packet::verify_descriptor;
use cepa_wire::packet::descriptor::SignedDescriptor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(signed) = SignedDescriptor::parse(input) else {
        assert!(verify_descriptor(input).is_err());
        return;
    };
    assert_eq!(signed.encode(), input);
    if let Ok(descriptor) = verify_descriptor(input) {
        assert_eq!(descriptor, signed.descriptor);
    }
});
