//! Arbitrary bytes as the list of descriptors that a node gives to clients.
#![no_main]

use cepa_wire::packet::descriptor_list::{encode_list, parse_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(descriptors) = parse_list(input) {
        assert_eq!(parse_list(&encode_list(descriptors.iter().copied())), Some(descriptors));
    }
});
